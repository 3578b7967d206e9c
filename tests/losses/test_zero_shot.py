import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dml.losses import ZeroShotLoss, split_by_class


def slow_zero_shot(
    z: torch.Tensor, labels: torch.Tensor, codes: torch.Tensor, ridge: float, scale: float
) -> torch.Tensor:
    """The formula, image by image."""
    order = sorted(set(labels.tolist()))
    half = [order.index(label) % 2 for label in labels.tolist()]
    terms = []
    for i, label in enumerate(labels.tolist()):
        others = [j for j in range(len(labels)) if half[j] != half[i]]
        gram = z[others] @ z[others].T + ridge * torch.eye(len(others), dtype=z.dtype)
        predicted = z[i] @ z[others].T @ torch.linalg.inv(gram) @ codes[labels[others]]
        logits = torch.stack([scale * codes[c] @ predicted for c in range(len(codes))])
        terms.append(-(logits[label] - logits.logsumexp(0)))
    return torch.stack(terms).mean()


def example() -> tuple[ZeroShotLoss, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    loss = ZeroShotLoss(6, 4, ridge=0.05, scale=9.5).double()
    attributes = torch.rand(8, 5, dtype=torch.float64).softmax(dim=1)
    return loss, attributes, torch.tensor([5, 5, 0, 0, 3, 3, 1, 1])


def test_it_equals_the_formula_image_by_image() -> None:
    loss, attributes, labels = example()
    expected = slow_zero_shot(attributes, labels, loss.class_codes, 0.05, 9.5)
    torch.testing.assert_close(loss(attributes, labels), expected)


def test_gradients_of_attributes_and_class_codes_are_exact() -> None:
    loss, attributes, labels = example()

    def function(attributes: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(loss, {"class_codes": codes}, (attributes, labels))

    inputs = (attributes.requires_grad_(), loss.class_codes.detach().requires_grad_())
    assert torch.autograd.gradcheck(function, inputs)


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


def test_class_codes_start_with_the_published_spread() -> None:
    codes = ZeroShotLoss(200, 512, ridge=0.05, scale=9.5).class_codes
    assert codes.std().item() == pytest.approx(math.sqrt(2 / 200), rel=0.02)


def test_it_runs_in_float32_inside_autocast() -> None:
    loss = ZeroShotLoss(6, 4, ridge=0.05, scale=9.5)
    attributes, labels = torch.rand(8, 5).softmax(dim=1), torch.tensor([5, 5, 0, 0, 3, 3, 1, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(attributes, labels)
    torch.testing.assert_close(inside, loss(attributes, labels), rtol=0, atol=0)
