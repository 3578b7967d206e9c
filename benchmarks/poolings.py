"""Time and memory of every pooling of configs/pooling, relative to global average pooling.

    python benchmarks/poolings.py               # the whole table, about five minutes on 2 cores
    python benchmarks/poolings.py gem max       # these only
    python benchmarks/poolings.py --rounds 9    # quicker, wider intervals
    python benchmarks/poolings.py --device cuda # on a GPU, which is waited for; memory is then that of its tensors

Times are forward + backward at a batch of 32, for a map of 512 × 7 × 7 and for 196 tokens of 384, all poolings in turn
within each round; the ratio to GAP is the median over rounds with its 95 % interval by order statistics. The settings
are those of the YAML files. The gradient enters at the vectors and, where there are any, at the attributes.

Memory is the peak of resident memory of a process of its own during one forward + backward, beyond what it held before,
features included in what it held; their gradient counts; a first pass at the same size has loaded libraries. malloc
is told to map every large block separately, so that freed memory is really returned. Parameters are learned numbers.

The table is Markdown, map / tokens in each cell: the columns "time" and "memory" of docs/components.md.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from measure import interleave, interval, name_of, peak_in_new_process, peak_of, wait
from torch import Tensor, nn

CONFIGS = Path(__file__).parents[1] / "configs"
SIZES = {"map": (32, 512, 7, 7), "tokens": (32, 196, 384)}
BASELINE = "gap"


def build(name: str, kind: str, device: str = "cpu") -> tuple[nn.Module, Tensor]:
    """A pooling and features for it, of about unit length at each location."""
    shape = SIZES[kind]
    channels = shape[1] if len(shape) == 4 else shape[2]
    torch.manual_seed(0)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        node = compose(f"pooling/{name}").pooling
    pooling = instantiate(node, in_channels=channels)
    features = torch.randn(shape) / math.sqrt(channels)
    return pooling.to(device), features.to(device).requires_grad_()


def step(pooling: nn.Module, features: Tensor) -> float:
    """Milliseconds of one forward + backward."""
    features.grad = None
    pooling.zero_grad()
    wait(features.device)
    start = time.perf_counter()
    vectors, attributes, _ = pooling(features)
    outputs = [vectors] if attributes is None else [vectors, attributes]
    torch.autograd.backward(outputs, [output.detach() for output in outputs])
    wait(features.device)
    return (time.perf_counter() - start) * 1e3


def time_poolings(
    names: list[str], kind: str, repeats: int, threads: int, device: str
) -> dict[str, list[float]]:
    torch.set_num_threads(threads)
    return interleave({name: partial(step, *build(name, kind, device)) for name in names}, repeats)


def measure_memory(name: str, kind: str, device: str) -> float:
    pooling, features = build(name, kind, device)
    step(pooling, features)  # libraries and threads allocate on first use
    features.grad = None
    pooling.zero_grad()
    return peak_of(lambda: step(pooling, features), device)


def compare(names: list[str], repeats: int, threads: int, device: str) -> None:
    times = {}
    for kind in SIZES:  # what one size leaves in the allocator changes the times of the next
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            work = process.submit(time_poolings, [BASELINE, *names], kind, repeats, threads, device)
            times[kind] = work.result()
    base_memory = {kind: memory_of(BASELINE, kind, threads, device) for kind in SIZES}
    print(f"on: {name_of(device)}\n")
    print("| pooling | time | memory | parameters |\n|---|---:|---:|---:|")
    for name in names:
        ratios = [
            interval([a / b for a, b in zip(times[kind][name], times[kind][BASELINE], strict=True)])
            for kind in SIZES
        ]
        speed = " / ".join("{:.1f} ({:.1f} .. {:.1f})".format(*ratio) for ratio in ratios)
        memory = " / ".join(
            f"{memory_of(name, kind, threads, device) / base_memory[kind]:.1f}" for kind in SIZES
        )
        parameters = " / ".join(f"{count_parameters(name, kind):,}" for kind in SIZES)
        print(f"| `{name}` | {speed} | {memory} | {parameters} |", flush=True)


def memory_of(name: str, kind: str, threads: int, device: str) -> float:
    return peak_in_new_process(__file__, name, kind, "--threads", threads, "--device", device)


def count_parameters(name: str, kind: str) -> int:
    return sum(parameter.numel() for parameter in build(name, kind)[0].parameters())


def main() -> None:
    known = sorted(path.stem for path in (CONFIGS / "pooling").glob("*.yaml"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of configs/pooling; all but {BASELINE} if none is given")
    parser.add_argument("--rounds", type=int, default=31, help="repetitions of every measurement")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(measure_memory(*options.memory_of, options.device))
        return
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(
            f"no file in configs/pooling is called {', '.join(sorted(unknown))}; there are {', '.join(known)}"
        )
    names = options.names or [name for name in known if name != BASELINE]
    compare(names, options.rounds, options.threads, options.device)


if __name__ == "__main__":
    main()
