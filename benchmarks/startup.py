"""Seconds until the command says something, and until it trains.

    python benchmarks/startup.py                                   # of this checkout
    python benchmarks/startup.py --train "python train.py"         # of another version, in its checkout

Each is a process of its own, started several times in turn; the shortest and the median time are printed, since others
who use the machine make times longer and never shorter. Training is the main job: it is *ready* when all parts are
built and steps.csv is there, *begun* when the first line of it is written. In between the prototypes are initialised
and the untrained model is validated. The process is then killed.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

DML = [sys.executable, "-m", "dml"]
PAUSE = 0.005  # seconds between two looks at a file


def seconds_of(*command: str) -> float:
    """Until the process has ended, however it ends."""
    begin = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.monotonic() - begin


def seconds_to_train(train: list[str]) -> tuple[float, float]:
    """Until the main job is ready, and until its first step is done."""
    with tempfile.TemporaryDirectory() as folder:
        steps, times = Path(folder) / "run" / "steps.csv", []
        begin = time.monotonic()
        process = subprocess.Popen([*train, f"hydra.run.dir={steps.parent}"], stdout=subprocess.DEVNULL)
        for lines in (1, 2):
            while not steps.exists() or steps.read_text(encoding="utf-8").count("\n") < lines:
                if process.poll() is not None:
                    sys.exit(f"{shlex.join(train)} has ended before it trained")
                time.sleep(PAUSE)
            times.append(time.monotonic() - begin)
        process.kill()
        process.wait()
    return times[0], times[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--train", help="the command that trains, as words; that of this checkout if not given"
    )
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    train = shlex.split(arguments.train) if arguments.train else [*DML, "train"]
    single: dict[str, Callable[[], float]] = {
        "import dml": lambda: seconds_of(sys.executable, "-c", "import dml"),
        "a refused key": lambda: seconds_of(*train, "sede=7"),
        "its help": lambda: seconds_of(*train, "--help"),
    }
    if not arguments.train:
        single["dml --help"] = lambda: seconds_of(*DML, "--help")
    times: dict[str, list[float]] = {name: [] for name in (*single, "ready to train", "first step")}
    for _ in range(arguments.repeats):
        for name, measure in single.items():
            times[name].append(measure())
        ready, begun = seconds_to_train(train)
        times["ready to train"].append(ready)
        times["first step"].append(begun)
    print(f"{'':20} shortest  median   of {arguments.repeats}, in seconds")
    for name, values in times.items():
        print(f"{name:20} {min(values):8.2f} {statistics.median(values):7.2f}")


if __name__ == "__main__":
    main()
