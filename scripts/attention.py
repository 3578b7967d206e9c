"""Draw what the model of a run looks at: python scripts/attention.py run=FOLDER images=[a.jpg,b.jpg]

run=FOLDER         the run folder
images=a.jpg       a file, a folder, a pattern in quotes, or a list of these; if not given, test images by the seed
count=6            rows of the figure, at most
seed=0             chooses the test images
output=FILE        .png, .pdf or .svg; attention.png in the run folder if not given
checkpoint=best    or last
data=DIR           where the data sets lie, if not where they lay in training
device=cpu         or cuda, ...; auto takes the GPU if there is one
trust=[a]          your own packages that the run may name; DML_TRUST=a does the same

Red locations count more than in average pooling, blue ones less; numbers are multiples of that weight. Beside the
weights stand the prototypes that receive most of an image, each with the locations that its part comes from.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from dml.config import parse_arguments
from dml.reporting import readable_errors
from dml.reporting.figures import figure_path, save_figure
from dml.reporting.weight_maps import weight_maps_of_run


@dataclass
class Arguments:
    run: str = MISSING
    images: Any = None
    count: int = 6
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
    path = figure_path(arguments.output or f"{arguments.run}/attention.png")
    images = arguments.images if isinstance(arguments.images, list) else [arguments.images]
    found = weight_maps_of_run(
        arguments.run,
        [str(image) for image in images if image is not None],
        count=arguments.count,
        seed=arguments.seed,
        checkpoint=arguments.checkpoint,
        data=arguments.data,
        device=arguments.device,
        trust=arguments.trust,
    )
    save_figure(found.figure, path)
    print(f"{found.drawn} of {found.total:,} images: {path}")


if __name__ == "__main__":
    main()
