"""Measure a finished run again: python scripts/evaluate.py run=FOLDER

run=FOLDER        the run folder
checkpoint=best   or last
data=DIR          where the data sets lie, if not where they lay in training
device=cpu        or cuda, ...; auto takes the GPU if there is one
trust=[a]         your own packages that the run may name; DML_TRUST=a does the same
"""

import sys
from dataclasses import dataclass, field

from omegaconf import MISSING

from dml.config import parse_arguments
from dml.reporting import print_evaluation, readable_errors
from dml.runs import evaluate_run


@dataclass
class Arguments:
    run: str = MISSING
    checkpoint: str = "best"
    data: str | None = None
    device: str | None = None
    trust: list[str] = field(default_factory=list)


@readable_errors
def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    arguments = parse_arguments(Arguments, sys.argv[1:])
    metrics = evaluate_run(
        arguments.run,
        checkpoint=arguments.checkpoint,
        data=arguments.data,
        device=arguments.device,
        trust=arguments.trust,
    )
    if not print_evaluation(arguments.run, metrics, compare=arguments.checkpoint == "best"):
        sys.exit(1)


if __name__ == "__main__":
    main()
