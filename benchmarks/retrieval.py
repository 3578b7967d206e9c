"""Speed and memory of the retrieval metrics, side by side with peers, in one run.

    python benchmarks/retrieval.py [--repeats 7] [--oml-python VENV/bin/python] [--large] [--memory] [--processes 2]

Speed: all metrics by `retrieval_metrics` against a bare exact faiss search with the same k (add, then
search), pytorch-metric-learning (k="max_bin_count") and open-metric-learning. Repetitions are interleaved; a
ratio is the median over repetitions of time / time of the bare search in the same repetition, with quartiles.
open-metric-learning needs its own environment (numpy < 2), given by --oml-python, and is skipped without it.
Large: 60,502 x 512, the test size of Stanford Online Products, without peers.
Memory: rise of the peak of a fresh process beyond the embeddings at 60,502 x 512.
Processes: that many, of one thread each; in turn, one ranks all queries while the others wait, and each ranks its
share.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SHAPES = {"8,131 x 512, 98 classes": (8131, 98), "20,000 x 512, 5 a class": (20_000, 4000)}


def embeddings(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of `classes` clusters of equal size in a space of falling variances, like trained ones."""
    rng = np.random.default_rng(seed)
    spectrum = (1 + np.arange(512)) ** -0.5
    labels = np.arange(count) % classes
    spread = rng.uniform(0.5, 1.5, (count, 1))  # some images are typical of their class, some are not
    x = (rng.standard_normal((classes, 512))[labels] + spread * rng.standard_normal((count, 512))) * spectrum
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels.astype(np.int64)


def bare_search(x: np.ndarray, k: int) -> None:
    import faiss

    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    index.search(x, k)


def speed(
    name: str, count: int, classes: int, repeats: int, oml_python: str | None, *, peers: bool = True
) -> None:
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    from dml.retrieval import retrieval_metrics

    x, labels = embeddings(count, classes)
    tensors = torch.from_numpy(x), torch.from_numpy(labels)
    k = max(int(np.bincount(labels).max()) - 1, 8) + 1  # max(R, largest recall@k) and the own entry
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"), k="max_bin_count"
    )
    contestants: dict[str, Callable[[], object]] = {
        f"bare faiss search, k = {k}": lambda: bare_search(x, k),
        "dml, faiss": lambda: retrieval_metrics(*tensors, backend="faiss"),
        "dml, torch": lambda: retrieval_metrics(*tensors, backend="torch"),
    }
    if peers:
        contestants["pytorch-metric-learning"] = lambda: calculator.get_accuracy(*tensors)
    if torch.cuda.is_available():
        on_gpu = [part.cuda() for part in tensors]
        name_of_gpu = f"dml, torch, {torch.cuda.get_device_name()}"
        contestants[name_of_gpu] = lambda: retrieval_metrics(*on_gpu, backend="torch")
    times: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    with OpenMetricLearning(oml_python, x, labels) as oml:
        for _ in range(repeats + 1):  # the first is a warm-up
            for contestant, call in contestants.items():
                start = time.perf_counter()
                call()
                times[contestant].append(time.perf_counter() - start)
            if oml_python:
                times.setdefault("open-metric-learning", []).append(oml.seconds())
    metrics = retrieval_metrics(*tensors)
    print(
        f"\n{name} (recall@1 {metrics['recall@1']:.3f}, map@r {metrics['map@r']:.3f}), {repeats} repetitions"
    )
    print_table({contestant: values[1:] for contestant, values in times.items()})
    if peers and not oml_python:
        print(
            "open-metric-learning          skipped: pass --oml-python VENV/bin/python, where it is installed"
        )


def print_table(times: dict[str, list[float]]) -> None:
    base = next(iter(times.values()))
    print(f"{'':28}{'median s':>10}{'ratio':>8}   quartiles")
    for name, values in times.items():
        ratios = sorted(value / reference for value, reference in zip(values, base, strict=True))
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        print(f"{name:28}{statistics.median(values):10.3f}{middle:8.2f}   {low:.2f} .. {high:.2f}")


class OpenMetricLearning:
    """A process of the peer's own environment that evaluates the same embeddings whenever it is asked to."""

    def __init__(self, python: str | None, x: np.ndarray, labels: np.ndarray) -> None:
        self.python, self.arrays = python, {"x": x, "labels": labels}

    def __enter__(self) -> OpenMetricLearning:
        if self.python:
            self.folder = tempfile.TemporaryDirectory()
            file = Path(self.folder.name) / "embeddings.npz"
            np.savez(file, **self.arrays)
            command = [self.python, "-W", "ignore", __file__, "--serve-oml", str(file)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def seconds(self) -> float:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline()).startswith("seconds "):
            if not line:
                raise RuntimeError(f"open-metric-learning ended in {self.python}; see its message above")
        return float(line.split()[1])

    def __exit__(self, *_: object) -> None:
        if self.python:
            self.process.communicate()
            self.folder.cleanup()


