"""From a run to a folder that embeds images without this framework, held against the run before it is there."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dml
from dml.assembly import build_data
from dml.config import TrainConfig
from dml.data import Records, metadata
from dml.errors import ConfigError
from dml.export import embed
from dml.export.certificate import BOUNDS, Certifier, check_bounds, versions
from dml.export.graphs import half_precision, trace, write_onnx, write_pt2
from dml.export.licences import licences_text
from dml.export.placing import placed
from dml.export.preprocessing import FORMAT, preprocessing_of
from dml.export.quantisation import quantise
from dml.export.real_images import draw_images
from dml.index.fingerprint import draw_golden_images, fingerprint_of
from dml.model import EmbeddingModel
from dml.runs import located_config, trained_model

__all__ = ["export_run"]

FORMATS = {"onnx": ("model.onnx",), "torch": ("model.pt2",), "both": ("model.onnx", "model.pt2")}
MOST_IMAGES = 1000  # that a certificate is measured on, and the rest of the last class
CALIBRATION = 128  # training images by which 8 bits are fitted
GOLDEN = ("0.jpg", "1.jpg", "2.jpg", "3.png", "4.png")
"""The files of `draw_golden_images`."""


def export_run(
    run: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    format: str | None = None,
    precision: str = "fp32",
    checkpoint: str = "best",
    data: str | None = None,
    images: int = MOST_IMAGES,
    trust: Sequence[str] = (),
) -> dict[str, Any]:
    """Export the model of a run, and measure on images of its data set how it differs; docs/export.md lists the files.

    Args:
        to: a folder that is new, empty, or an export, which is then replaced at once.
        format: ``onnx``, ``torch`` or ``both``; None is both, or onnx for int8.
        precision: ``fp32``, ``fp16`` or ``int8``, of the backbone.
        checkpoint: ``best`` or ``last``.
        data: where the data set lies now, see `dml.runs.evaluate_run`.
        images: about how many it is measured on.
        trust: as in `dml.load_model`.

    Returns:
        The content of certificate.json.

    Raises:
        ConfigError: no such format or precision, or one that does not go with the other.
        InputError: it differs from the run beyond the bounds of its precision, or the images are prepared by code that
            is not of this framework. Nothing is left behind then.
        MissingFileError: the run, its checkpoint or its data set is not there.
        OccupiedError: ``to`` holds something else.
    """
    names = _files(format, precision)
    if images < 2:
        raise ConfigError(f"--images {images}: a certificate needs at least 2 images, and 1000 are usual")
    cfg = located_config(run, data=data, device="cpu", trust=trust)
    model = trained_model(cfg, run, checkpoint=checkpoint)
    identity = {"run": Path(run).name, "checkpoint": checkpoint, "fingerprint": fingerprint_of(model)}
    preprocess = preprocessing_of(model)
    with placed(to, "certificate.json") as folder:
        allowed = {"golden_difference": BOUNDS[precision].difference}
        _write_json(folder / "preprocess.json", preprocess | allowed | {"model": identity})
        _write_golden(folder / "golden", model)
        (folder / "LICENSES").write_text(licences_text(cfg.backbone, cfg.dataset), encoding="utf-8")
        splits = build_data(_as_files(cfg))
        certifier = Certifier(model, draw_images(splits, images))
        figures = _write_graphs(folder, model, names, precision, splits.train, certifier)
        check_bounds(figures, precision)
        certificate = {
            "format": FORMAT,
            "model": identity,
            "precision": precision,
            "bounds": vars(BOUNDS[precision]),
            "measured_on": certifier.images.described,
            "run": certifier.run,
            **figures,
            "versions": {"dml": dml.__version__} | versions(),
        }
        _write_json(folder / "certificate.json", certificate)
    return certificate


def _as_files(cfg: TrainConfig) -> TrainConfig:
    """A data set that reads its files when they are asked for: few are, and as they are."""
    for key in ("cache", "check"):
        if key in cfg.dataset:
            cfg.dataset[key] = False
    return cfg


def standalone_script() -> str:
    """The source of embed.py with what it imports of this framework written into it."""
    own = r'\A"""(?s:.*?)"""\n|^(?:from __future__|__all__) .*\n'
    imported = re.sub(own, "", inspect.getsource(metadata), flags=re.M).strip()
    before, after = re.split(r"^from dml\.data\.metadata import .*\n", inspect.getsource(embed), flags=re.M)
    return f"{before}{imported}\n{after}"


def _write_graphs(
    folder: Path,
    model: EmbeddingModel,
    names: Sequence[str],
    precision: str,
    train: Records,
    certifier: Certifier,
) -> dict[str, dict[str, Any]]:
    """Write the graphs, and return the figures of each by its name."""
    program, figures = trace(half_precision(model) if precision == "fp16" else model), {}
    if "model.onnx" in names:
        (folder / "embed.py").write_text(standalone_script(), encoding="utf-8")
        write_onnx(program, folder / "model.onnx", fingerprint=fingerprint_of(model))
        before = _quantise(folder, model, train, certifier) if precision == "int8" else {}
        figures["model.onnx"] = certifier.of_onnx(folder) | before
    if "model.pt2" in names:
        write_pt2(program, folder / "model.pt2")
        figures["model.pt2"] = certifier.of_pt2(folder / "model.pt2")
    return figures


def _quantise(folder: Path, model: EmbeddingModel, train: Records, certifier: Certifier) -> dict[str, float]:
    """Put 8 bits into the place of model.onnx; how fast that one was."""
    graph, whole = folder / "model.onnx", folder / "whole.onnx"
    before = certifier.of_onnx(folder)
    graph.replace(whole)
    rows = np.linspace(0, len(train) - 1, min(CALIBRATION, len(train))).astype(int)
    quantise(whole, graph, (model.preprocess(train.image(row)).numpy() for row in rows))
    whole.unlink()
    return {"images_per_second_in_fp32": before["images_per_second"]}


def _write_golden(folder: Path, model: EmbeddingModel) -> None:
    folder.mkdir()
    images = draw_golden_images()
    for name, content in zip(GOLDEN, images, strict=True):
        (folder / name).write_bytes(content)
    np.save(folder / "vectors.npy", model.embed(images).numpy())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _files(format: str | None, precision: str) -> tuple[str, ...]:
    if precision not in BOUNDS:
        raise ConfigError(f"--precision {precision}: accepted are {', '.join(BOUNDS)}")
    if format is not None and format not in FORMATS:
        raise ConfigError(f"--format {format}: accepted are {', '.join(FORMATS)}")
    if precision == "int8" and format in ("torch", "both"):
        raise ConfigError(
            f"--format {format} --precision int8: only onnxruntime computes with 8 bits; take --format onnx, or "
            "another precision"
        )
    return FORMATS[format or ("onnx" if precision == "int8" else "both")]
