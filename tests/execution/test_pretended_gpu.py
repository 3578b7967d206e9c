"""What runs on a GPU, on a pretended one: every part, whole runs, and the search, with the figures of the CPU."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch._subclasses import FakeTensorMode

from dml.assembly import build_model, build_objective
from dml.config import TrainConfig, settle
from dml.retrieval import exact_search
from dml.runs import load_metrics, load_model
from dml.train import train
from dml.training import Trainer
from tests.noise import Recorder, noise, noise_splits
from tests.pretend_device import pretend_gpus

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]
CONFIGS = Path(__file__).parents[2] / "configs"
POOLINGS, LOSSES = (sorted(p.stem for p in (CONFIGS / group).glob("*.yaml")) for group in ("pooling", "loss"))
SMALL = ("debug=smoke", "num_workers=0", "transform.size=16", "embedding_dim=16")
EVERYTHING = (
    "memory.batches=2",
    "memory.start_step=1",
    "trainer.micro_batch=16",
    "trainer.ema=0.9",
    "backbone._target_=tests.noise.TinyWithDropout",
)


def one_step(cfg: TrainConfig, device: str) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of a batch of noise, and what the memory takes in."""
    data = noise(6, 3)
    cfg = settle(cfg, num_classes=6)
    model, objective = build_model(cfg).to(device).train(), build_objective(cfg, data).to(device).train()
    pixels = np.stack([image.transpose(2, 0, 1)[:, :16, :16] for image in map(data.image, range(18))])
    labels = torch.from_numpy(data.labels).to(device)
    torch.manual_seed(0)
    pooled = model(torch.from_numpy(pixels.copy()).to(device))
    loss = objective(pooled, labels).total
    loss.backward()
    objective.remember(pooled, labels)
    parts = (*model.parameters(), *objective.parameters())
    return loss.item(), [p.grad.cpu() for p in parts if p.grad is not None]


def assert_the_gpu_computes_what_the_cpu_does(cfg: TrainConfig, *, deterministic: bool = True) -> None:
    expected, gradients = one_step(cfg.copy(), "cpu")
    with pretend_gpus():
        torch.use_deterministic_algorithms(deterministic)
        found, on_gpu = one_step(cfg.copy(), "cuda:0")
    assert found == pytest.approx(expected, rel=1e-5)
    for one, other in zip(on_gpu, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def plain(compose_config: Compose) -> TrainConfig:
    return compose_config(*SMALL, "pooling=gap", "memory.batches=0")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_keeps_to_its_device(pooling: str, compose_config: Compose) -> None:
    assert_the_gpu_computes_what_the_cpu_does(compose_config(*SMALL, f"pooling={pooling}"))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_keeps_to_its_device(loss: str, plain: TrainConfig) -> None:
    cfg = plain.copy()
    cfg.loss = OmegaConf.load(CONFIGS / "loss" / f"{loss}.yaml")
    assert_the_gpu_computes_what_the_cpu_does(cfg, deterministic=loss != "fast_ap")


def test_where_determinism_is_asked_for_a_loss_that_adds_up_in_any_order_ends_the_run(
    plain: TrainConfig,
) -> None:
    cfg = plain.copy()
    cfg.loss = OmegaConf.load(CONFIGS / "loss" / "fast_ap.yaml")
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        assert_the_gpu_computes_what_the_cpu_does(cfg)


@pytest.fixture
def fit(
    compose_config: Compose, assemble: Assemble, tmp_path: Path
) -> Callable[..., tuple[Recorder, Trainer]]:
    def run(device: str, *overrides: str) -> tuple[Recorder, Trainer]:
        words = (*SMALL, "pooling.num_prototypes=4", f"trainer.device={device}", *overrides)
        trainer, recorder = assemble(compose_config(*words), tmp_path / device), Recorder()
        trainer.resume()
        trainer.fit([recorder])
        return recorder, trainer

    return run


@pytest.mark.parametrize(
    "overrides",
    [
        EVERYTHING,
        ("trainer.precision=bf16",),
        ("trainer.precision=fp16",),
        ("evaluator.backend=torch", "loss=proxy_anchor"),
    ],
    ids=["everything", "bf16", "fp16", "proxies"],
)
def test_a_trainer_gives_the_figures_of_the_cpu(
    overrides: tuple[str, ...], fit: Callable[..., tuple[Recorder, Trainer]]
) -> None:
    expected, _ = fit("cpu", "trainer.max_steps=3", *overrides)
    with pretend_gpus():
        found, trainer = fit("cuda", "trainer.max_steps=3", *overrides)
        assert {p.device for p in trainer.model.parameters()} == {torch.device("cuda:0")}
    np.testing.assert_allclose(found.steps, expected.steps, rtol=2e-4)
    np.testing.assert_allclose(found.figures, expected.figures, atol=0.02)  # of 24 queries


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    compose_config: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    cfg = compose_config(
        *SMALL, "pooling.num_prototypes=4", "trainer.max_steps=3", "trainer.device=cuda", *EVERYTHING
    )
    with pretend_gpus():
        whole, first, second = (assemble(cfg, tmp_path / name) for name in ("whole", "cut", "cut"))
        whole.fit([])
        first.fit([], until=2)
        first._save_last([])
        second.resume()
        assert second.step == 2
        second.fit([])
        for one, other in zip(whole.optimizer.state.values(), second.optimizer.state.values(), strict=True):
            assert all(torch.equal(one[name].cpu(), other[name].cpu()) for name in one)
        assert all(
            torch.equal(a, b)
            for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True)
        )


