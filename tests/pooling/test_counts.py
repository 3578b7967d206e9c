from typing import Any

import pytest

from dml.pooling.counts import check_counts


def test_whole_numbers_from_one_on_are_accepted() -> None:
    check_counts(num_slots=1, iterations=1000)


@pytest.mark.parametrize("value", [0, -3, 2.5, 2.0, "8", None])
def test_anything_else_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(ValueError, match=f"pooling.num_slots={value}: give a whole number of 1 or more"):
        check_counts(iterations=3, num_slots=value)
