import pytest
import torch

from dml.functional.clustering import k_means


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_points_that_are_not_finite_are_refused(value: float) -> None:
    points = torch.ones(5, 3)
    points[2, 1] = value
    with pytest.raises(ValueError, match=r"not finite; .*Check the input normalisation"):
        k_means(points, 2, iterations=1, generator=torch.Generator())
