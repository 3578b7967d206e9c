"""Speed of loading: images a second on one core, from JPEG files to batches of 224 × 224, beside the usual way.

    python benchmarks/loading.py [--rounds 31] [--images 96]
    python benchmarks/loading.py --quality 96     # files of the size of those of CUB, about 100 kB

The files are generated: 500 × 375, content with the spectrum of photographs. The usual way is
Pillow and torchvision's transforms, v1: open, convert to RGB, RandomResizedCrop, RandomHorizontalFlip, ToTensor,
Normalize; with Resize(256) first it has the geometry of ours, whose short side is at 256 before crops are drawn.
Ours yields bytes, which the model normalises on its own device; "and normalised" adds that, in batches, here.
All take turns in every round, in one thread of one process; a ratio is taken within a round. Printed are medians, and
for the ratio to each of the usual ways its 95 % interval.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from dml.data import Records, TrainingTransform, UniformSampler, training_batches
from dml.data.cache import cached
from dml.data.image_files import ImageFiles
from dml.data.records import ImageStore

WIDTH, HEIGHT = 500, 375
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE, RATIO, FLIP, SIZE, SHORT_SIDE, BATCH = (0.16, 1.0), (0.75, 4 / 3), 0.5, 224, 256, 32


def photograph(seed: int) -> Image.Image:
    """Noise with the power spectrum of photographs, which falls with the third power of the frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    amplitude = np.maximum(frequency, 1 / WIDTH) ** -1.5
    channels = []
    for deviation in (60, 20, 20):  # of brightness and of the two of colour
        noise = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(frequency.shape)), (HEIGHT, WIDTH))
        levels = 128 + deviation * (noise - noise.mean()) / noise.std()
        channels.append(Image.fromarray(levels.clip(0, 255).astype(np.uint8)))
    return Image.merge("YCbCr", channels).convert("RGB")


class UsualImages(Dataset[tuple[Tensor, int]]):
    def __init__(self, files: list[Path], transform: Callable[[Image.Image], Tensor]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with self.files[index].open("rb") as file:
            return self.transform(Image.open(file).convert("RGB")), index


def usual(files: list[Path], *, resize: bool) -> Callable[[], None]:
    transform = transforms.Compose(
        [
            *([transforms.Resize(SHORT_SIDE)] if resize else []),
            transforms.RandomResizedCrop(SIZE, SCALE, RATIO),
            transforms.RandomHorizontalFlip(FLIP),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(UsualImages(files, transform), BATCH, shuffle=True)

    def run() -> None:
        for _ in loader:
            pass

    return run


def ours(store: ImageStore, count: int, *, normalise: bool = False) -> Callable[[], None]:
    records = Records(store, np.arange(count), np.zeros(count, np.int64), ("",), ("",) * count)
    transform = TrainingTransform(size=SIZE, scale=SCALE, ratio=RATIO, flip=FLIP, whole_pixels=True)
    sampler = UniformSampler(records.labels, batch_size=BATCH, seed=0)
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))

    def run() -> None:
        steps = count // BATCH
        for batch in training_batches(
            records, transform, sampler, seed=0, start=0, stop=steps, num_workers=0
        ):
            if normalise:
                batch.images.float().sub_(mean).div_(std)

    return run


def interval(values: list[float]) -> str:
    """Median and its 95 % interval by order statistics."""
    ordered, n = sorted(values), len(values)
    k = max(0, math.floor(n / 2 - 0.98 * math.sqrt(n)) - 1)
    return f"{statistics.median(ordered):5.2f} ({ordered[k]:.2f} .. {ordered[n - 1 - k]:.2f})"


def compare(contestants: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each in every round; each runs once before."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--images", type=int, default=96, help=f"files, a multiple of {BATCH}")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG files; more makes them larger")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.jpg" for i in range(options.images)]
        for i, file in enumerate(files):
            photograph(i).save(file, quality=options.quality)
        images = ImageFiles(Path(folder), tuple(file.name for file in files), SHORT_SIDE)
        kept = cached(images, folder, "benchmark")
        size = statistics.mean(file.stat().st_size for file in files)
        print(f"{len(files)} files of {WIDTH} × {HEIGHT}, {size / 1e3:.0f} kB each; {options.rounds} rounds")
        seconds = compare(
            {
                "usual, same geometry": usual(files, resize=True),
                "usual, without Resize": usual(files, resize=False),
                "ours": ours(images, len(files)),
                "ours, cached": ours(kept, len(files)),
                "ours, and normalised": ours(images, len(files), normalise=True),
                "ours, cached, and normalised": ours(kept, len(files), normalise=True),
            },
            options.rounds,
        )
    print(f"{'':30}{'images/s':>8}   times the usual, same geometry   times the usual, without Resize")
    for name, values in seconds.items():
        ratios = [
            interval([base / own for base, own in zip(seconds[usual], values, strict=True)])
            for usual in ("usual, same geometry", "usual, without Resize")
        ]
        print(f"{name:30}{len(files) / statistics.median(values):8.0f}   {ratios[0]:31}{ratios[1]}")


if __name__ == "__main__":
    main()