def serve_oml(file: str) -> None:
    """Run in the peer's environment: one evaluation, without import time, per line of the input."""
    import pandas as pd
    import torch
    from oml.datasets import ImageQueryGalleryLabeledDataset
    from oml.metrics import calc_retrieval_metrics_rr
    from oml.retrieval import RetrievalResults

    arrays = np.load(file)
    x, labels = torch.from_numpy(arrays["x"]), arrays["labels"]
    paths = [f"{i}.jpg" for i in range(len(labels))]  # never opened
    table = pd.DataFrame({"label": labels, "path": paths, "is_query": True, "is_gallery": True})
    data = ImageQueryGalleryLabeledDataset(table)
    top = int(np.bincount(labels).max()) - 1
    for _ in sys.stdin:
        start = time.perf_counter()
        results = RetrievalResults.from_embeddings(x, data, n_items=max(top, 8))
        calc_retrieval_metrics_rr(
            results, cmc_top_k=(1, 2, 4, 8), map_top_k=(top,), precision_top_k=(top,), verbose=False
        )
        print("seconds", time.perf_counter() - start, flush=True)


def memory() -> None:
    """Print the rise of the peak memory, in this fresh process, of one evaluation at 60,502 x 512."""
    import torch

    from dml.retrieval import retrieval_metrics

    x, labels = (torch.from_numpy(a) for a in embeddings(60_502, 11_316))
    retrieval_metrics(x[:12_000:2].clone(), labels[:12_000:2])  # libraries are loaded and warm
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**30
    start = time.perf_counter()
    retrieval_metrics(x, labels)
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("\n60,502 x 512, 5.3 a class, on itself")
    print(f"resident {now:.2f} GiB before, {peak:.2f} GiB at the peak, {seconds:.1f} s")
    print(f"beyond the embeddings {peak - now:.2f} GiB, target below 1.50 GiB")


def shares(repeats: int) -> None:
    """Print, in the main process of those that torchrun started, the times of one process and of all."""
    import torch

    from dml.distributed import barrier, is_main, process_group, world_size
    from dml.retrieval import retrieval_metrics

    with process_group():
        times: dict[str, list[float]] = {"one process": [], f"{world_size()} processes": []}
        for name, (count, classes) in SHAPES.items():
            x, labels = (torch.from_numpy(a) for a in embeddings(count, classes))
            for _ in range(repeats + 1):  # the first is a warm-up
                for values, shared in zip(times.values(), (False, True), strict=True):
                    barrier()
                    start = time.perf_counter()
                    if shared or is_main():
                        retrieval_metrics(x, labels, shared=shared)
                    barrier()
                    values.append(time.perf_counter() - start)
            if is_main():
                print(f"\n{name}, threads of a process: {torch.get_num_threads()}, {repeats} repetitions")
                print_table({contestant: values[-repeats:] for contestant, values in times.items()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repetitions")
    parser.add_argument("--oml-python", help="python of an environment with open-metric-learning")
    parser.add_argument("--large", action="store_true", help="also measure 60,502 x 512, without peers")
    parser.add_argument("--memory", action="store_true", help="also measure memory at 60,502 x 512")
    parser.add_argument("--processes", type=int, help="also measure the search shared by so many processes")
    parser.add_argument("--only-shares", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--serve-oml", help=argparse.SUPPRESS)
    parser.add_argument("--only-memory", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_oml:
        serve_oml(arguments.serve_oml)
    elif arguments.only_memory:
        memory()
    elif arguments.only_shares:
        shares(arguments.repeats)
    else:
        for name, (count, classes) in SHAPES.items():
            speed(name, count, classes, arguments.repeats, arguments.oml_python)
        if arguments.large:
            speed("60,502 x 512, 5.3 a class", 60_502, 11_316, arguments.repeats, None, peers=False)
        if arguments.memory:
            subprocess.run([sys.executable, __file__, "--only-memory"], check=True)
        if arguments.processes:
            launcher = [
                "-m",
                "torch.distributed.run",
                f"--nproc-per-node={arguments.processes}",
                "--standalone",
            ]
            command = [sys.executable, *launcher, __file__, "--only-shares", f"--repeats={arguments.repeats}"]
            subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)


if __name__ == "__main__":
    main()
