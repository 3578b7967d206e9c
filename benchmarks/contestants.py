# long: each peer in a part of its own
"""One training epoch and the evaluation after it, by dml or by a peer: the processes that peers.py starts.

    python benchmarks/contestants.py CONTESTANT JOB.json    # the last line of its output is the measurement

The peers are put together as their documentation shows. pytorch-metric-learning: its MetricLossOnly trainer with
MPerClassSampler, freeze_trunk_batchnorm and, as the hook at the end of the epoch, GlobalEmbeddingSpaceTester with
AccuracyCalculator(k="max_bin_count"). open-metric-learning: ImageLabeledDataset, BalanceSampler and the plain loop
around them, then `inference`, RetrievalResults and calc_retrieval_metrics_rr. Both read PNG files by PIL and
torchvision. "by hand" adds what their documentation does not ask for and dml does by itself: batches of bytes,
normalised inside the model, and convolutions in channels_last.

Only torch is imported at the top, since the three live in different environments.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import clip_grad_norm_

CONFIGS = Path(__file__).parents[1] / "configs"
NETWORK = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class Job:
    """What every contestant is told; all values but the counts come from one configuration of dml.

    folder:      holds weights.pt, train/CLASS/ROW.png and test/CLASS/ROW.png.
    overrides:   of the configuration, for dml.
    test_names:  the test classes.
    first:       rows of the training images of the first batch, and their labels.
    rates:       learning rates of backbone and head.
    mean, std:   of the backbone's input, on values 0..255.
    """

    folder: str
    overrides: list[str]
    test_names: list[str]
    first: list[int]
    first_labels: list[int]
    steps: int
    threads: int
    workers: int
    cpu_time: bool
    classes_per_batch: int
    images_per_class: int
    evaluation_batch: int
    size: int
    scale: list[float]
    ratio: list[float]
    flip: float
    mean: list[float]
    std: list[float]
    margins: dict[str, float]
    rates: list[float]
    adamw: dict[str, Any]

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds of the wall, or of the processor, which leave out waiting for other programs or the disk."""
        return time.process_time if self.cpu_time else time.perf_counter

    @property
    def batch_size(self) -> int:
        return self.classes_per_batch * self.images_per_class

    def first_files(self) -> list[str]:
        pairs = zip(self.first_labels, self.first, strict=True)
        return [str(image_file(Path(self.folder), "train", label, row)) for label, row in pairs]


@dataclass(frozen=True)
class Measurement:
    """What one process found.

    loss, gradient_norm: of the first batch, before training.
    training, waiting, evaluation, command: seconds; waiting for data is a part of training.
    held, memory:        MiB of resident memory before the first batch, and at the peak.
    """

    loss: float
    gradient_norm: float
    training: float
    waiting: float
    evaluation: float
    recall_at_1: float
    held: float
    memory: float = 0.0
    command: float = 0.0

    @property
    def rise(self) -> float:
        """MiB at the peak beyond libraries, weights and whatever images are kept."""
        return self.memory - self.held


class Waiting:
    """Seconds spent in fetching batches."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds, self._clock = 0.0, clock

    def fetch(self, get: Callable[[], Any]) -> Any:
        start = self._clock()
        try:
            return get()
        finally:
            self.seconds += self._clock() - start

    def each(self, batches: Iterable[Any]) -> Iterator[Any]:
        iterator = iter(batches)
        while (batch := self.fetch(lambda: next(iterator, None))) is not None:
            yield batch


def image_file(folder: Path, half: str, label: int, row: int) -> Path:
    return folder / half / f"{label:04d}" / f"{row:06d}.png"


# --- dml ---


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


def take_gradient_norm(*modules: nn.Module) -> float:
    """The norm of the gradient of all parameters, which is then dropped."""
    norm = clip_grad_norm_([p for module in modules for p in module.parameters()], math.inf).item()
    for module in modules:
        module.zero_grad()
    return norm


# --- what the peers share ---


class FromBytes(nn.Module):
    """Normalise bytes inside the model, as dml does."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def peer_model(job: Job, by_hand: bool) -> tuple[nn.Module, nn.Module]:
    """Backbone with average pooling, (B, 3, H, W) -> (B, C), and the linear map after it; BatchNorm has no gradient."""
    import timm

    weights = torch.load(Path(job.folder) / "weights.pt", weights_only=True)
    trunk: nn.Module = timm.create_model(NETWORK, pretrained=False, num_classes=0)
    trunk.load_state_dict(weights["trunk"])
    for module in batchnorm(trunk):
        module.requires_grad_(False)
    embedding_dim, channels = weights["embedder"]["weight"].shape
    embedder = nn.Linear(channels, embedding_dim, bias=False)
    embedder.load_state_dict(weights["embedder"])
    if by_hand:
        trunk = nn.Sequential(FromBytes(job.mean, job.std), trunk.to(memory_format=torch.channels_last))
    return trunk, embedder


