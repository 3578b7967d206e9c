"""Full precision inside autocast."""

import pytest
import torch
from torch import Tensor, nn

from dml.losses import Objective
from dml.modes import at_least_float32, full_precision
from dml.types import Pooled


def test_inside_autocast_a_block_computes_in_full_precision_and_autocast_goes_on_after_it() -> None:
    matrix = torch.eye(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_precision(matrix):
            assert (matrix @ matrix).dtype == torch.float32
        assert (matrix @ matrix).dtype == torch.bfloat16


def test_shapes_without_numbers_pass_through_every_part_that_switches_autocast_off() -> None:
    shape = torch.ones(4, 2, device="meta")
    with torch.autocast("cpu", dtype=torch.bfloat16), full_precision(shape):
        assert (shape @ shape.T).dtype == torch.float32
    objective = Objective(ContrastiveLikeness(), None, zero_shot_weight=0)
    losses = objective(Pooled(shape, None, None), torch.zeros(4, dtype=torch.int64, device="meta"))
    assert losses.total.is_meta


class ContrastiveLikeness(nn.Module):
    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        return (vectors @ vectors.T * (labels[:, None] == labels)).mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coarse_types_become_float32(dtype: torch.dtype) -> None:
    assert at_least_float32(torch.ones(2, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fine_types_stay_without_a_copy(dtype: torch.dtype) -> None:
    tensor = torch.ones(2, dtype=dtype)
    assert at_least_float32(tensor) is tensor
