"""A step reads nothing from a GPU; what it had to say arrives later, in full."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dml.config import TrainConfig
from dml.losses import Losses
from dml.training import NonFiniteLossError, StepLogger, Trainer, read_steps
from dml.training.readings import Readings
from tests.pretend_device import PretendTensor

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]
RUN = ("trainer.max_steps=7", "trainer.eval_every=100", "trainer.log_every=3")


class Reads(TorchDispatchMode):
    """Counts what waits for a GPU: single numbers that are read, and tensors copied to the CPU without non_blocking."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        on_gpu = any(isinstance(argument, PretendTensor) for argument in args)
        single = func.overloadpacket is torch.ops.aten._local_scalar_dense
        copied = func.overloadpacket is torch.ops.aten._to_copy and (kwargs or {}).get(
            "device"
        ) == torch.device("cpu")
        self.count += on_gpu and (single or (copied and not kwargs.get("non_blocking")))
        return func(*args, **(kwargs or {}))


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    with Reads() as reads:
        tolist = PretendTensor.tolist

        def counting(tensor: PretendTensor) -> Any:
            reads.count += 1
            return tolist(tensor)

        monkeypatch.setattr(PretendTensor, "tolist", counting)
        yield reads


def train(trainer: Trainer, folder: Path) -> dict[int, tuple[float, float]]:
    with closing(StepLogger(folder / "steps.csv", start=0)) as logger:
        trainer.fit([logger])
    return read_steps(folder / "steps.csv")


@pytest.fixture
def on_gpu(
    pretend_gpu: object, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> Callable[..., Trainer]:
    def trainer_of(*overrides: str) -> Trainer:
        trainer = assemble(compose_smoke(*RUN, "trainer.device=cuda:0", *overrides), tmp_path)
        trainer.validate = lambda model: {"map@r": 0.0}
        return trainer

    return trainer_of


def reads_of_each_step(trainer: Trainer, reads: Reads, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled by training; without those of the losses and their gradient, which look at the data."""
    gradient, step, found = type(trainer.gradient).__call__, trainer._step, []

    def uncounted(*arguments: Any) -> Any:
        before = reads.count
        given = gradient(*arguments)
        reads.count = before
        return given

    def counting(*arguments: Any) -> None:
        before = reads.count
        step(*arguments)
        found.append(reads.count - before)

    monkeypatch.setattr(type(trainer.gradient), "__call__", uncounted)
    monkeypatch.setattr(trainer, "_step", counting)
    return found


def test_steps_on_a_gpu_are_read_every_log_every_by_one_transfer_and_to_the_last_digit(
    on_gpu: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, later = on_gpu("trainer.log_every=1"), on_gpu()
    expected = train(at_once, tmp_path)
    with counted(monkeypatch) as reads:
        found = reads_of_each_step(later, reads, monkeypatch)
        assert train(later, tmp_path) == expected
    assert found[:6] == [0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("bad", [1, 2, 3, 4, 6])
def test_a_loss_that_is_not_finite_on_a_gpu_stops_the_run_within_one_step_and_loses_no_row_before_it(
    bad: int, on_gpu: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer = on_gpu()
    objective = trainer.objective.forward

    def spoilt(*arguments: Any) -> Losses:
        losses = objective(*arguments)
        return losses._replace(total=losses.total * math.nan) if trainer.step == bad - 1 else losses

    trainer.objective.forward = spoilt  # type: ignore[method-assign]
    with pytest.raises(NonFiniteLossError, match=f"at step {bad} the total loss is nan"):
        train(trainer, tmp_path)
    assert trainer.step <= bad and list(read_steps(tmp_path / "steps.csv")) == list(range(1, bad))
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_what_is_not_finite_never_reaches_a_checkpoint_between_validations(
    on_gpu: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer = on_gpu("trainer.log_every=100", "trainer.save_every=2 steps")
    update = trainer._update

    def spoilt(*arguments: Any) -> Any:
        losses, *others = update(*arguments)
        return losses._replace(total=losses.total * math.inf), *others

    trainer._update = spoilt  # type: ignore[method-assign]
    trainer.readings.were_finite = lambda: True  # type: ignore[method-assign]  # as if it had not been sent ahead
    with pytest.raises(NonFiniteLossError, match="at step 1 the total loss is inf"):
        train(trainer, tmp_path)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 0


def test_weights_that_a_step_with_a_finite_loss_has_made_infinite_are_not_saved(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke(*RUN, "trainer.save_every=1 steps"), tmp_path)
    update = trainer._update

    def enormous(*arguments: Any) -> Any:
        told = update(*arguments)
        with torch.no_grad():
            trainer.model.projection.weight[0, 0] = math.inf
        return told

    trainer._update = enormous  # type: ignore[method-assign]
    with pytest.raises(
        NonFiniteLossError, match=r"after step 1 a weight is NaN or infinite: lower optimizer.lr"
    ):
        trainer.fit([])
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 0


def losses(total: float) -> Losses:
    return Losses(torch.tensor(total), torch.tensor(total))


def test_digits_of_float32_and_float64_survive_and_numbers_pass() -> None:
    readings, rows = Readings(torch.device("cpu"), norm_may_overflow=False), []
    readings.add(1, losses(0.1), torch.tensor(1 / 3, dtype=torch.float64))
    scalars = readings.read({"a": torch.tensor(0.7), "rate": 0.001}, lambda *row: rows.append(row))
    assert rows == [(1, torch.tensor(0.1).item(), 1 / 3)]
    assert scalars == {"a": torch.tensor(0.7).item(), "rate": 0.001}
    assert readings.read({}, lambda *row: pytest.fail("read twice")) == {}


@pytest.mark.parametrize("may", [True, False])
def test_an_infinite_gradient_norm_is_a_failure_unless_a_step_may_overflow(may: bool) -> None:
    readings, rows = Readings(torch.device("cpu"), norm_may_overflow=may), []
    readings.add(1, losses(1.0), torch.tensor(math.inf))
    if may:
        readings.read({}, lambda *row: rows.append(row))
        assert rows == [(1, 1.0, math.inf)]
        return
    with pytest.raises(NonFiniteLossError, match="at step 1 the gradient norm is inf"):
        readings.read({}, lambda *row: rows.append(row))
