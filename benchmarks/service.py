"""Requests a second of `dml serve`, and how long each takes, over loopback.

    python benchmarks/service.py                                   # 10,000 and 100,000 items, 1 and 16 clients
    python benchmarks/service.py --items 10000 --requests 2000

The items are random unit vectors of 128 numbers with rows in the database as `dml index build` writes them; no image
of theirs exists. The model is the smallest there is, at 32 x 32 pixels, since it is the service that is measured: what
a larger one takes for an image comes on top (`--backbone efficientnet_lite0 --size 128`). A request uploads one of 64
JPEG files of 400 x 300 pixels, so that decoding, embedding, search and answer are in the time. By ``vectors`` it brings
the vector instead, which leaves the search and HTTP.
Clients are threads of another process, each with one connection that it keeps, and ask again when they have their
answer. Memory is the resident set of the service after a tenth of the requests of a row, and after all of them.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DIMENSION = 128
AT_ONCE = 10_000  # items that are added at a time
SETTING = [
    "sampler.classes_per_batch=8",
    "trainer.max_steps=1",
    "trainer.eval_every=1",
    "debug=smoke",
]  # nothing is learnt


class Load(NamedTuple):
    """Seconds of each request, and of all by the clock; how many failed; MiB of the service, early and late."""

    each: NDArray[np.float64]
    all: float
    failed: int
    early: float
    late: float


def make_run(folder: Path, backbone: str = "tiny", size: int = 32, *, dimension: int = DIMENSION) -> Path:
    """A run folder, trained for a step: what it knows is of no account here."""
    words = [
        *SETTING,
        f"hydra.run.dir={folder}",
        f"backbone={backbone}",
        f"transform.size={size}",
        f"embedding_dim={dimension}",
    ]
    done = subprocess.run([sys.executable, "-m", "dml", "train", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return folder


def make_index(folder: Path, run: Path, count: int, image: Path) -> Path:
    """An index of one image, and of so many random vectors more."""
    from dml.index.building import build_index
    from dml.index.layout import IndexFolder
    from dml.index.writer import NewItem, alone, open_writer

    build_index(run, [image], folder)
    index, rng = IndexFolder(folder), np.random.default_rng(0)
    with alone(index), open_writer(index) as writer:
        for start in range(1, count, AT_ONCE):
            numbers = range(start, min(count, start + AT_ONCE))
            vectors = rng.standard_normal((len(numbers), writer.info.dimension)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            items = [
                NewItem(f"/none/{number}.jpg", 1, 1, f"{number:064x}", 400, 300, f"label {number % 100}", {})
                for number in numbers
            ]
            writer.add(items, vectors)
        writer.finish()
    return folder


def pictures(count: int = 64) -> list[bytes]:
    """JPEG files of smooth colours with edges."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((400, 300), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def bodies(by: str) -> tuple[list[bytes], str]:
    """What is sent, and its type."""
    if by == "vectors":
        vectors = np.random.default_rng(2).standard_normal((64, DIMENSION))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found = [json.dumps({"vectors": [vector.round(6).tolist()], "k": 10}).encode() for vector in vectors]
        return found, "application/json"
    border = secrets.token_hex(8)
    head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'.encode()
    return [head + picture + f"\r\n--{border}--\r\n".encode() for picture in pictures()], (
        f"multipart/form-data; boundary={border}"
    )


def ask(port: int, clients: int, requests: int, by: str, answer: multiprocessing.Queue[object]) -> None:
    """Ask so many times by so many clients, in a process of its own."""
    sent, kind = bodies(by)
    seconds: list[float] = []
    failed: list[str] = []
    left = iter(range(requests))
    lock = threading.Lock()

    def client() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return connection.close()
            begin = time.perf_counter()
            connection.request("POST", "/search", sent[number % len(sent)], {"Content-Type": kind})
            response = connection.getresponse()
            content = response.read()
            seconds.append(time.perf_counter() - begin)
            if response.status != 200 or b'"hits":[{' not in content:
                failed.append(f"{response.status} {content[:200]!r}")

    begin = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answer.put((seconds, time.perf_counter() - begin, failed))


def load(process: int, port: int, clients: int, requests: int, by: str) -> Load:
    """The same, twice: a tenth to warm up, and the rest, which is measured."""
    memory = []
    for count in (requests // 10, requests):
        answer: multiprocessing.Queue[object] = multiprocessing.get_context("spawn").Queue()
        child = multiprocessing.get_context("spawn").Process(
            target=ask, args=(port, clients, count, by, answer)
        )
        child.start()
        seconds, total, failed = answer.get()  # type: ignore[misc]
        child.join()
        memory.append(resident(process))
        if failed:
            print(f"{len(failed)} failed, as {failed[0]}", file=sys.stderr)
    return Load(np.array(seconds), total, len(failed), *memory)


def resident(process: int) -> float:
    """MiB of a process that are in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(index: Path, clients: Sequence[int], requests: int, by: Sequence[str]) -> None:
    """A line of the table for each number of clients and each way to ask."""
    command = [sys.executable, "-m", "dml", "serve", str(index), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        items, line = service.stdout.readline().split()[3], service.stdout.readline()
        port = int(line.split("/ answers")[0].rpartition(":")[2])
        for way in by:
            for number in clients:
                found = load(service.pid, port, number, requests, way)
                half, most, nearly_all = (1000 * np.quantile(found.each, q) for q in (0.5, 0.95, 0.99))
                print(
                    f"| {items} | {way} | {number} | {requests:,} | {len(found.each) / found.all:,.0f} | {half:.1f} | "
                    f"{most:.1f} | {nearly_all:.1f} | {found.failed} | {found.early:.0f} | {found.late:.0f} |",
                    flush=True,
                )
        service.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--by", nargs="+", choices=("images", "vectors"), default=["images", "vectors"])
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--size", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "a.jpg").write_bytes(pictures(1)[0])
        run = make_run(folder / "run", options.backbone, options.size)
        print(
            "| items | by | clients | requests | a second | 50 % ms | 95 % ms | 99 % ms | errors | MiB early | late |"
        )
        print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for count in options.items:
            index = make_index(folder / f"index-{count}", run, count, folder / "a.jpg")
            measure(index, options.clients, options.requests, options.by)


if __name__ == "__main__":
    main()
