"""The two numbers of an ensemble of folds, from what its runs stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dml.errors import InputError, MissingFileError
from dml.reporting.embeddings import read_embeddings
from dml.retrieval import ranks_of, retrieval_metrics

__all__ = ["concatenated_metrics", "separated_metrics"]


def separated_metrics(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the models."""
    return {name: float(np.mean([metrics[name] for metrics in figures])) for name in figures[0]}


def concatenated_metrics(folders: Sequence[Path], *, metrics: Iterable[str]) -> dict[str, float]:
    """Measure the L2-normalised test embeddings of several runs side by side, normalised again.

    Args:
        folders: run folders, one model each.
        metrics: names as in metrics.json; they say which recall@k to measure.

    Raises:
        MissingFileError: a run has not stored its test embeddings.
        InputError: the runs embedded different images.
    """
    stored = [_load(folder) for folder in folders]
    for folder, other in zip(folders[1:], stored[1:], strict=True):
        if not all(np.array_equal(stored[0][key], other[key]) for key in ("files", "labels")):
            raise InputError(
                f"{folders[0]} and {folder} were tested on different images, so their embeddings cannot be joined: "
                "train the folds of an ensemble on the same data set"
            )
    vectors = torch.cat([F.normalize(torch.from_numpy(part["vectors"]), dim=1) for part in stored], dim=1)
    ranks = ranks_of(metrics)
    joint, labels = F.normalize(vectors, dim=1), torch.from_numpy(stored[0]["labels"])
    if not _has_roles(stored[0]):
        return retrieval_metrics(joint, labels, recall_at=ranks)
    query, gallery = (torch.from_numpy(stored[0][role]) for role in ("is_query", "is_gallery"))
    return retrieval_metrics(joint[query], labels[query], joint[gallery], labels[gallery], recall_at=ranks)


def _has_roles(stored: Mapping[str, Any]) -> bool:
    """Whether queries and gallery are two sets, as for In-Shop."""
    return "is_query" in stored and not (stored["is_query"] & stored["is_gallery"]).all()


def _load(folder: Path) -> dict[str, Any]:
    path = folder / "test_embeddings.npz"
    if not path.is_file():
        raise MissingFileError(
            f"{path} is missing, and without it there is no ensemble: train {folder} again"
        )
    return read_embeddings(path)
