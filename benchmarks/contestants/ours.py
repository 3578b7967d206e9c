"""dml, from its own decoded images or from the PNG files that the peers read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from contestants.job import Job, Measurement, Waiting, image_file, resident, take_gradient_norm

CONFIGS = Path(__file__).parents[2] / "configs"


class FileImages:
    """The PNG files of a half as a store of images, for dml to read what the peers read."""

    def __init__(self, folder: Path, half: str, labels: Any) -> None:
        self._files = [image_file(folder, half, int(label), row) for row, label in enumerate(labels)]

    def __getitem__(self, row: int) -> Any:
        import numpy as np
        from PIL import Image

        with Image.open(self._files[row]) as image:
            return np.asarray(image.convert("RGB"))


class Stopwatch:
    """A logger that notes when the first step could start and when the last one was done."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.started = self.ended = 0.0
        self._clock = clock

    def step(self, step: int, loss: float, gradient_norm: float) -> None:
        self.ended = self._clock()

    def validation(self, step: int, metrics: Any, model: Any) -> None:
        self.started = self.started or self._clock()

    def training(self, step: int, scalars: Any) -> None:
        pass


def run_dml(job: Job, *, files: bool) -> Measurement:
    from dml.assembly import (
        build_data,
        build_evaluator,
        build_model,
        build_objective,
        build_trainer,
        open_loggers,
    )
    from dml.run_folder import RunFolder

    cfg = compose_config(job.overrides)
    data = dml_data(build_data(cfg), job, files)
    model = build_model(cfg)
    objective, evaluator = build_objective(cfg, data.train), build_evaluator(cfg, data)
    watch, waiting = Stopwatch(job.clock), Waiting(job.clock)
    with tempfile.TemporaryDirectory() as name:
        run = RunFolder(Path(name))
        trainer = build_trainer(cfg, model, objective, data, evaluator, run)
        held = resident("VmRSS")
        loss, gradient_norm = dml_first_batch(trainer, data.train, job)
        batches = trainer.batches
        trainer.batches = lambda start, stop: waiting.each(batches(start, stop))
        with open_loggers(cfg, run, start=0) as loggers:
            trainer.fit([*loggers, watch])
    start = job.clock()
    recall = evaluator(model, data.test).metrics["recall@1"]
    evaluation = job.clock() - start
    training = watch.ended - watch.started
    return Measurement(loss, gradient_norm, training, waiting.seconds, evaluation, recall, held)


def compose_config(overrides: list[str]) -> Any:
    from hydra import compose, initialize_config_dir

    from dml.config import register_schema

    register_schema()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides)


def dml_data(splits: Any, job: Job, files: bool) -> Any:
    """The test classes of the job; a handful of them also validates, so that `fit` does little but train."""
    import numpy as np

    from dml.data import Records, Splits

    def from_files(half: str, records: Any) -> Any:
        store = FileImages(Path(job.folder), half, records.labels)
        return Records(store, np.arange(len(records)), records.labels, records.class_names, records.files)

    train, test = splits.train, splits.test.select_classes(job.test_names)
    if files:
        train, test = from_files("train", train), from_files("test", test)
    return Splits(train, test.select_classes(test.class_names[:8]), test)


def dml_first_batch(trainer: Any, train: Any, job: Job) -> tuple[float, float]:
    from dml.training import freeze_batchnorm
    from dml.types import Batch

    trainer.model.train()
    freeze_batchnorm(trainer.model.backbone)
    images = torch.stack([trainer.model.preprocess(train.image(row)) for row in job.first])
    batch = Batch(images, torch.tensor(job.first_labels), torch.tensor(job.first))
    losses, _, _ = trainer.gradient(batch, 0, [len(images)])
    return losses.total.item(), take_gradient_norm(trainer.model)