def batchnorm(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def peer_transforms(job: Job, by_hand: bool) -> tuple[Any, Any]:
    """For training and evaluation, from an image of PIL."""
    from torchvision import transforms

    unit = [[value / 255 for value in values] for values in (job.mean, job.std)]
    to_tensor = [transforms.ToTensor(), transforms.Normalize(*unit)]
    if by_hand:
        to_tensor = [transforms.PILToTensor()]
    crop = transforms.RandomResizedCrop(job.size, tuple(job.scale), tuple(job.ratio))
    train = transforms.Compose([crop, transforms.RandomHorizontalFlip(job.flip), *to_tensor])
    return train, transforms.Compose([transforms.Resize((job.size, job.size)), *to_tensor])


def contrastive(job: Job) -> nn.Module:
    from pytorch_metric_learning.losses import ContrastiveLoss

    return ContrastiveLoss(**job.margins)


# --- pytorch-metric-learning ---


def run_pml(job: Job, *, by_hand: bool) -> Measurement:  # long: a trainer as its user writes it
    from pytorch_metric_learning.samplers import MPerClassSampler
    from pytorch_metric_learning.trainers import MetricLossOnly
    from torchvision.datasets import ImageFolder

    waiting, times = Waiting(job.clock), {}

    class Trainer(MetricLossOnly):
        def get_batch(self) -> Any:
            return waiting.fetch(super().get_batch)

    trunk, embedder = peer_model(job, by_hand)
    for_training, for_evaluation = peer_transforms(job, by_hand)
    folder = Path(job.folder)
    data = ImageFolder(str(folder / "train"), for_training)
    test = ImageFolder(str(folder / "test"), for_evaluation)
    sampler = MPerClassSampler(
        data.targets, job.images_per_class, job.batch_size, length_before_new_iter=job.steps * job.batch_size
    )
    results: dict[str, Any] = {}

    def evaluate(trainer: Any) -> None:
        times["trained"] = job.clock()
        results.update(pml_tester(job).test({"test": test}, trainer.epoch, trunk, embedder)["test"])
        times["evaluated"] = job.clock()

    models = {"trunk": trunk, "embedder": embedder}
    trainer = Trainer(
        models,
        {
            f"{name}_optimizer": torch.optim.AdamW(model.parameters(), lr=lr, **job.adamw)
            for (name, model), lr in zip(models.items(), job.rates, strict=True)
        },
        job.batch_size,
        {"metric_loss": contrastive(job)},
        data,
        iterations_per_epoch=job.steps,
        data_device=torch.device("cpu"),
        sampler=sampler,
        freeze_trunk_batchnorm=True,
        dataloader_num_workers=job.workers,
        end_of_epoch_hook=evaluate,
    )
    held = resident("VmRSS")
    trainer.set_to_train()
    rows = {file: row for row, (file, _) in enumerate(data.samples)}
    images = torch.stack([for_evaluation(data.loader(data.samples[rows[f]][0])) for f in job.first_files()])
    trainer.calculate_loss((images, torch.tensor(job.first_labels)))
    loss = trainer.losses["metric_loss"]
    loss.backward()
    gradient_norm = take_gradient_norm(trunk, embedder)
    start = job.clock()
    trainer.train(num_epochs=1)
    return Measurement(
        loss.item(),
        gradient_norm,
        times["trained"] - start,
        waiting.seconds,
        times["evaluated"] - times["trained"],
        results["precision_at_1_level0"],
        held,
    )


def pml_tester(job: Job) -> Any:
    from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    include = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    return GlobalEmbeddingSpaceTester(
        batch_size=job.evaluation_batch,
        dataloader_num_workers=job.workers,
        data_device=torch.device("cpu"),
        accuracy_calculator=AccuracyCalculator(include=include, k="max_bin_count"),
    )


# --- open-metric-learning ---


def run_oml(job: Job, *, by_hand: bool) -> Measurement:
    from oml.datasets import ImageLabeledDataset, ImageQueryGalleryLabeledDataset
    from oml.samplers import BalanceSampler
    from tqdm import tqdm

    waiting = Waiting(job.clock)
    model = oml_extractor(*peer_model(job, by_hand))
    for_training, for_evaluation = peer_transforms(job, by_hand)
    data = ImageLabeledDataset(oml_table(job, "train"), transform=for_training)
    test = ImageQueryGalleryLabeledDataset(oml_table(job, "test"), transform=for_evaluation)
    sampler = BalanceSampler(
        data.get_labels(), n_labels=job.classes_per_batch, n_instances=job.images_per_class
    )
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler, num_workers=job.workers)
    criterion = contrastive(job)
    trunk_lr, embedder_lr = job.rates
    groups = [
        {"params": list(model.trunk.parameters()), "lr": trunk_lr},
        {"params": list(model.embedder.parameters()), "lr": embedder_lr},
    ]
    optimizer = torch.optim.AdamW(groups, **job.adamw)
    model.train()
    for module in batchnorm(model):
        module.eval()
    held = resident("VmRSS")
    loss, gradient_norm = oml_first_batch(model, criterion, for_evaluation, job)

    start = job.clock()
    for batch in tqdm(waiting.each(oml_steps(loader, job.steps)), total=job.steps):
        step_loss = criterion(model(batch["input_tensors"]), batch["labels"])
        step_loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = job.clock()
    recall = oml_evaluate(model, test, job)
    evaluation = job.clock() - trained
    return Measurement(loss, gradient_norm, trained - start, waiting.seconds, evaluation, recall, held)


