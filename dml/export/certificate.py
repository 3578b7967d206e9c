"""What an export is worth: held against the run on real images, and refused beyond a bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dml.data import decode_source
from dml.errors import InputError
from dml.export.real_images import RealImages
from dml.index.fingerprint import draw_golden_images
from dml.model import EmbeddingModel

__all__ = ["BATCHES", "BOUNDS", "Bounds", "Certifier", "check_bounds", "versions"]

BATCHES = (1, 2, 7, 64)
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "pillow")
MODULES = {"pillow": "PIL"}


@dataclass(frozen=True)
class Bounds:
    """What an export may differ by.

    difference:    of a component of a vector, on any image, in any batch.
    map_at_r:      that map@r may be lower by.
    first_answers: the least share of images whose most similar other image is the same.
    """

    difference: float
    map_at_r: float
    first_answers: float


BOUNDS = {
    "fp32": Bounds(1e-4, 0.001, 0.995),
    "fp16": Bounds(1e-2, 0.005, 0.95),
    "int8": Bounds(0.1, 0.02, 0.7),
}


class Certifier:
    """Holds the parts of an export against the model that they come from, on the same images.

    model:  in evaluation mode, on the CPU.
    images: real ones.
    """

    def __init__(self, model: EmbeddingModel, images: RealImages) -> None:
        self._model, self.images = model, images
        self._squares = np.stack(
            [
                model.preprocess(decode_source(file, number)).numpy()
                for number, file in enumerate(images.files)
            ]
        )
        self._expected, self._speed = _timed(self._run_model, self._squares)
        self._golden = model.embed(draw_golden_images()).numpy()

    def _run_model(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._model.embed_squares(torch.from_numpy(squares)).numpy()
        return found

    @property
    def run(self) -> dict[str, Any]:
        """The figures of the run itself."""
        return {"map@r": self._map_at_r(self._expected), "images_per_second": round(self._speed, 1)}

    def of_pt2(self, path: Path) -> dict[str, Any]:
        """The figures of a graph of torch."""
        graph = torch.export.load(path).module()

        @torch.no_grad()
        def run(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = graph(torch.from_numpy(squares))["vectors"].numpy()
            return found

        return self._of_graph(path.name, run)

    def of_onnx(self, folder: Path) -> dict[str, Any]:
        """The figures of a graph of ONNX, and of the files that its own embed.py reads."""
        script = _import_script(folder / "embed.py")
        session = script.open_model(folder / "model.onnx")
        figures = self._of_graph("model.onnx", lambda squares: script.run_model(session, squares)["vectors"])
        try:
            figures["largest_difference"] |= {
                "from files": _largest(script.embed(self.images.files), self._expected),
                "golden images": _largest(script.embed(draw_golden_images()), self._golden),
            }
        except script.Unreadable as error:
            raise InputError(f"embed.py of this export does not read what the run reads: {error}") from error
        return figures

    def _of_graph(self, name: str, run: Run) -> dict[str, Any]:
        differences = {f"batches of {size}": self._in_batches(name, run, size) for size in BATCHES}
        found, speed = _timed(run, self._squares)
        differences["all images"] = _largest(found, self._expected)
        ours, theirs = self._map_at_r(found), self._map_at_r(self._expected)
        return {
            "largest_difference": differences,
            "first_answers": self._agreement(found),
            "map@r": ours,
            "map@r_change": None if ours is None or theirs is None else ours - theirs,
            "images_per_second": round(speed, 1),
        }

    def _in_batches(self, name: str, run: Run, size: int) -> float:
        rows = np.arange(size) % len(self._squares)
        try:
            return _largest(run(self._squares[rows]), self._expected[rows])
        except Exception as error:  # of whichever library runs it
            raise InputError(f"{name} of this export takes no batch of {size}: {error}") from error

    def _agreement(self, found: NDArray[np.float32]) -> float:
        """Another answer that the run finds equally similar, but for rounding, agrees too."""
        ours, theirs = (self.images.first_answers(vectors) for vectors in (found, self._expected))
        queries = self.images.queries
        gap = np.einsum("nd,nd->n", self._expected[queries], self._expected[theirs] - self._expected[ours])
        return float(((ours == theirs) | (gap <= 1e-6)).mean())

    def _map_at_r(self, vectors: NDArray[np.float32]) -> float | None:
        return self.images.map_at_r(torch.from_numpy(vectors))


def check_bounds(figures: dict[str, dict[str, Any]], precision: str) -> None:
    """Refuse an export that differs from its run by more than the bounds of its precision.

    figures: by the name of each file.

    Raises:
        InputError: it does; the message names the worst.
    """
    bounds = BOUNDS[precision]
    if precision == "fp32":
        advice = "report it with your versions of torch and onnxruntime, and take --format torch meanwhile"
    else:
        advice = "take --precision fp32"
    for name, of in figures.items():
        if found := list(_beyond(of, bounds)):
            raise InputError(
                f"{name} of this export is not the model of the run: {'; '.join(found)}. Nothing was left behind: "
                + advice
            )


def _beyond(of: dict[str, Any], bounds: Bounds) -> Iterator[str]:
    where, worst = max(of["largest_difference"].items(), key=lambda item: item[1])
    if worst > bounds.difference:
        yield f"a vector differs by {worst:.2g} ({where}), and {bounds.difference:g} is allowed"
    if (change := of["map@r_change"]) is not None and change < -bounds.map_at_r:
        yield f"map@r changes by {change:+.4f}, and -{bounds.map_at_r} is allowed"
    if of["first_answers"] < bounds.first_answers:
        yield f"{of['first_answers']:.1%} of first answers agree, and {bounds.first_answers:.1%} is the least"


def versions() -> dict[str, str]:
    """Of what made and measured an export."""
    return {name: version(name) for name in PACKAGES if find_spec(MODULES.get(name, name))}


def _largest(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """NaN is no difference that any bound allows."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max())


def _timed(run: Run, squares: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """The vectors (n, D), in batches of 64, and images a second after a first batch."""
    run(squares[:64])
    start = time.perf_counter()
    vectors = [run(squares[first : first + 64]) for first in range(0, len(squares), 64)]
    return np.concatenate(vectors), len(squares) / (time.perf_counter() - start)


def _import_script(path: Path) -> ModuleType:
    """The module in a file, without the folder of bytecode that an import would leave beside it."""
    module = ModuleType("exported_embed")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), module.__dict__)
    return module
