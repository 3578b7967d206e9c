import pytest
import torch
from pytorch_metric_learning.losses import TupletMarginLoss

from dml.losses import BoundedCosine


def test_it_is_the_cosine_within_the_bound_and_has_no_gradient_beyond() -> None:
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8]], requires_grad=True)
    cosine = BoundedCosine(bound=0.999999)(x)
    torch.testing.assert_close(cosine, torch.tensor([[0.999999, 0.6], [0.6, 0.999999]]), rtol=0, atol=1e-7)
    cosine[0, 0].backward()
    assert not x.grad.any()


def test_two_equal_images_leave_the_angle_finite() -> None:
    x = torch.nn.functional.normalize(torch.rand(4, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    x, labels = x[[0, 0, 1, 2]].requires_grad_(), torch.tensor([0, 0, 1, 1])
    loss = TupletMarginLoss(distance=BoundedCosine(bound=0.999999))(x, labels)
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all() and x.grad.any()


@pytest.mark.parametrize("bound", [0.0, 1.0, float("nan")])
def test_a_bound_out_of_range_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match=r"bound=.*must lie in \(0, 1\)"):
        BoundedCosine(bound=bound)
