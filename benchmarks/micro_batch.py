"""Peak memory and time of a training step, with the whole batch at once and in micro-batches of 32.

    python benchmarks/micro_batch.py                       # batches of 128, 512 and 2,048; about four minutes on 2 cores
    python benchmarks/micro_batch.py --batches 128 512 backbone=resnet50

One process for each row and column. Memory is the peak of resident memory during one step beyond what the process
held before, with the batch of images loaded; a step of a small batch has loaded libraries before. "loss" is the same
for the objective alone, forward and backward, on embeddings of that batch: its pairs grow with the square of the
batch, whoever embeds it. Time is the ratio of the two columns, median of three steps each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from measure import RETURN_FREED_MEMORY, peak_of

from dml.assembly import build_data, build_evaluator, build_model, build_objective, build_trainer
from dml.config import register_schema
from dml.training import Trainer
from dml.types import Pooled

ROOT = Path(__file__).parents[1]
SMALL = ["transform=emoji", "transform.size=64", "transform.evaluation.resize=64", "logger.tensorboard=false"]
IMAGES_PER_CLASS = 8


def trainer_of(batch: int, micro_batch: int | None, overrides: list[str], folder: Path) -> Trainer:
    register_schema()
    shape = [
        f"sampler.classes_per_batch={batch // IMAGES_PER_CLASS}",
        f"sampler.images_per_class={IMAGES_PER_CLASS}",
    ]
    cut = f"trainer.micro_batch={'null' if micro_batch is None else micro_batch}"
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [*SMALL, *shape, cut, f"paths.data={ROOT / 'data'}", *overrides])
    data = build_data(cfg)
    objective = build_objective(cfg, data.train)
    return build_trainer(cfg, build_model(cfg), objective, data, build_evaluator(cfg, data), folder)


def measure(batch_size: int, micro_batch: int | None, overrides: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(batch_size, micro_batch, overrides, Path(folder))
        trainer._train_mode()
        batch = next(trainer.batches(0, 1))
        first = batch._replace(images=batch.images[:32], labels=batch.labels[:32])
        trainer._update(first, [32])
        peak, times = peak_of(lambda: trainer._update(batch, [batch_size])), []
        for _ in range(3):
            start = time.perf_counter()
            _, pooled, _, _ = trainer._update(batch, [batch_size])
            times.append(time.perf_counter() - start)
        leaf = Pooled(*(None if part is None else part.detach().requires_grad_() for part in pooled))
        del pooled
        loss = peak_of(lambda: trainer.objective(leaf, batch.labels).total.backward())
        return {"peak": peak, "loss": loss, "seconds": statistics.median(times)}


def in_new_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", *arguments]
    environment = {**os.environ, **RETURN_FREED_MEMORY}
    found: dict[str, float] = json.loads(
        subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout.splitlines()[-1]
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="as on the command line of train.py")
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 512, 2048])
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.measure:
        batch, micro_batch = map(int, options.measure)
        print(json.dumps(measure(batch, micro_batch or None, options.overrides)))
        return
    print(
        f"batch | MiB whole | MiB in {options.micro_batch}s | MiB of the loss alone | time of {options.micro_batch}s / whole"
    )
    for batch in options.batches:
        rest = ["--threads", str(options.threads), *options.overrides]
        whole = in_new_process(str(batch), "0", *rest)
        cut = in_new_process(str(batch), str(options.micro_batch), *rest)
        slower = cut["seconds"] / whole["seconds"]
        print(
            f"{batch} | {whole['peak']:.0f} | {cut['peak']:.0f} | {cut['loss']:.0f} | {slower:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