def oml_steps(loader: Any, steps: int) -> Iterator[Any]:
    """As many batches as there are steps, one pass of the loader after the other."""
    while steps > 0:
        for batch in loader:
            yield batch
            steps -= 1
            if not steps:
                return


def oml_extractor(trunk: nn.Module, embedder: nn.Module) -> Any:
    from oml.interfaces.models import IExtractor

    class Extractor(IExtractor):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.embedder = trunk, embedder

        def forward(self, images: Tensor) -> Tensor:
            return normalize(self.embedder(self.trunk(images)))

        @property
        def feat_dim(self) -> int:
            return int(self.embedder.out_features)

    return Extractor()


def oml_table(job: Job, half: str) -> Any:
    import pandas as pd

    files = sorted((Path(job.folder) / half).glob("*/*.png"))
    rows = {"label": [int(file.parent.name) for file in files], "path": [str(file) for file in files]}
    return pd.DataFrame({**rows, "is_query": True, "is_gallery": True})


def oml_first_batch(model: Any, criterion: nn.Module, transform: Any, job: Job) -> tuple[float, float]:
    from oml.utils.images.images import imread_pillow

    images = torch.stack([transform(imread_pillow(Path(file).read_bytes())) for file in job.first_files()])
    loss = criterion(model(images), torch.tensor(job.first_labels))
    loss.backward()
    return loss.item(), take_gradient_norm(model)


def oml_evaluate(model: Any, test: Any, job: Job) -> float:
    from oml.inference import inference
    from oml.metrics import calc_retrieval_metrics_rr
    from oml.retrieval import RetrievalResults

    embeddings = inference(model, test, batch_size=job.evaluation_batch, num_workers=job.workers)
    labels = torch.as_tensor(test.get_labels())
    top = int(labels.bincount().max()) - 1
    results = RetrievalResults.from_embeddings(embeddings, test, n_items=max(top, 8))
    metrics = calc_retrieval_metrics_rr(
        results, cmc_top_k=(1, 2, 4, 8), map_top_k=(top,), precision_top_k=(top,), verbose=False
    )
    return float(metrics["cmc"][1])


RUNS: dict[str, Callable[[Job], Measurement]] = {
    "dml": partial(run_dml, files=False),
    "dml, PNG files": partial(run_dml, files=True),
    "pytorch-metric-learning": partial(run_pml, by_hand=False),
    "pytorch-metric-learning, by hand": partial(run_pml, by_hand=True),
    "open-metric-learning": partial(run_oml, by_hand=False),
    "open-metric-learning, by hand": partial(run_oml, by_hand=True),
}


def resident(field: str) -> float:
    """MiB of this process now (VmRSS) or at its peak (VmHWM); getrusage would count the parent's before the start."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    name, file = sys.argv[1:]
    job = Job(**json.loads(Path(file).read_text()))
    torch.set_num_threads(job.threads)
    measured = RUNS[name](job)
    print(json.dumps(asdict(measured) | {"memory": resident("VmHWM")}))


if __name__ == "__main__":
    main()
