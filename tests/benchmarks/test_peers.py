"""The comparison with peers refuses what would make its figures meaningless."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def peers() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import peers

        yield peers


@pytest.fixture
def measurement(peers: Any) -> Any:
    return peers.Measurement(
        loss=0.8,
        gradient_norm=4.0,
        training=2.0,
        waiting=0.5,
        evaluation=1.0,
        recall_at_1=0.6,
        held=500.0,
        memory=900.0,
        command=5.0,
    )


def test_a_program_that_is_no_python_is_refused(peers: Any) -> None:
    for program in ("/no/such/python", "false"):
        with pytest.raises(ValueError, match=f"{program} does not run as a python.*leave --oml-python away"):
            peers.check_environment(program)


def test_an_environment_without_a_package_is_refused(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "NEEDED", ("json", "absent_peer"))
    with pytest.raises(ValueError, match=r"lacks absent_peer; give the python .*pip install"):
        peers.check_environment(sys.executable)


def test_an_environment_with_all_packages_is_accepted(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "NEEDED", ("json",))
    peers.check_environment(sys.executable)


@pytest.mark.parametrize("what", ["loss", "gradient_norm"])
def test_contestants_that_compute_something_else_are_not_compared(
    peers: Any, measurement: Any, what: str
) -> None:
    peers.check_agreement(
        "peer", replace(measurement, **{what: getattr(measurement, what) * 1.00005}), measurement
    )
    other = replace(measurement, **{what: getattr(measurement, what) * 1.001})
    with pytest.raises(
        ValueError, match=f"peer has {what} .* on the first batch, dml .* not do the same work"
    ):
        peers.check_agreement("peer", other, measurement)


def test_the_first_disagreement_ends_the_comparison(
    peers: Any, measurement: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {"dml": 0.8, "peer": 0.9}
    monkeypatch.setattr(peers, "measure", lambda name, *_: replace(measurement, loss=losses[name]))
    with pytest.raises(ValueError, match=r"peer has loss 0.900000 .*, dml 0.800000"):
        peers.play(dict.fromkeys(losses, "python"), Path("job"), 3, 1)


def test_contestants_take_turns_in_being_first(
    peers: Any, measurement: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    monkeypatch.setattr(peers, "measure", lambda name, *_: order.append(name) or measurement)
    played = peers.play(dict.fromkeys(("dml", "a", "b"), "python"), Path("job"), 3, 1)
    assert order == ["dml", "a", "b", "a", "b", "dml", "b", "dml", "a"]
    assert {name: len(measured) for name, measured in played.items()} == {"dml": 3, "a": 3, "b": 3}


def test_a_contestant_that_fails_is_quoted(
    peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "run_contestant.py"
    program.write_text("raise SystemExit('no room for weights')")
    monkeypatch.setattr(peers, "PROGRAM", program)
    with pytest.raises(RuntimeError, match=r"(?s)peer ended with status 1 in .*no room for weights"):
        peers.measure("peer", sys.executable, tmp_path / "job.json", 1)


def test_a_measurement_is_the_last_line_of_a_contestant(
    peers: Any, measurement: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "run_contestant.py"
    program.write_text(f"import json; print('progress'); print(json.dumps({asdict(measurement)}))")
    monkeypatch.setattr(peers, "PROGRAM", program)
    found = peers.measure("peer", sys.executable, tmp_path / "job.json", 1)
    assert replace(found, command=5.0) == measurement and 0 < found.command < 60
    assert found.rise == 400


def test_ratios_are_taken_within_a_round(peers: Any) -> None:
    times, base = np.array([2.0, 8.0, 9.0]), np.array([1.0, 2.0, 3.0])
    assert peers.ratio_quartiles(times, base) == (2.5, 3.0, 3.5)


def test_the_tables_show_throughput_and_ratio(
    peers: Any, measurement: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = replace(measurement, training=4.0, waiting=3.0)
    peers.print_tables({"dml": [measurement], "peer": [slow]}, images=64)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("peer")]
    assert rows[0] == ["peer", "16.0", "2.00", "2.00", "..", "2.00"]
    assert rows[3][1] == "400.0" and rows[-1] == ["peer", "60.0%", "75.0%"]


def test_a_peer_without_an_environment_is_left_out(peers: Any) -> None:
    assert not [name for name in peers.choose_contestants(None, True) if "open-metric" in name]
    chosen = peers.choose_contestants("other", False)
    assert chosen["open-metric-learning"] == "other" and chosen["dml"] == sys.executable
    assert next(iter(chosen)) == "dml" and not [name for name in chosen if "by hand" in name]


@pytest.mark.parametrize("option", ["rounds", "steps", "threads", "workers"])
def test_a_number_that_is_too_small_is_refused(
    peers: Any, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", f"--{option}=-1"])
    with pytest.raises(SystemExit):
        peers.main()
    assert f"--{option} -1: give a number of at least" in capsys.readouterr().err


def test_more_test_classes_than_there_are_are_refused(
    peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", "--test-classes", "594"])
    with pytest.raises(SystemExit, match="error: --test-classes 594: give a number from 2 to 593"):
        peers.main()


def test_an_epoch_may_take_several_passes_over_the_batches(peers: Any) -> None:
    from contestants.oml import oml_steps

    assert list(oml_steps([1, 2, 3], 7)) == [1, 2, 3, 1, 2, 3, 1]


@pytest.mark.slow
def test_dml_and_its_peer_agree_on_the_first_batch() -> None:
    command = [sys.executable, str(BENCHMARKS / "peers.py"), "--rounds", "1", "--steps", "1"]
    result = subprocess.run([*command, "--test-classes", "3"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "pytorch-metric-learning" in result.stdout and "whole command, seconds" in result.stdout
