"""Time of a training step next to a bare loop, and how long it waits for data.

    python benchmarks/step.py                            # the main job's step, about three minutes on 2 cores
    python benchmarks/step.py loss=multi_similarity trainer.micro_batch=8 --steps 20
    python benchmarks/step.py trainer.device=cuda        # on a GPU, which is waited for at the end of each step

The bare loop is what a person would type: forward pass, loss, backward pass, optimizer and scheduler, on the same
batches, with another copy of the same model and objective, and nothing else. The trainer's step is timed from one
request for a batch to the next, so with all that goes on in between: seeds, gradient norm and clipping, the check for
finite numbers, logs to files, TensorBoard and the terminal. Both take turns step by step, in either order; the
overhead is the median of the ratio of neighbours, with its 95 % interval by order statistics. Batches lie in memory
already. Then checkpoints are timed. Then the trainer runs on its own with the real loader, and the share of the time
that it waits is printed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from measure import interval, name_of, wait

from dml.assembly import (
    build_data,
    build_evaluator,
    build_model,
    build_objective,
    build_trainer,
    open_loggers,
)
from dml.config import TrainConfig, register_schema, settle
from dml.devices import choose_device
from dml.run_folder import RunFolder
from dml.training import Trainer
from dml.types import Batch

ROOT = Path(__file__).parents[1]


def build(cfg: TrainConfig, folder: Path) -> Trainer:
    data = build_data(cfg)
    cfg = settle(cfg, num_classes=data.train.num_classes)
    objective = build_objective(cfg, data.train)
    return build_trainer(
        cfg, build_model(cfg), objective, data, build_evaluator(cfg, data), RunFolder(folder)
    )


def bare_step(trainer: Trainer) -> Callable[[Batch], float]:
    """Seconds of one step of the bare loop, with the parts of a trainer."""
    model, objective = trainer.model, trainer.objective
    optimizer, scheduler = trainer.optimizer, trainer.scheduler

    def step(batch: Batch) -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        images, labels = (part.to(trainer.device) for part in (batch.images, batch.labels))
        loss = objective(model(images), labels).total
        loss.backward()
        optimizer.step()
        scheduler.step()
        wait(trainer.device)
        return time.perf_counter() - start

    return step


def alternate(cfg: TrainConfig, folder: Path, steps: int) -> list[tuple[float, float]]:
    """Seconds of each step of the trainer and of the bare loop, which runs while the trainer waits for its batch."""
    trainer, other = build(cfg, folder), build(cfg, folder)
    trainer.validate = lambda model: {trainer.options.select_by: 0.0}
    other._initialise_prototypes()
    other._train_mode()
    batches = list(trainer.batches(0, min(steps, 16)))
    bare = bare_step(other)
    pairs: list[tuple[float, float]] = []

    def take_turns(start: int, stop: int) -> Iterator[Batch]:
        for step in range(start, stop):
            batch = batches[step % len(batches)]
            wait(trainer.device)
            first = bare(batch) if step % 2 else math.nan
            begin = time.perf_counter()
            yield batch
            wait(trainer.device)
            ours = time.perf_counter() - begin
            pairs.append((ours, first if step % 2 else bare(batch)))

    trainer._initialise_prototypes()
    trainer._initialise_prototypes = lambda: None
    trainer.batches = take_turns
    with redirect_stdout(StringIO()), open_loggers(cfg, RunFolder(folder), start=0) as loggers:
        trainer.fit(loggers, until=steps)
    return pairs[4:]  # the first steps load libraries and compile kernels


def waiting(cfg: TrainConfig, folder: Path, steps: int) -> float:
    """The share of the time of the trainer's own loop that it waits for batches."""
    trainer = build(cfg, folder)
    trainer.validate = lambda model: {trainer.options.select_by: 0.0}
    load, waited, marks = trainer.batches, 0.0, [0.0]

    def timed(start: int, stop: int) -> Iterator[Batch]:
        nonlocal waited
        batches = load(start, stop)
        next_start = time.perf_counter()
        for position, batch in enumerate(batches):
            if position == 4:  # workers have started
                waited, marks[0] = 0.0, time.perf_counter()
            waited += time.perf_counter() - next_start if position > 4 else 0.0
            yield batch
            next_start = time.perf_counter()

    trainer.batches = timed
    trainer.fit([], until=steps)
    return waited / (time.perf_counter() - marks[0])


def saving(cfg: TrainConfig, folder: Path) -> float:
    """Seconds of a checkpoint, flushed to the disk; the median of five."""
    trainer, seconds = build(cfg, folder), []
    trainer.validate = lambda model: {trainer.options.select_by: 0.0}
    trainer.fit([], until=2)
    for _ in range(5):
        start = time.perf_counter()
        trainer._save_last([])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="as behind dml train")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    register_schema()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        far = ["trainer.max_steps=100000", "trainer.eval_every=100000"]  # no validation in between
        cfgs = [
            compose(
                "train", [*options.overrides, *far, f"paths.data={ROOT / 'data'}", f"num_workers={workers}"]
            )
            for workers in (0, 2)
        ]
    with tempfile.TemporaryDirectory() as scratch:
        pairs = alternate(cfgs[0], Path(scratch), options.steps)
        ours, bare = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
        ratios = [a / b for a, b in pairs]
        print(
            f"step: {ours:.1f} ms, bare loop {bare:.1f} ms, {len(pairs)} of each, "
            f"{options.threads} threads, {name_of(choose_device(cfgs[0]))}"
        )
        print("overhead: {:+.1%} [{:+.1%}, {:+.1%}]".format(*(value - 1 for value in interval(ratios))))
        fastest = sum(sorted(a for a, _ in pairs)[:10]) / sum(sorted(b for _, b in pairs)[:10])
        print(f"overhead in the ten fastest steps of each: {fastest - 1:+.1%}")
        seconds = saving(cfgs[0], Path(scratch))
        print(
            f"a checkpoint takes {seconds * 1e3:.0f} ms, one every 10 minutes {seconds / 600:.2%} of the time"
        )
        for cfg in cfgs:
            share = waiting(cfg, Path(scratch), max(10, options.steps // 4))
            print(f"waiting for data with num_workers={cfg.num_workers}: {share:.1%} of the time")


if __name__ == "__main__":
    main()
