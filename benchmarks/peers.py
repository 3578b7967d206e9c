"""One training epoch and the evaluation after it, by dml and by its peers, in one run.

    python benchmarks/peers.py --oml-python OTHER_VENV/bin/python              # the table of the README
    python benchmarks/peers.py --oml-python OTHER_VENV/bin/python --by-hand    # with the peers tuned by hand
    python benchmarks/peers.py --rounds 1 --steps 4 --test-classes 20          # a rehearsal, without the second peer

open-metric-learning needs an environment of its own (numpy < 2), with timm and pytorch-metric-learning beside it; it is
skipped unless --oml-python is given.

The same for all: EfficientNet-Lite0 with its ImageNet weights, average pooling, a linear map to 128 dimensions with
the same weights; frozen BatchNorm without gradient; the contrastive loss of pytorch-metric-learning on distances of
unit vectors, in open-metric-learning too, whose documentation shows how; AdamW with the same rates; batches of 8
classes with 4 images at 128 x 128, random crop and mirror image; the same images of the emoji set, the same number of
torch threads and of data workers, 64 images at a time in the evaluation. Before anything is compared, every
contestant computes loss and gradient of one batch from its own reading of the files, and they must agree.

Not the same: the images, written out as 64 x 64 PNG files, are read by the peers from these files in every epoch, as
their documentation shows; dml decodes its embedded set into memory once, at the start, which is in the seconds of the
whole command and in its memory, not in its images per second. The row "dml, PNG files" reads the files of the
peers instead. Each peer draws its own batches and crops. dml writes logs and checkpoints, the peers do not. dml and
pytorch-metric-learning measure recall@1, R-precision and MAP@R, open-metric-learning precision and MAP at the largest
R of the set. contestants/ says how each peer is put together, and what --by-hand changes.

Every measurement is made in a process of its own; contestants take turns, and each round begins with another. Training
is counted from its call to the last step, fetching of data included; evaluation from images to figures. Memory is the
peak of resident memory of the whole process, libraries included; its rise is what training and evaluation add to
libraries, weights and images kept. A ratio is the time or memory of a contestant over that of dml in the same
round: above 1, dml is ahead. Given are its median over rounds and its quartiles.

On a machine with other work, two threads that wait for each other make every time a matter of chance: there,
--threads 1 --cpu-time counts the seconds of the processor in training and evaluation instead (of the process itself,
so leave --workers at 0). They leave out waiting for the disk, such as for checkpoints, which only dml writes, and
they still vary with page faults, which the allocation of large tensors causes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from contestants import RUNS, Job, Measurement
from contestants.job import image_file
from contestants.ours import CONFIGS, compose_config
from numpy.typing import NDArray

NEEDED = ("oml", "timm", "pytorch_metric_learning")  # by open-metric-learning's environment
MEASURES = {
    "training": "training, images per second",
    "evaluation": "evaluation, seconds",
    "memory": "peak of memory, MiB",
    "rise": "its rise, MiB",
    "command": "whole command, seconds",
}
PROGRAM = Path(__file__).with_name("run_contestant.py")


def prepare(  # long: a job has many values, each written where it comes from
    folder: Path, *, steps: int, threads: int, workers: int, test_classes: int, cpu_time: bool
) -> Job:
    """Write images and weights into the folder, and say what is to be done with them."""
    from PIL import Image

    from dml.assembly import build_data, build_model
    from dml.config import build

    settings = {
        "pooling": "gap",
        "scheduler": "constant",
        "transform.train.flip": 0.5,
        "trainer.gradient_clip": "null",
        "trainer.device": "cpu",
        "trainer.max_steps": steps,
        "trainer.eval_every": steps,
        "num_workers": workers,
        "paths.data": CONFIGS.parent / "data",
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    cfg = compose_config(overrides)
    splits = build_data(cfg)
    if not 2 <= test_classes <= splits.test.num_classes:
        raise ValueError(f"--test-classes {test_classes}: give a number from 2 to {splits.test.num_classes}")
    test_names = splits.test.class_names[:test_classes]
    halves = {"train": splits.train, "test": splits.test.select_classes(test_names)}
    for half, records in halves.items():
        files = [image_file(folder, half, int(label), row) for row, label in enumerate(records.labels)]
        for parent in {file.parent for file in files}:
            parent.mkdir(parents=True)
        images = [Image.fromarray(records.image(row)) for row in range(len(files))]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(Image.Image.save, images, files))
    model = build_model(cfg)
    weights = {"trunk": model.backbone.network.state_dict(), "embedder": model.projection.state_dict()}
    torch.save(weights, folder / "weights.pt")
    first = build(cfg.sampler)(splits.train.labels, seed=cfg.seed).batch(0)
    adamw = {key: cfg.optimizer[key] for key in ("eps", "weight_decay")}
    rates = [cfg.optimizer.lr * cfg.learning_rates[role] for role in ("backbone", "head")]
    return Job(
        folder=str(folder),
        overrides=overrides,
        test_names=list(test_names),
        first=first.tolist(),
        first_labels=splits.train.labels[first].tolist(),
        steps=steps,
        threads=threads,
        workers=workers,
        cpu_time=cpu_time,
        classes_per_batch=cfg.sampler.classes_per_batch,
        images_per_class=cfg.sampler.images_per_class,
        evaluation_batch=cfg.evaluator.batch_size,
        size=cfg.transform.size,
        scale=list(cfg.transform.train.scale),
        ratio=list(cfg.transform.train.ratio),
        flip=cfg.transform.train.flip,
        mean=list(model.backbone.normalisation.mean),
        std=list(model.backbone.normalisation.std),
        margins={key: cfg.loss[key] for key in ("pos_margin", "neg_margin")},
        rates=rates,
        adamw={**adamw, "betas": list(cfg.optimizer.betas)},
    )


def check_environment(python: str) -> None:
    """Refuse an environment that open-metric-learning could not run in.

    Raises:
        ValueError: there is no such program, or it lacks a package.
    """
    code = f"import importlib.util as u; print(*[n for n in {NEEDED} if u.find_spec(n) is None])"
    advice = (
        "give the python of an environment after `pip install open-metric-learning timm "
        "pytorch-metric-learning`, or leave --oml-python away to skip that peer"
    )
    try:
        answer = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"--oml-python {python} does not run as a python ({error}); {advice}") from error
    if missing := answer.stdout.strip():
        raise ValueError(f"--oml-python {python} lacks {missing}; {advice}")


def measure(name: str, python: str, job: Path, threads: int) -> Measurement:
    """One contestant in a new process.

    Raises:
        RuntimeError: the process failed; the message ends with what it said last.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [python, "-W", "ignore", str(PROGRAM), name, str(job)]
    start = time.perf_counter()
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        last = "\n".join((run.stderr or run.stdout).splitlines()[-5:])
        raise RuntimeError(f"{name} ended with status {run.returncode} in {python}; it said last:\n{last}")
    measured = Measurement(**json.loads(run.stdout.splitlines()[-1]))
    return replace(measured, command=time.perf_counter() - start)


