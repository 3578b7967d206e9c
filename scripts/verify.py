"""Repeat the first steps of a run and say whether they are identical: python scripts/verify.py run=FOLDER

run=FOLDER     the run folder; nothing in it is changed
steps=20       how many steps are repeated
data=DIR       where the data sets lie, if not where they lay in training
weights=FILE   the weights that the backbone started from, if they do not lie where they lay in training
trust=[a]      your own packages that the run may name; DML_TRUST=a does the same
"""

import sys
from dataclasses import dataclass, field

from omegaconf import MISSING

from dml.config import parse_arguments
from dml.reporting import print_verification, readable_errors
from dml.verification import repeat_steps


@dataclass
class Arguments:
    run: str = MISSING
    steps: int = 20
    data: str | None = None
    weights: str | None = None
    trust: list[str] = field(default_factory=list)


@readable_errors
def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    arguments = parse_arguments(Arguments, sys.argv[1:])
    verification = repeat_steps(
        arguments.run,
        arguments.steps,
        data=arguments.data,
        weights=arguments.weights,
        trust=arguments.trust,
    )
    if not print_verification(verification):
        sys.exit(1)


if __name__ == "__main__":
    main()
