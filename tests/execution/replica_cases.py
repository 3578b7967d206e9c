"""Faults in one of several processes, and what each process says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from dml.distributed import broadcast, is_main, rank
from dml.training import ReplicaError, Trainer
from tests.composed import compose_config
from tests.noise import assemble

OVERRIDES = (
    "debug=smoke",
    "optimizer=adamw",
    "trainer.max_steps=4",
    "trainer.eval_every=2",
    "trainer.ema=0.9",
)


def no_fault(trainer: Trainer) -> None:
    pass


def other_start(trainer: Trainer) -> None:
    """Other weights and statistics before the first step."""
    with torch.no_grad():
        for tensor in trainer._weights_and_buffers():
            tensor.add_(1)


def other_step(trainer: Trainer) -> None:
    trainer.step += 1


def flipped_bit(trainer: Trainer) -> None:
    """The last bit of one weight, in the second step."""
    in_second_step(trainer, lambda: flip(trainer.model.projection.weight))


def other_moment(trainer: Trainer) -> None:
    """In the optimizer, which shows in the weights only later."""
    in_second_step(trainer, lambda: flip(trainer.optimizer.state[trainer.model.projection.weight]["exp_avg"]))


def flip(tensor: torch.Tensor) -> None:
    tensor.detach().view(torch.int32).view(-1)[7] ^= 1


def in_second_step(trainer: Trainer, act: Callable[[], None]) -> None:
    train_step = trainer._update

    def faulty(*arguments: object) -> object:
        told = train_step(*arguments)
        if trainer.step == 1:
            act()
        return told

    trainer._update = faulty


def outcome(fault: Callable[[Trainer], None], faulty: int) -> list[tuple[str, int]]:
    """What each process says, and the step of the last checkpoint."""
    cfg = compose_config(*OVERRIDES)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(broadcast(scratch))
        trainer = assemble(cfg, folder)
        if rank() == faulty:
            fault(trainer)
        try:
            trainer.fit([])
            said = f"{trainer.model.projection.weight.double().sum().item()!r}"
        except ReplicaError as error:
            said = str(error)
        saved = folder / "last.pt"
        step = torch.load(saved, weights_only=True)["step"] if saved.exists() else -1
        answers = [None] * dist.get_world_size()
        dist.all_gather_object(answers, (said, step))
    return answers


def write_outcomes(folder: Path) -> None:
    """In each of some processes: said.json of all of them."""
    last = dist.get_world_size() - 1
    faults = [no_fault, other_start, other_step, flipped_bit, other_moment]
    found = {fault.__name__: outcome(fault, last) for fault in faults}
    found["flipped_bit in the main process"] = outcome(flipped_bit, 0)
    if is_main():
        (folder / "said.json").write_text(json.dumps(found))
