"""A run that is asked to stop, whenever it is, is saved, and ends as one that went through."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from dml.config import TrainConfig
from dml.signals import Interrupted
from dml.training import HistoryLogger, StepLogger, Trainer, load_checkpoint
from tests.execution.test_kills import assert_equal

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]
RUN = (
    "trainer.max_steps=4",
    "trainer.eval_every=2",
    "trainer.ema=0.8",
    "memory.batches=2",
    "memory.start_step=1",
    "scheduler=plateau",
    "scheduler.patience=0",
)
MOMENTS = {  # the method in which the request comes, at which call, and the step that is saved
    "initialisation": ("_initialise_prototypes", 1, 0),
    "first validation": ("validate", 1, 0),
    "first step": ("_update", 1, 1),
    "step before a validation": ("_update", 2, 2),
    "a validation": ("validate", 2, 2),
    "last step": ("_update", 4, 4),
    "last validation": ("validate", 3, 4),
    "while the best is saved": ("_weights", 2, 0),
}


def ask() -> None:
    signal.raise_signal(signal.SIGTERM)


def at_call(trainer: Trainer, method: str, at: int, act: Callable[[], object]) -> None:
    """Act at some call of a method of the trainer."""
    inner, calls = getattr(trainer, method), 0

    def acting(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            act()
        return inner(*arguments)

    setattr(trainer, method, acting)


def train(cfg: TrainConfig, folder: Path, assemble: Assemble, *acting: Any) -> None:
    """Go on in a folder as train.py does."""
    trainer = assemble(cfg, folder / "checkpoints")
    if acting:
        at_call(trainer, *acting)
    trainer.resume()
    files, start = (folder / "history.csv", folder / "steps.csv"), trainer.step
    with closing(StepLogger(files[1], start=start)) as steps:
        trainer.fit([HistoryLogger(files[0], start=start), steps])


@pytest.fixture(scope="module")
def uninterrupted(
    compose_smoke: Compose, assemble: Assemble, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(compose_smoke(*RUN), folder, assemble)
    return folder


def same_bits(folder: Path, expected: Path) -> None:
    for name in ("history.csv", "steps.csv"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    for name in ("last.pt", "best.pt"):
        ours, theirs = (load_checkpoint(f / "checkpoints" / name) for f in (folder, expected))
        for state in (ours, theirs):
            state.pop("record", None)
        assert_equal(ours, theirs, name)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_request_at_any_moment_is_obeyed_and_leaves_no_trace(
    moment: str, uninterrupted: Path, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    method, at, step = MOMENTS[moment]
    with pytest.raises(Interrupted, match=rf"stopped after step {step} of 4 and saved.*resume=") as stopped:
        train(compose_smoke(*RUN), tmp_path, assemble, method, at, ask)
    assert stopped.value.exit_status == 143
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt")["step"] == step
    train(compose_smoke(*RUN), tmp_path, assemble)
    same_bits(tmp_path, uninterrupted)


class Killed(BaseException):
    """Nothing is done after it, as after kill -9."""


def die() -> None:
    raise Killed


@pytest.mark.parametrize(("every", "saved"), [("3 steps", 3), ("0.000001 min", 4)])
def test_a_kill_between_a_checkpoint_and_the_next_validation_leaves_no_trace(
    every: str, saved: int, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    cfg = compose_smoke(*RUN, "trainer.eval_every=100", "trainer.max_steps=6", f"trainer.save_every={every}")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    train(cfg, tmp_path / "whole", assemble)
    with pytest.raises(Killed):
        train(cfg, tmp_path / "killed", assemble, "_let_backbone_rest", 5, die)
    assert load_checkpoint(tmp_path / "killed" / "checkpoints" / "last.pt")["step"] == saved
    train(cfg, tmp_path / "killed", assemble)
    same_bits(tmp_path / "killed", tmp_path / "whole")


def test_what_could_not_be_saved_is_not_said_to_be(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = assemble(compose_smoke(*RUN), tmp_path)
    at_call(trainer, "_update", 1, ask)

    def full(path: Path, state: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("dml.training.checkpoint.save_checkpoint", full)
    with (
        pytest.warns(UserWarning, match="could not be written"),
        pytest.raises(Interrupted, match="not saved"),
    ):
        trainer.fit([])


def test_a_checkpoint_from_before_this_was_known_has_no_validation_due(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    assemble(compose_smoke(*RUN), tmp_path).fit([])
    state = load_checkpoint(tmp_path / "last.pt")
    del state["unvalidated"]
    torch.save(state, tmp_path / "last.pt")
    resumed = assemble(compose_smoke(*RUN), tmp_path)
    resumed.resume()
    resumed.validate = lambda model: pytest.fail("validated again")
    resumed.fit([])
