"""Seconds until the command says something, and until it trains.

    python benchmarks/startup.py                                   # of this checkout
    python benchmarks/startup.py --train "python train.py"         # of another version, in its checkout

Each is a process of its own, started several times in turn. Others who use the machine make times longer and never
shorter, so the shortest is printed, and beside it the shortest processor time of all threads, which they touch less.
Training is the main job: it is *ready* when all parts are built and steps.csv is there; then the prototypes are
initialised and the untrained model is validated; its *first step* is done when steps.csv has a line. Then it is killed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

DML = [sys.executable, "-m", "dml"]
PAUSE = 0.005  # seconds between two looks at a file


class Times(NamedTuple):
    """Seconds by the clock, and of the processor."""

    clock: float
    processor: float


def spent(begin: float, process: int | None = None) -> Times:
    """Since a point in time: of a process that runs, or of all that have ended since the last call."""
    clock = time.monotonic() - begin
    if process is None:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Times(clock, usage.ru_utime + usage.ru_stime)
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return Times(clock, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"))


def time_of(*command: str) -> Times:
    """Until the process has ended, however it ends."""
    before, begin = spent(0).processor, time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = spent(begin)
    return after._replace(processor=after.processor - before)


def times_to_train(train: list[str]) -> tuple[Times, Times]:
    """Until the main job is ready, and until its first step is done."""
    found: list[Times] = []
    with tempfile.TemporaryDirectory() as folder:
        steps = Path(folder) / "run" / "steps.csv"
        begin = time.monotonic()
        process = subprocess.Popen([*train, f"hydra.run.dir={steps.parent}"], stdout=subprocess.DEVNULL)
        for lines in (1, 2):
            while not steps.exists() or steps.read_text(encoding="utf-8").count("\n") < lines:
                if process.poll() is not None:
                    sys.exit(f"{shlex.join(train)} has ended before it trained")
                time.sleep(PAUSE)
            found.append(spent(begin, process.pid))
        process.kill()
        process.wait()
    return found[0], found[1]


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
    commands = {
        "import dml": [sys.executable, "-c", "import dml"],
        "a refused key": [*train, "sede=7"],
        "its help": [*train, "--help"],
    }
    if not arguments.train:
        commands["dml --help"] = [*DML, "--help"]
    times: dict[str, list[Times]] = {name: [] for name in (*commands, "ready to train", "first step")}
    for _ in range(arguments.repeats):
        for name, command in commands.items():
            times[name].append(time_of(*command))
        ready, begun = times_to_train(train)
        times["ready to train"].append(ready)
        times["first step"].append(begun)
    print(f"{'':16} clock  processor   seconds, the shortest of {arguments.repeats}")
    for name, values in times.items():
        clock, processor = (min(column) for column in zip(*values, strict=True))
        print(f"{name:16} {clock:5.2f} {processor:10.2f}")


if __name__ == "__main__":
    main()
