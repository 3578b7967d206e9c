import pickle
import signal
import threading
from collections.abc import Iterator

import pytest

from dml.signals import STOP_SIGNALS, Interrupted
from dml.training import interruption
from dml.training.interruption import StopRequest


def send(number: int) -> None:
    signal.raise_signal(number)


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Signals that reach who listened before."""
    found: list[int] = []
    numbers = (*STOP_SIGNALS, signal.SIGCONT)
    before = {n: signal.signal(n, lambda number, frame: found.append(number)) for n in numbers}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_is_a_request(number: int, heard: list[int]) -> None:
    with StopRequest() as stop:
        assert not stop.number
        send(number)
        assert stop.number == number and not heard


def test_a_repeated_sigterm_and_a_ctrl_c_that_arrives_twice_are_one_request(heard: list[int]) -> None:
    with StopRequest() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            send(number)
    assert stop.number == signal.SIGTERM


def test_a_second_ctrl_c_some_time_after_the_first_stops_at_once(
    monkeypatch: pytest.MonkeyPatch, heard: list[int]
) -> None:
    monkeypatch.setattr(interruption, "ONE_REQUEST", 0.0)
    with pytest.raises(KeyboardInterrupt) as stopped, StopRequest():
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert not isinstance(stopped.value, Interrupted)


def test_a_request_that_nobody_obeyed_goes_to_whoever_listened_before(heard: list[int]) -> None:
    with StopRequest():
        send(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    with pytest.raises(KeyboardInterrupt), StopRequest():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with StopRequest():
            send(signal.SIGINT)


def test_who_waits_for_a_signal_to_queue_the_job_again_hears_it_after_the_run_was_saved(
    heard: list[int],
) -> None:
    with pytest.raises(Interrupted), StopRequest() as stop:
        send(signal.SIGUSR2)
        assert not heard
        raise Interrupted(number=stop.number)
    assert heard == [signal.SIGUSR2]


def test_submitit_does_so_and_its_deafness_to_sigterm_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, heard: list[int]
) -> None:
    local = pytest.importorskip("submitit.local.local")
    handler = pytest.importorskip("submitit.core.job_environment").SignalHandler
    monkeypatch.setattr(
        handler, "checkpoint_and_try_requeue", lambda self, number, frame: heard.append(number)
    )
    local.LocalJobEnvironment()._handle_signals(None, None)
    for number in (signal.SIGUSR2, signal.SIGTERM):
        with pytest.raises(Interrupted), StopRequest() as stop:
            send(number)
            raise Interrupted(number=stop.number)
    assert heard == [signal.SIGUSR2]


def test_what_was_ignored_stays_so_as_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as stop:
        send(signal.SIGHUP)
    assert not stop.number and signal.signal(signal.SIGHUP, before) is signal.SIG_IGN


def test_the_handlers_from_before_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr(signal, "getsignal", lambda number: None)  # one that C has set
    with StopRequest():
        pass
    monkeypatch.undo()
    assert signal.signal(signal.SIGINT, before) is signal.SIG_DFL


def test_work_that_can_be_done_again_is_left_where_it_stands(heard: list[int]) -> None:
    with pytest.raises(Interrupted) as left, StopRequest() as stop, stop.at_once():
        send(signal.SIGTERM)
        raise AssertionError("not left")
    assert left.value.number == signal.SIGTERM and left.value.exit_status == 143
    with pytest.raises(Interrupted), StopRequest() as stop:
        send(signal.SIGINT)
        with stop.at_once():
            raise AssertionError("not left")


def test_several_processes_do_not_leave_each_other_in_the_middle(
    monkeypatch: pytest.MonkeyPatch, heard: list[int]
) -> None:
    monkeypatch.setattr(interruption, "world_size", lambda: 2)
    with StopRequest() as stop, stop.at_once():
        send(signal.SIGTERM)
    assert stop.number == signal.SIGTERM


def test_a_thread_that_can_hear_no_signal_runs_all_the_same() -> None:
    numbers: list[int] = []

    def run() -> None:
        with StopRequest() as stop:
            numbers.append(stop.number)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert numbers == [0]


def test_an_interruption_travels_between_processes() -> None:
    arrived = pickle.loads(pickle.dumps(Interrupted("stopped", number=signal.SIGTERM)))
    assert str(arrived) == "stopped" and arrived.exit_status == 143
