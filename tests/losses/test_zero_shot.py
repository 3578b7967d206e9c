import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dml.losses import ZeroShotLoss, split_by_class

OPTIONS = [
    {},
    {"centred": True},
    {"centred": True, "start": "scaled", "cosine": True},
    {"cosine": True, "learnable_scale": True},
]


def slow_zero_shot(
    z: torch.Tensor,
    labels: torch.Tensor,
    codes: torch.Tensor,
    ridge: float,
    scale: float,
    *,
    centred: bool = False,
    cosine: bool = False,
    **other: object,
) -> torch.Tensor:
    """The formula, image by image."""
    if centred:
        z = torch.stack([row - sum(z) / len(z) for row in z])
        ridge = ridge * sum(float(row @ row) for row in z) / len(z)
    order = sorted(set(labels.tolist()))
    half = [order.index(label) % 2 for label in labels.tolist()]
    terms = []
    for i, label in enumerate(labels.tolist()):
        others = [j for j in range(len(labels)) if half[j] != half[i]]
        gram = z[others] @ z[others].T + ridge * torch.eye(len(others), dtype=z.dtype)
        predicted = z[i] @ z[others].T @ torch.linalg.inv(gram) @ codes[labels[others]]
        lengths = [predicted.norm() * code.norm() if cosine else 1.0 for code in codes]
        logits = torch.stack(
            [scale * code @ predicted / length for code, length in zip(codes, lengths, strict=True)]
        )
        terms.append(-(logits[label] - logits.logsumexp(0)))
    return torch.stack(terms).mean()


def example(**options: Any) -> tuple[ZeroShotLoss, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    loss = ZeroShotLoss(6, 4, ridge=0.05, scale=9.5, **options).double()
    attributes = torch.rand(8, 5, dtype=torch.float64).softmax(dim=1)
    return loss, attributes, torch.tensor([5, 5, 0, 0, 3, 3, 1, 1])


@pytest.mark.parametrize("options", OPTIONS)
def test_it_equals_the_formula_image_by_image(options: dict[str, Any]) -> None:
    loss, attributes, labels = example(**options)
    expected = slow_zero_shot(
        attributes,
        labels,
        loss.class_codes,
        0.05,
        float(loss.scale.detach() if options.get("learnable_scale") else loss.scale),
        **options,
    )
    torch.testing.assert_close(loss(attributes, labels), expected)


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_of_attributes_and_parameters_are_exact(options: dict[str, Any]) -> None:
    loss, attributes, labels = example(**options)
    names, values = zip(*loss.named_parameters(), strict=True)

    def function(attributes: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(loss, parameters, (attributes, labels))

    inputs = (attributes.requires_grad_(), *(value.detach().requires_grad_() for value in values))
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("classes", [8, 33, 100, 1000])
@pytest.mark.parametrize("dim", [16, 128, 512])
def test_with_a_scaled_start_it_begins_where_a_guess_is(classes: int, dim: int) -> None:
    torch.manual_seed(classes + dim)
    loss = ZeroShotLoss(classes, dim, ridge=0.1, scale=9.5, centred=True, start="scaled")
    labels = torch.arange(8).repeat_interleave(4)
    of_class = torch.randn(8, 64).repeat_interleave(4, dim=0)  # most of the variance lies between classes
    attributes = (0.3 * of_class + 0.1 * torch.randn(32, 64)).softmax(1)
    assert loss(attributes, labels).item() == pytest.approx(math.log(classes), abs=0.15)


def test_centred_it_does_not_feel_what_all_attributes_have_in_common_nor_their_unit() -> None:
    loss, attributes, labels = example(centred=True)
    torch.testing.assert_close(loss(3 * attributes + 0.7, labels), loss(attributes, labels))


def test_centred_attributes_that_are_all_equal_predict_nothing_and_have_finite_gradients() -> None:
    loss, _, labels = example(centred=True)
    attributes = torch.full((8, 5), 0.2, dtype=torch.float64, requires_grad=True)
    value = loss(attributes, labels)
    value.backward()
    assert value.item() == pytest.approx(math.log(6)) and attributes.grad.isfinite().all()


def test_where_codes_are_linear_in_the_attributes_it_can_be_learned_and_as_published_it_hardly_can() -> None:
    """Classes that differ in few attributes, so that those of one half say what those of the other mean."""
    torch.manual_seed(0)
    basis = torch.randn(3, 64)

    def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        classes = torch.randperm(20, generator=generator)[:8].repeat_interleave(4)
        where = torch.stack([classes.cos() * (classes + 1) / 10, classes.sin(), (2 * classes).cos()], 1)
        noise = torch.randn(32, 64, generator=generator)
        return (0.1 * where @ basis + 0.01 * noise).softmax(1), classes  # nearly 1 / 64, as of a run

    falls = {}
    for name, options in (("published", {"ridge": 0.05}), ("centred", {"ridge": 0.1, "centred": True})):
        loss = ZeroShotLoss(20, 32, scale=9.5, start="scaled", **options)
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
        for step in range(150):
            optimizer.zero_grad()
            loss(*batch(step)).backward()
            optimizer.step()
        with torch.no_grad():
            unseen = torch.stack([loss(*batch(seed)) for seed in range(1000, 1010)]).mean().item()
        falls[name] = math.log(20) - unseen
    assert falls["centred"] > 0.5 and falls["centred"] > 3 * falls["published"]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40).filter(lambda labels: len(set(labels)) > 1))
def test_the_halves_never_share_a_class_and_both_have_one(labels: list[int]) -> None:
    half = split_by_class(torch.tensor(labels))
    classes = [
        {label for label, a in zip(labels, half.tolist(), strict=True) if a is side} for side in (True, False)
    ]
    assert not classes[0] & classes[1] and all(classes)


def test_the_order_of_the_batch_does_not_matter() -> None:
    loss, attributes, labels = example()
    order = torch.randperm(len(labels))
    torch.testing.assert_close(loss(attributes[order], labels[order]), loss(attributes, labels))


def test_a_batch_of_one_class_is_refused_with_what_to_do() -> None:
    loss, attributes, _ = example()
    with pytest.raises(ValueError, match=r"at least two classes.*has 1.*classes_per_batch"):
        loss(attributes, torch.full((8,), 2))


@pytest.mark.parametrize("options", [{"ridge": 0.0, "scale": 9.5}, {"ridge": 0.05, "scale": -1.0}])
def test_parameters_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        ZeroShotLoss(4, 2, **options)


def test_another_start_is_refused() -> None:
    with pytest.raises(ValueError, match=r"zero_shot\.start='unit'; accepted: published, scaled"):
        ZeroShotLoss(4, 2, ridge=0.05, scale=9.5, start="unit")


def test_class_codes_start_with_the_published_spread() -> None:
    codes = ZeroShotLoss(200, 512, ridge=0.05, scale=9.5).class_codes
    assert codes.std().item() == pytest.approx(math.sqrt(2 / 200), rel=0.02)


def test_it_runs_in_float32_inside_autocast() -> None:
    loss = ZeroShotLoss(6, 4, ridge=0.05, scale=9.5)
    attributes, labels = torch.rand(8, 5).softmax(dim=1), torch.tensor([5, 5, 0, 0, 3, 3, 1, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(attributes, labels)
    torch.testing.assert_close(inside, loss(attributes, labels), rtol=0, atol=0)
