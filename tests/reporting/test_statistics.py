import math

import numpy as np
import pytest

from dml.reporting import estimate, paired_difference


def test_the_interval_is_that_of_student() -> None:
    values = [0.61, 0.64, 0.59, 0.66, 0.62]
    expected = 2.776445 * np.std(values, ddof=1) / np.sqrt(5)
    assert estimate(values).half_width == pytest.approx(expected, rel=1e-5)


def test_a_single_value_has_no_interval() -> None:
    single = estimate([0.5])
    assert (single.mean, single.count) == (0.5, 1) and math.isnan(single.half_width)


def test_the_paired_difference_uses_the_common_seeds() -> None:
    difference = paired_difference({1: 0.5, 2: 0.6, 3: 0.9}, {0: 0.5, 1: 0.4, 2: 0.3})
    assert difference is not None and difference.count == 2
    assert difference.mean == pytest.approx(0.2)
    assert difference.half_width == pytest.approx(12.706 * np.std([0.1, 0.3], ddof=1) / np.sqrt(2), rel=1e-3)


def test_without_a_common_seed_there_is_no_difference() -> None:
    assert paired_difference({1: 0.5}, {2: 0.5}) is None
