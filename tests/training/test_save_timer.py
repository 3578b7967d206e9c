import time

import pytest

from dml.training.save_timer import SaveTimer


@pytest.mark.parametrize(("every", "minutes"), [("10 min", 10), ("0.5min", 0.5), ("1 minute", 1)])
def test_minutes_count_from_the_last_checkpoint(
    every: str, minutes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    timer = SaveTimer(every)
    now[0] += 60 * minutes - 1
    assert not timer.due(5)
    now[0] += 1
    assert timer.due(5)
    timer.saved(5)
    assert not timer.due(6)


@pytest.mark.parametrize("every", ["3 steps", "3steps"])
def test_steps_count_from_the_last_checkpoint(every: str) -> None:
    timer = SaveTimer(every)
    timer.saved(4)
    assert [step for step in range(4, 9) if timer.due(step)] == [7, 8]


def test_without_a_step_since_then_or_without_a_form_nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = SaveTimer("1 min"), SaveTimer(None)
    monkeypatch.setattr(time, "monotonic", lambda: 1e12)
    assert [timer.due(0) for timer in timers] == [False, False]
    assert [timer.due(1) for timer in timers] == [True, False]


@pytest.mark.parametrize("every", ["10", "0 min", "1.5 steps", "-1 min", "often", "1 h"])
def test_another_form_is_refused(every: str) -> None:
    with pytest.raises(ValueError, match=r"trainer.save_every=.*as in trainer.save_every='10 min'"):
        SaveTimer(every)
