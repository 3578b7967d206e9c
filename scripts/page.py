"""Make the page of a run, or of several side by side: python scripts/page.py runs=FOLDER

runs=FOLDER        a run folder, or several as in runs=[a,b]; the first is what the others are compared with
to=FILE            report.html in the folder of a single run, or here for several, if not given
data=DIR           where the data sets lie, if not where they lay in training
device=cpu         or cuda, ...; auto takes the GPU if there is one
trust=[a]          your own packages that the run may name; DML_TRUST=a does the same
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from dml.config import parse_arguments
from dml.reporting import readable_errors, write_report


@dataclass
class Arguments:
    runs: Any = MISSING
    to: str | None = None
    data: str | None = None
    device: str | None = None
    trust: list[str] = field(default_factory=list)


@readable_errors
def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    arguments = parse_arguments(Arguments, sys.argv[1:])
    runs = arguments.runs if isinstance(arguments.runs, list) else [arguments.runs]
    to = Path(arguments.to) if arguments.to else None
    print(write_report(runs, to, data=arguments.data, device=arguments.device, trust=arguments.trust))


if __name__ == "__main__":
    main()
