"""Pooling, search, metrics and float32 on a GPU, against the CPU."""

import pytest
import torch
import torch.nn.functional as F

from dml.functional.transport import transport_pool
from dml.retrieval import exact_search, ranking, retrieval_metrics
from tests.gpu.conftest import REAL
from tests.retrieval.embeddings import hard_sets, search_by_small_blocks

GPU = "cuda:0"


@pytest.mark.parametrize("sharpness", [0.5, 5.0, 100.0])
def test_generalized_sum_pooling_and_its_gradient_are_those_of_the_cpu(sharpness: float) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 32, 49, generator=generator), torch.randn(16, 32, generator=generator) / 6
    results = []
    for device in ("cpu", GPU):
        features, prototypes = (x.detach().to(device).requires_grad_() for x in inputs)
        vectors, attributes, weights = transport_pool(features, prototypes, ratio=0.3, sharpness=sharpness)
        (vectors.square().sum() + attributes.square().sum() + weights.square().sum()).backward()
        results.append(
            [x.detach().cpu() for x in (vectors, attributes, weights, features.grad, prototypes.grad)]
        )
    for on_cpu, on_gpu in zip(*results, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-4 * float(on_cpu.abs().max()))


@pytest.mark.parametrize("tf32", [False, True])
def test_search_and_metrics_are_those_of_the_cpu_whatever_the_run_has_set(tf32: bool) -> None:
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    vectors = F.normalize(torch.randn(2000, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    vectors[500:520] = vectors[0]  # equals, which no order may favour
    labels = torch.arange(2000) % 50
    expected = retrieval_metrics(vectors, labels, recall_at=[1, 2, 4, 8], backend="faiss")
    found = retrieval_metrics(vectors.to(GPU), labels.to(GPU), recall_at=[1, 2, 4, 8], backend="torch")
    assert dict(found) == dict(expected)
    exact = vectors.double() @ vectors.double().T
    near = exact_search(vectors.to(GPU), vectors.to(GPU), 8, backend="torch")
    torch.testing.assert_close(near.similarities.cpu().double(), exact.topk(8).values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("by_blocks", [False, True])
@pytest.mark.parametrize("case", hard_sets())
def test_hard_sets_have_the_figures_of_the_cpu_whatever_training_has_chosen(
    case: str, by_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = hard_sets()[case]
    there, expected = tuple(part.to(GPU) for part in sets), dict(retrieval_metrics(*sets))
    if by_blocks:
        search_by_small_blocks(monkeypatch)
        monkeypatch.setattr(ranking, "DEEP", 1)
    torch.set_float32_matmul_precision("high")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        for backend in ("auto", "torch", "faiss"):
            assert dict(retrieval_metrics(*there, backend=backend)) == expected


@REAL
@pytest.mark.parametrize(("tf32", "exact"), [("false", True), ("true", False)])
def test_float32_has_its_digits_unless_tf32_is_asked_for(tf32: str, exact: bool, fit) -> None:  # type: ignore[no-untyped-def]
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    fit(f"trainer.tf32={tf32}", "trainer.max_steps=0")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(256, 256, generator=generator), torch.randn(256, 256, generator=generator)
    product = (a.to(GPU) @ b.to(GPU)).cpu().double()
    images, kernel = a.view(1, 64, 32, 32), b.reshape(-1)[: 64 * 64 * 9].view(64, 64, 3, 3)
    convolved = F.conv2d(images.to(GPU), kernel.to(GPU)).cpu().double()
    errors = [
        float((product - a.double() @ b.double()).abs().max()),
        float((convolved - F.conv2d(images.double(), kernel.double())).abs().max()),
    ]
    assert (max(errors) < 1e-3) == exact