def check_agreement(name: str, found: Measurement, reference: Measurement) -> None:
    """Refuse to compare contestants that do not compute the same loss and gradient from the same batch.

    Raises:
        ValueError: loss or norm of the gradient differ from the reference by more than rounding.
    """
    for what in ("loss", "gradient_norm"):
        value, expected = getattr(found, what), getattr(reference, what)
        if not math.isclose(value, expected, rel_tol=1e-4):
            raise ValueError(
                f"{name} has {what} {value:.6f} on the first batch, dml {expected:.6f}: they do not do the same "
                "work, so their times cannot be compared; look at weights, images and loss in contestants/"
            )


def play(contestants: dict[str, str], job: Path, rounds: int, threads: int) -> dict[str, list[Measurement]]:
    """All rounds; contestants as name -> python. Every measurement is printed as soon as it is there."""
    names = list(contestants)
    played: dict[str, list[Measurement]] = {name: [] for name in names}
    reference = None
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            measured = measure(name, contestants[name], job, threads)
            reference = reference or measured  # dml, whose turn is the first
            check_agreement(name, measured, reference)
            played[name].append(measured)
            figures = ", ".join(f"{key} {value:.4g}" for key, value in asdict(measured).items())
            print(f"round {number + 1}, {name}: {figures}", flush=True)
    return played


