"""Peak memory and time of a training step, with the whole batch at once and in micro-batches of 32.

    python benchmarks/micro_batch.py                       # batches of 128, 512 and 2,048; some minutes on 2 cores
    python benchmarks/micro_batch.py --batches 128 512 backbone=resnet50
    python benchmarks/micro_batch.py trainer.device=cuda   # memory is then that of tensors on the GPU

Every figure has a process of its own. Memory is the peak of resident memory during one step beyond what the process
held before, with the batch of images loaded; a step of a small batch has loaded libraries before. "loss" is the same
for the objective alone, forward and backward, on embeddings of that batch: its pairs grow with the square of the
batch, whoever embeds it. Time is that of a step in micro-batches over that of a whole one, median of four steps each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from measure import RETURN_FREED_MEMORY, peak_of, wait

from dml.assembly import build_data, build_evaluator, build_model, build_objective, build_trainer
from dml.config import register_schema, settle
from dml.run_folder import RunFolder
from dml.training import Trainer
from dml.types import Batch, Pooled

ROOT = Path(__file__).parents[1]
SMALL = ["transform.size=64", "transform.evaluation.resize=64"]
IMAGES_PER_CLASS = 8


def trainer_of(batch: int, micro_batch: int | None, overrides: list[str], folder: Path) -> Trainer:
    register_schema()
    classes = f"sampler.classes_per_batch={batch // IMAGES_PER_CLASS}"
    shape = [classes, f"sampler.images_per_class={IMAGES_PER_CLASS}"]
    cut = f"trainer.micro_batch={'null' if micro_batch is None else micro_batch}"
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [*SMALL, *shape, cut, f"paths.data={ROOT / 'data'}", *overrides])
    data = build_data(cfg)
    cfg = settle(cfg, num_classes=data.train.num_classes)
    objective = build_objective(cfg, data.train)
    return build_trainer(
        cfg, build_model(cfg), objective, data, build_evaluator(cfg, data), RunFolder(folder)
    )


def measure(what: str, batch_size: int, micro_batch: int | None, overrides: list[str]) -> float:
    """MiB of a ``step`` or of its ``loss``, or the ``seconds`` of a step."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(batch_size, micro_batch, overrides, Path(folder))
        trainer._train_mode()
        batch = next(trainer.batches(0, 1))
        first = batch._replace(images=batch.images[:32], labels=batch.labels[:32])
        trainer._update(first, [32])
        if what == "step":
            return peak_of(lambda: trainer._update(batch, [batch_size]), trainer.device)
        if what == "seconds":
            return statistics.median(seconds_of_step(trainer, batch) for _ in range(4))
        pooled = trainer._update(batch, [batch_size])[1]
        leaf = Pooled(*(None if part is None else part.detach().requires_grad_() for part in pooled))
        labels = batch.labels.to(trainer.device)
        return peak_of(lambda: trainer.objective(leaf, labels).total.backward(), trainer.device)


def seconds_of_step(trainer: Trainer, batch: Batch) -> float:
    wait(trainer.device)
    start = time.perf_counter()
    trainer._update(batch, [len(batch.labels)])
    wait(trainer.device)
    return time.perf_counter() - start


def in_new_process(what: str, batch: int, micro_batch: int, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--measure", what, str(batch), str(micro_batch)]
    arguments = ["--threads", str(options.threads), *options.overrides]
    environment = os.environ if what == "seconds" else {**os.environ, **RETURN_FREED_MEMORY}
    result = subprocess.run(
        [*command, *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="as behind dml train")
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 512, 2048])
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.measure:
        what, batch, micro_batch = options.measure
        print(measure(what, int(batch), int(micro_batch) or None, options.overrides))
        return
    size = options.micro_batch
    print(f"batch | MiB whole | MiB in {size}s | MiB of the loss | time in {size}s / whole")
    for batch in options.batches:
        whole, cut = (in_new_process("step", batch, s, options) for s in (0, size))
        loss = in_new_process("loss", batch, size, options)
        quick, slow = (in_new_process("seconds", batch, s, options) for s in (0, size))
        print(f"{batch} | {whole:.0f} | {cut:.0f} | {loss:.0f} | {slow / quick:.2f}", flush=True)


if __name__ == "__main__":
    main()
