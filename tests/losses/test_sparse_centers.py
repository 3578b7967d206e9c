import pytest
import torch
from pytorch_metric_learning.regularizers import SparseCentersRegularizer as EveryCentreWithEveryOther

from dml.losses import SparseCentersRegularizer


def test_it_equals_the_one_that_compares_every_centre_with_every_other() -> None:
    centres = torch.randn(4 * 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = EveryCentreWithEveryOther(4, 3)(centres)
    torch.testing.assert_close(SparseCentersRegularizer(centers_per_class=3)(centres), expected)


def test_the_gradient_is_exact() -> None:
    centres = torch.randn(2 * 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(SparseCentersRegularizer(centers_per_class=3), centres.requires_grad_())


def test_centres_that_have_become_one_have_a_finite_gradient() -> None:
    centres = torch.eye(4)[[0, 0, 1]].requires_grad_()
    SparseCentersRegularizer(centers_per_class=3)(centres).backward()
    assert centres.grad.isfinite().all() and centres.grad.any()


def test_eleven_thousand_classes_need_little_memory() -> None:
    centres = torch.ones(11_318 * 10, 4)
    assert SparseCentersRegularizer(centers_per_class=10)(centres).item() == pytest.approx(0.5e-3)


def test_a_single_centre_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"centers_per_class=1: .*weight_regularizer=null"):
        SparseCentersRegularizer(centers_per_class=1)
