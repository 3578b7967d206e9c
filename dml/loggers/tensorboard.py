"""TensorBoard: scalars, what the pooling looks at, and how its prototypes are used."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dml.contracts import FollowedRun, Logger
from dml.loggers.services import require
from dml.model import EmbeddingModel
from dml.modes import evaluation_mode
from dml.run_folder import RunFolder
from dml.training.pooling_statistics import prototype_use
from dml.weight_maps import NoGridError, NoWeightsError, drawn_maps, weight_maps

__all__ = ["TensorBoardLogger"]

STRONGEST = 3  # prototypes that are drawn of each image
SIDE = 128  # pixels of each image in a picture


class TensorBoardLogger(Logger):
    """Event files in ``tensorboard/`` of the run folder; a resumed run writes over the steps after ``run.start``.

    Over the watched images it is drawn what the pooling looks at, at each validation. Colours are full at nothing and
    at twice the uniform weight; ``attention/departure/*`` is the largest departure from it.

    Raises:
        UnavailableError: TensorBoard is not installed.
    """

    def __init__(self, run: FollowedRun) -> None:
        require("tensorboard", "TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        self._images = run.watched()
        self._writer = SummaryWriter(
            RunFolder(run.folder).tensorboard, purge_step=run.start + 1 if run.start else None
        )

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        self._write(step, "", scalars)

    def validation(self, step: int, metrics: Mapping[str, float], model: EmbeddingModel) -> None:
        self._write(step, "val/", metrics)
        if self._images is None:
            return
        self._write_prototype_use(step, model, self._images)
        try:
            maps = weight_maps(model, self._images, strongest=STRONGEST)
        except (NoWeightsError, NoGridError):  # most poolings are not there to be looked at
            return
        picture = drawn_maps(maps, side=SIDE)
        self._writer.add_image("attention", picture.pixels, step)
        self._write(step, "attention/departure/", picture.departures)

    def close(self) -> None:
        self._writer.close()

    def _write_prototype_use(self, step: int, model: EmbeddingModel, images: Tensor) -> None:
        """A bar for each prototype, by its number: its share of the attributes of the images."""
        with torch.no_grad(), evaluation_mode(model):
            attributes = model(images.to(model.projection.weight.device)).attributes
        if attributes is None:
            return
        use = prototype_use(attributes).cpu()
        count = len(use)
        self._writer.add_histogram_raw(
            "prototypes/use",
            min=0,
            max=count,
            num=count,
            sum=1.0,
            sum_squares=use.square().sum().item(),
            bucket_limits=list(range(1, count + 1)),
            bucket_counts=use.tolist(),
            global_step=step,
        )

    def _write(self, step: int, prefix: str, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(prefix + name.replace("@", "_at_"), value, step)
