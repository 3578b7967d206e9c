import pytest
import torch

from dml.functional.clustering import greedy_k_center, k_means


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_points_that_are_not_finite_are_refused(value: float) -> None:
    points = torch.ones(5, 3)
    points[2, 1] = value
    with pytest.raises(ValueError, match=r"not finite; .*Check the input normalisation"):
        k_means(points, 2, iterations=1, generator=torch.Generator())


def test_the_farthest_from_all_before_come_one_after_the_other() -> None:
    line = torch.tensor([[0.0], [1.0], [2.0], [9.0], [5.0], [4.0]])
    assert greedy_k_center(line, 2).flatten().tolist() == [9.0, 5.0]  # 8 from 1; then 4 from both 1 and 9


def test_points_that_repeat_those_before_are_not_chosen() -> None:
    points = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    assert greedy_k_center(points.repeat(3, 1), 64).shape == (0, 128)
