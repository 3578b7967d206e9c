"""Two sets on which the right figure is known, whatever is done to their folders, and how it is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dml.data import Records, TrainTest, folder, table
from dml.retrieval import retrieval_metrics

__all__ = ["CHANCE", "read_folder", "read_table", "recall", "write_colours", "write_noise"]

CHANCE = 0.2  # with 40 classes of 3 images without any class information, more is found by less than one set in 10^4


def write_noise(root: Path) -> Path:
    """40 classes of 3 random images: nothing is to be found but by chance."""
    rng = np.random.default_rng(0)
    for c in range(40):
        (root / f"class {c}").mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(root / f"class {c}" / f"{i}.png")
    return root


def write_colours(root: Path) -> Path:
    """24 classes of 4 images in one colour with a little noise: everything is to be found."""
    rng = np.random.default_rng(0)
    for c in range(24):
        (root / f"café {c}").mkdir(parents=True)
        colour = np.array([c % 3, c // 3 % 3, c // 9]) * 80 + 40
        for i in range(4):
            pixels = (colour + rng.integers(-5, 6, (8, 8, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"café {c}" / f"{i}.png")
    return root


def read_folder(root: Path) -> TrainTest:
    return folder(str(root), short_side=None, cache=False, cache_folder="")


def read_table(path: Path) -> TrainTest:
    return table(str(path), short_side=None, cache=False, cache_folder="")


def recall(records: Records) -> float:
    """Recall@1 of the pixels themselves, as a model that has learned nothing sees them."""
    pixels = np.stack([records.image(i) for i in range(len(records))]).reshape(len(records), -1)
    centred = torch.from_numpy(pixels).float() - 128
    vectors = torch.nn.functional.normalize(torch.cat([centred, torch.full_like(centred, 128)], dim=1))
    return retrieval_metrics(vectors, torch.from_numpy(records.labels), recall_at=[1])["recall@1"]
