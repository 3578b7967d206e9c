"""Slow steps among quick ones, by a clock of the test."""

import warnings
from collections.abc import Iterable

import pytest

from dml.training import SlowStepLogger


def take(durations: Iterable[float], *, validate_at: int | None = None) -> list[str]:
    """Steps of these durations; gives the warnings."""
    now = [0.0]
    logger = SlowStepLogger(threads=2, clock=lambda: now[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step, duration in enumerate(durations, start=1):
            now[0] += duration
            logger.step(step, 1.0, 1.0)
            if step == validate_at:
                now[0] += 1000
                logger.validation(step, {}, None)  # type: ignore[arg-type]
    return [str(warning.message) for warning in caught]


def test_slow_steps_among_quick_ones_are_said_once_with_what_to_do() -> None:
    (said,) = take([0.1] * 30 + [2.0, 0.1, 0.1] * 20)
    assert "took 2 s, where the quick ones take 0.1 s" in said and "OMP_NUM_THREADS=1" in said


@pytest.mark.parametrize(
    "durations",
    [
        [0.1] * 60,
        [9.0, 9.0, 9.0] + [0.1] * 60,
        [0.1] * 30 + [2.0] * 4 + [0.1] * 60,
        [0.1, 0.4] * 40,
        [5.0] * 60,
    ],
)
def test_steps_that_are_even_and_a_few_slow_ones_are_left_alone(durations: list[float]) -> None:
    assert not take(durations)


def test_a_validation_is_no_part_of_a_step() -> None:
    for step in (10, 40):
        assert not take([0.1] * 60, validate_at=step)