def test_a_whole_run_has_the_figures_of_the_cpu_and_says_where_it_ran(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dml.train.build_data", lambda cfg: noise_splits())
    cfg, folder = compose_config(*SMALL, "num_workers=auto", "pooling.num_prototypes=4"), tmp_path / "run"
    train(cfg.copy(), tmp_path / "cpu")
    with pretend_gpus():
        train(cfg.copy(), folder)
        assert load_model(folder, device="cuda:0").embed([]).shape == (0, 16)
    expected, found = load_metrics(tmp_path / "cpu"), load_metrics(folder)
    for split, figures in found.items():
        assert figures == pytest.approx(expected[split], abs=0.02)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["device"] == "Pretended GPU" and environment["device_index"] == 0
    assert environment["num_workers"] >= 1 and environment["float32"] == "float32"
    saved = OmegaConf.load(folder / "config.yaml")
    assert saved.trainer.device == saved.num_workers == "auto"


@pytest.mark.parametrize("backend", ["faiss", "torch"])
def test_the_search_finds_the_same_and_leaves_it_on_the_gpu(backend: str) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(50, 8), dim=1)
    expected = exact_search(vectors, vectors, 5, backend=backend)
    with pretend_gpus():
        found = exact_search(vectors.to("cuda:0"), vectors.to("cuda:0"), 5, backend=backend)
        assert found.indices.device.type == "cuda" and torch.equal(found.indices.cpu(), expected.indices)


@pytest.mark.parametrize("pooling", ["gsp", "transformer"])
def test_the_forward_pass_holds_by_the_rules_of_torchs_own_fake_device_too(
    pooling: str, compose_config: Compose
) -> None:
    model = build_model(compose_config(*SMALL, f"pooling={pooling}"))
    with FakeTensorMode(), torch.no_grad():
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({name: t if t is None else fake_like(t) for name, t in tensors.items()})
        images = torch.empty(2, 3, 16, 16, dtype=torch.uint8, device="cuda:0")
        assert model(images).vectors.device == torch.device("cuda:0")
        with pytest.raises(RuntimeError, match="device"):
            model(images.cpu())


def fake_like(tensor: torch.Tensor) -> torch.Tensor:
    fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda:0")
    return torch.nn.Parameter(fake) if isinstance(tensor, torch.nn.Parameter) else fake
