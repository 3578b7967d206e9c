"""How many planted copies `dml duplicates` finds, and how many of its groups are wrong.

    python benchmarks/duplicates.py RUN                # 300 drawings of dataset=emoji, five copies of each
    python benchmarks/duplicates.py RUN --data grocery.zip

A copy is found if it is of one pair with its original. A group is false if it holds copies of two originals; drawings
of one emoji by several vendors are different images, and so are photographs of one product.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from dml.index.building import build_index
from dml.index.copies import ALTERATIONS
from dml.index.duplicates import find_duplicates
from dml.index.index import open_index

IMAGES = (".webp", ".png", ".jpg", ".jpeg")


def plant(archive: Path, folder: Path, count: int) -> int:
    """Write images of an archive drawn by seed 0, with their copies beside them; how many originals."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as images:
        names = sorted(name for name in images.namelist() if name.lower().endswith(IMAGES))
        chosen = np.random.default_rng(0).choice(len(names), min(count, len(names)), replace=False)
        for number, name in enumerate(sorted(chosen)):
            image = Image.open(io.BytesIO(images.read(names[name]))).convert("RGB")
            image.save(folder / f"{number:05} original.png")
            for kind, alter in ALTERATIONS.items():
                alter(image).convert("RGB").save(folder / f"{number:05} {kind}.png")
    return len(chosen)


def measure(folder: Path, originals: int, *, turned: bool) -> None:
    """A line for each kind of copy, and one for the groups."""
    with open_index(folder) as index:
        found = find_duplicates(index, turned=turned)
    split = [[Path(item.path).stem.split(" ", 1) for item in pair[:2]] for pair in found.pairs]
    counts: Counter[str] = Counter()
    for (one, kind), (other, other_kind) in split:
        if one == other and "original" in (kind, other_kind):
            counts[other_kind if kind == "original" else kind] += 1
    way = "turned" if turned else "plain"
    for kind in ALTERATIONS:
        print(f"| {way} | {kind} | {counts[kind] / originals:.1%} |")
    wrong = sum(len({Path(item.path).name[:5] for item in group}) > 1 for group in found.groups)
    pairs = sum(one != other for (one, _), (other, _) in split)
    print(
        f"{way}: {wrong} of {len(found.groups)} groups are false ({wrong / max(1, len(found.groups)):.2%}), and "
        f"{pairs} of {len(split):,} pairs, from {found.above:.4f} on",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parents[1] / "data" / "emoji" / "emoji.zip"
    )
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        originals = plant(options.data, Path(place) / "images", options.count)
        build_index(options.run, [Path(place) / "images"], Path(place) / "index")
        for turned in (False, True):
            measure(Path(place) / "index", originals, turned=turned)


if __name__ == "__main__":
    main()
