"""One contestant in a process of its own, which peers.py starts:

python benchmarks/run_contestant.py CONTESTANT JOB.json    # the last line of its output is the measurement
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from contestants import RUNS, Job
from contestants.job import resident


def main() -> None:
    name, file = sys.argv[1:]
    job = Job(**json.loads(Path(file).read_text()))
    torch.set_num_threads(job.threads)
    measured = RUNS[name](job)
    print(json.dumps(asdict(measured) | {"memory": resident("VmHWM")}))


if __name__ == "__main__":
    main()
