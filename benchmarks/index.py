"""What an index takes: time and memory of a search, images a second of a build, and files that come later.

    python benchmarks/index.py search                  # 1,000,000 vectors of 512 numbers; needs 3 GB on the disk
    python benchmarks/index.py approximate             # 100,000 vectors of 128 numbers in 1,000 clusters
    python benchmarks/index.py build --backbone efficientnet_lite0 --size 128
    python benchmarks/index.py add                     # 100 files to 50,000

The vectors of items are random, and no files of theirs exist; images are JPEG files of 400 x 300 pixels. Memory is the
largest resident set of a process that does nothing but search, with all that it imports.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from service import make_run, pictures

from dml.data import decode
from dml.index.building import add_to_index, build_index
from dml.index.index import Index, open_index
from dml.index.layout import IndexFolder
from dml.index.store import Store
from dml.index.writer import NewItem, alone, create_index, open_writer
from dml.runs import load_model

AT_ONCE = 20_000  # items that are added at a time
SEARCH = "import sys; sys.path[:0] = [sys.argv[1]]; import index; index.search(*sys.argv[2:])"


def random_vectors(count: int, dimension: int, rng: np.random.Generator) -> NDArray[np.float32]:
    vectors = rng.standard_normal((count, dimension), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(folder: Path, count: int, *, clusters: int = 0) -> None:
    """Add so many random items to an index, around as many centres if there are any."""
    rng = np.random.default_rng(0)
    with alone(IndexFolder(folder)), open_writer(IndexFolder(folder)) as writer:
        dimension, first = writer.info.dimension, writer.rows
        centres = random_vectors(max(1, clusters), dimension, rng)
        for start in range(0, count, AT_ONCE):
            numbers = range(first + start, first + min(count, start + AT_ONCE))
            vectors = random_vectors(len(numbers), dimension, rng)
            if clusters:
                vectors = 0.8 * vectors + centres[rng.integers(0, clusters, len(numbers))]
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            items = [NewItem(f"/none/{n}.jpg", 1, 1, f"{n:064x}", 400, 300, None, {}) for n in numbers]
            writer.add(items, vectors)
        writer.finish()


def empty_index(folder: Path, run: Path) -> Path:
    create_index(IndexFolder(folder), load_model(run), run=str(run), checkpoint="best", dtype="float32")
    return folder


def search(folder: str, queries: str) -> None:
    """Search a few times, and print the median time and the largest memory."""
    with open_index(folder, exact=True) as index:
        asked = random_vectors(int(queries), index.store.info.dimension, np.random.default_rng(1))
        seconds = times_of(index, asked)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"{len(asked)} queries: {np.median(seconds):.2f} s, at most {memory:,.0f} MiB resident")


def times_of(index: Index, queries: NDArray[np.float32], times: int = 5) -> list[float]:
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        index.search_vectors(queries, 10)
        seconds.append(time.perf_counter() - begin)
    return seconds


def measure_search(place: Path, run: Path) -> None:
    folder = empty_index(place / "large", run)
    fill(folder, 1_000_000)
    size = (folder / "vectors.npy").stat().st_size / 2**30
    print(f"1,000,000 x 512 float32, vectors.npy of {size:.2f} GiB", flush=True)
    for queries in (1, 16):
        subprocess.run(
            [sys.executable, "-c", SEARCH, str(Path(__file__).parent), str(folder), str(queries)], check=True
        )


def measure_approximate(place: Path, run: Path) -> None:
    from dml.index.approximate import make_approximate

    folder = empty_index(place / "clustered", run)
    fill(folder, 100_000, clusters=1000)
    begin = time.perf_counter()
    with alone(IndexFolder(folder)), open_writer(IndexFolder(folder)) as writer:
        recall = make_approximate(writer)
        writer.finish(approximate=vars(recall))
    print(f"made and measured in {time.perf_counter() - begin:.1f} s: {recall}")
    store = Store(folder)
    queries = store.vectors_of(np.arange(0, 100_000, 6250))
    store.close()
    for exact in (True, False):
        with open_index(folder, exact=exact) as index:
            one, many = times_of(index, queries[:1]), times_of(index, queries)
        way = "exact" if exact else "approximate"
        print(
            f"{way}: {1000 * np.median(one):.1f} ms for 1 query, {1000 * np.median(many):.1f} ms for 16",
            flush=True,
        )


def write_pictures(folder: Path, count: int) -> list[Path]:
    """So many files, each another one."""
    folder.mkdir(parents=True)
    files = pictures(count)
    for number, content in enumerate(files):
        (folder / f"{number:06}.jpg").write_bytes(content)
    return sorted(folder.iterdir())


def measure_build(place: Path, run: Path, count: int = 256) -> None:
    """Images a second from files to an index, beside those of the model alone on images that are decoded."""
    files = write_pictures(place / "photos", count)
    model = load_model(run)
    squares = torch.stack([model.preprocess(decode(file)) for file in files])
    model.embed_squares(squares[:64])
    for attempt in range(3):
        begin = time.perf_counter()
        for part in torch.split(squares, 64):
            model.embed_squares(part)
        alone_ = count / (time.perf_counter() - begin)
        changes = build_index(run, [place / "photos"], place / f"index {attempt}")
        built = count / changes.seconds
        print(
            f"model alone {alone_:.0f} images a second, build {built:.0f}: {built / alone_:.2f}", flush=True
        )


def measure_add(place: Path, run: Path) -> None:
    """100 files into an index of 50,000, beside the same into an empty one; both load the model."""
    write_pictures(place / "new", 100)
    large = empty_index(place / "50,000", run)
    fill(large, 50_000)
    for attempt in range(3):
        begin = time.perf_counter()
        build_index(run, [place / "new"], place / f"empty {attempt}")
        small = time.perf_counter() - begin
        begin = time.perf_counter()
        changes = add_to_index(large, [place / "new"])
        took = time.perf_counter() - begin
        print(f"100 files alone {small:.2f} s, to 50,000 {took:.2f} s ({changes.added} added)", flush=True)
        with open_writer(IndexFolder(large)) as writer:
            writer.remove([item.id for item in writer.items() if "/new/" in item.path])
            writer.finish()


MEASURED = {
    "search": measure_search,
    "approximate": measure_approximate,
    "build": measure_build,
    "add": measure_add,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=MEASURED)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--size", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        dimension = 512 if options.what == "search" else 128
        run = make_run(Path(place) / "run", options.backbone, options.size, dimension=dimension)
        MEASURED[options.what](Path(place), run)


if __name__ == "__main__":
    main()
