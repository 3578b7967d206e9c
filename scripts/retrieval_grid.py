"""Draw test queries and what a run finds for them, the hardest first: python scripts/retrieval_grid.py run=FOLDER

run=FOLDER         the run folder
count=6            queries, a row each
neighbours=8       of each query, the nearest first
order=hardest      or easiest, random
seed=0             orders queries that are equally hard
output=FILE        .png, .pdf or .svg; retrieval_grid.png in the run folder if not given
checkpoint=best    or last
data=DIR           where the data sets lie, if not where they lay in training
device=cpu         or cuda, ...; auto takes the GPU if there is one
trust=[a]          your own packages that the run may name; DML_TRUST=a does the same

The hardest queries have the lowest average precision up to rank R, the number of images that each should find; equals
come in an order drawn by the seed. A neighbour of the right class has a thin green frame and ✓, another a thick dashed
red one and ✗, both with their similarity.
"""

import sys
from dataclasses import dataclass, field

from omegaconf import MISSING

from dml.config import parse_arguments
from dml.reporting import readable_errors
from dml.reporting.figures import figure_path, save_figure
from dml.reporting.retrieval_grid import retrieval_grid_of_run


@dataclass
class Arguments:
    run: str = MISSING
    count: int = 6
    neighbours: int = 8
    order: str = "hardest"
    seed: int = 0
    output: str | None = None
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
    path = figure_path(arguments.output or f"{arguments.run}/retrieval_grid.png")
    figure = retrieval_grid_of_run(
        arguments.run,
        count=arguments.count,
        neighbours=arguments.neighbours,
        order=arguments.order,
        seed=arguments.seed,
        checkpoint=arguments.checkpoint,
        data=arguments.data,
        device=arguments.device,
        trust=arguments.trust,
    )
    save_figure(figure, path)
    print(path)


if __name__ == "__main__":
    main()