def print_tables(played: dict[str, list[Measurement]], images: int) -> None:
    """For each measure, the median, and median and quartiles of the ratio to dml in the same round."""
    for key, title in MEASURES.items():
        print(f"\n{title:34}{'median':>10}{'ratio':>8}   quartiles")
        for name, measured in played.items():
            values = np.array([getattr(m, key) for m in measured])
            low, middle, high = ratio_quartiles(values, np.array([getattr(m, key) for m in played["dml"]]))
            shown = np.median(images / values if key == "training" else values)
            print(f"{name:34}{shown:10.1f}{middle:8.2f}   {low:.2f} .. {high:.2f}")
    print(f"\n{'':34}{'recall@1':>10}   share of training spent waiting for data")
    for name, measured in played.items():
        waiting = np.median([m.waiting / m.training for m in measured])
        print(f"{name:34}{np.median([m.recall_at_1 for m in measured]):10.1%}   {waiting:.1%}")


def ratio_quartiles(values: NDArray[np.float64], base: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values / base, (0.25, 0.5, 0.75))
    return low, middle, high


def choose_contestants(oml_python: str | None, by_hand: bool) -> dict[str, str]:
    """Name -> python; without its environment, open-metric-learning is left out."""
    names = [name for name in RUNS if by_hand or "by hand" not in name]
    if oml_python is None:
        names = [name for name in names if "open-metric" not in name]
    return {name: oml_python if oml_python and "open-metric" in name else sys.executable for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of every contestant")
    parser.add_argument("--steps", type=int, default=56, help="of training; 56 take each of 453 classes once")
    parser.add_argument("--threads", type=int, default=2, help="of torch, in every contestant")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that load data, in every contestant"
    )
    parser.add_argument(
        "--test-classes", type=int, default=270, help="classes in the evaluation; 270 have 2,062 images"
    )
    parser.add_argument("--oml-python", help="python of an environment with open-metric-learning")
    parser.add_argument("--by-hand", action="store_true", help="also the peers with channels_last and bytes")
    parser.add_argument(
        "--cpu-time", action="store_true", help="seconds of the processor, for a busy machine"
    )
    options = parser.parse_args()
    for name, least in {"rounds": 1, "steps": 1, "threads": 1, "workers": 0}.items():
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: give a number of at least {least}")
    try:
        if options.oml_python:
            check_environment(options.oml_python)
        run(options)
    except (ValueError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error


def run(options: argparse.Namespace) -> None:
    contestants = choose_contestants(options.oml_python, options.by_hand)
    if not options.oml_python:
        print("open-metric-learning is skipped: pass --oml-python VENV/bin/python, where it is installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = prepare(
            folder,
            steps=options.steps,
            threads=options.threads,
            workers=options.workers,
            test_classes=options.test_classes,
            cpu_time=options.cpu_time,
        )
        images = job.steps * job.batch_size
        tested = len(list(folder.glob("test/*/*.png")))
        print(
            f"{images} images in {job.steps} steps, evaluation of {tested}, {options.rounds} rounds, {job.threads} "
            f"threads, {job.workers} workers, {os.cpu_count()} cores, torch {torch.__version__}, seconds of the "
            + ("processor" if job.cpu_time else "wall")
        )
        file = folder / "job.json"
        file.write_text(json.dumps(asdict(job)))
        played = play(contestants, file, options.rounds, options.threads)
    print_tables(played, images)


if __name__ == "__main__":
    main()
