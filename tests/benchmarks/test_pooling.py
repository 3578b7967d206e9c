"""An accelerator starts few kernels for generalized sum pooling, and the count sees what it should see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def pooling() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import pooling

        yield pooling


@pytest.mark.parametrize("sharpness", [5.0, 100.0, 1e4])
def test_pooling_on_an_accelerator_starts_about_a_hundred_kernels_at_any_sharpness(
    pooling: Any, sharpness: float
) -> None:
    forward, backward = pooling.count_kernels(sharpness)
    assert 50 < forward.total() <= 100 and 30 < backward.total() <= 60
    assert "_local_scalar_dense" not in forward | backward  # nothing is read back


def test_operators_count_once_and_views_do_not(pooling: Any) -> None:
    a = torch.rand(3, 3)
    counted = pooling.kernels_of(lambda: ((a @ a.T).unsqueeze(0) * 2 + a).mean())
    assert counted == {"mm": 1, "mul": 1, "add": 1, "mean": 1}
