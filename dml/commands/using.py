"""Commands that use a finished run: search an index, decide what matches, find duplicates and leaks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dml.commands.app import Checkpoint, Data, Device, Run, Trust, command
from dml.commands.indexing import Folder, Json
from dml.reporting.endings import needs

__all__ = ["Exact", "Moved", "calibrate", "duplicates", "leaks", "search"]

Moved = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="The run of the index, if it is no longer where it was."),
]

Exact = Annotated[
    bool,
    typer.Option("--exact", help="Compare with all images, also if the index was built with --approximate."),
]

Turned = Annotated[
    bool,
    typer.Option(
        "--turned", help="Find mirrored and turned copies, too; takes eight times as long to embed."
    ),
]


@command("search")
def search(
    index: Folder,
    queries: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")],
    k: Annotated[
        int | None, typer.Option("-k", help="How many for each; 10, or all of a smaller index.")
    ] = None,
    above: Annotated[float | None, typer.Option(help="Leave out what is less similar.")] = None,
    label: Annotated[str | None, typer.Option(help="Look at images of this label only.")] = None,
    exact: Exact = False,
    match: Annotated[bool, typer.Option("--match", help="Say for each image: match or none.")] = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page with the images, too.")
    ] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a table.")] = False,
    run: Moved = None,
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Find the most similar images of an index.

    As in: dml search photos.index mug.jpg
    """
    from dml.errors import InputError
    from dml.index import printing
    from dml.index.index import open_index
    from dml.index.querying import answer_queries

    with open_index(index, run=run, device=device or "auto", trust=trust or (), exact=exact) as opened:
        if match and opened.calibration is None:
            raise InputError(
                f"no threshold is known for {opened.store.info.model}: find one by `dml calibrate "
                f"{opened.store.info.run} --precision 0.95`"
            )
        answers, unreadable = answer_queries(opened, queries, k, above=above, label=label)
        if json:
            print(printing.as_json(opened, answers, unreadable))
        elif csv:
            printing.print_csv(answers)
        else:
            printing.print_answers(opened, answers, match=match)
        if html is not None:
            printing.write_answers(html, opened, answers)
    printing.print_unreadable(unreadable)
    if unreadable:
        sys.exit(1)


@command("calibrate")
def calibrate(
    run: Run,
    precision: Annotated[
        float | None, typer.Option(help="The least share of matches that are right.")
    ] = None,
    false_match_rate: Annotated[
        float | None, typer.Option(help="Instead, the largest share of unrelated pairs that match.")
    ] = None,
    catalogue: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="For one query against a catalogue of N items, one of which is right. If not given, the precision "
            "holds for the share of right pairs among the validation images.",
        ),
    ] = None,
    json: Json = False,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Find the similarity from which on two images match.

    As in: dml calibrate RUN --precision 0.95

    Measured on the validation classes, which were not trained on, with an interval by resampling the classes. It is
    kept in the run, and its indexes then say which of their answers match.
    """
    needs("matplotlib", "the figure of a calibration")
    from dml.index import printing
    from dml.index.calibration import calibrate as measure
    from dml.index.calibration_figure import draw_calibration
    from dml.index.calibration_file import write_calibration
    from dml.reporting.figures import save_figure

    found = measure(
        run,
        precision=precision,
        false_match_rate=false_match_rate,
        catalogue=catalogue,
        checkpoint=checkpoint,
        data=data,
        device=device,
        trust=trust or (),
    )
    kept, figure = write_calibration(run, found.record), Path(run) / "calibration.png"
    save_figure(draw_calibration(found), figure)
    if json:
        print(printing.calibration_as_json(found))
        return
    printing.print_calibration(run, found)
    print(f"kept in {kept} and {figure}")


@command("duplicates")
def duplicates(
    index: Folder,
    above: Annotated[
        float | None,
        typer.Option(help="From which similarity on; measured on copies of its own images if not given."),
    ] = None,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page with the images, too.")
    ] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the pairs as a table.")] = False,
    apart: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE", help="Remember that these are no duplicates; given twice or more, and alone."
        ),
    ] = None,
    turned: Turned = False,
    run: Moved = None,
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Find images of an index that are the same, or nearly.

    As in: dml duplicates photos.index

    In a group, every image is alike to every other one.
    """
    from dml.index import printing
    from dml.index.duplicates import find_duplicates, keep_apart
    from dml.index.index import open_index

    if apart:
        keep_apart(index, [str(Path(path).absolute()) for path in apart])
        print(f"{index}: {len(apart)} images are kept apart")
        return
    with open_index(index, run=run, device=device or "auto", trust=trust or ()) as opened:
        found = find_duplicates(opened, above=above, turned=turned)
    if json:
        print(printing.duplicates_as_json(found))
    elif csv:
        printing.print_pairs(found)
    else:
        printing.print_duplicates(found)
    if html is not None:
        printing.write_duplicates(html, found)


@command("leaks")
def leaks(
    what: Annotated[
        list[str],
        typer.Argument(metavar="RUN|KEY=VALUE...", help="A run; or what `dml train` would be given."),
    ],
    above: Annotated[
        float | None,
        typer.Option(help="From which similarity on; measured on copies of test images if not given."),
    ] = None,
    turned: Turned = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print all pairs as a table.")] = False,
    data: Data = None,
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Find near-duplicates across the parts of a data set.

    As in: dml leaks RUN, or before any training: dml leaks dataset=emoji

    Training, validation and test images, as the model of the run sees them, or the one that training would begin with.
    """
    from dml.errors import InputError
    from dml.index import printing
    from dml.index.leaks import find_leaks, find_leaks_of_data

    if len(what) == 1 and ("=" not in what[0] or Path(what[0]).exists()):
        found = find_leaks(what[0], above=above, turned=turned, data=data, device=device, trust=trust or ())
    elif all("=" in word for word in what):
        if data or device or trust:
            raise InputError(
                "--data, --device and --trust are for a run: give paths.data=DIR, trainer.device=NAME"
            )
        found = find_leaks_of_data(what, above=above, turned=turned)
    else:
        raise InputError(
            f"{' '.join(what)}: give the folder of one run, or keys and values as in dataset=emoji"
        )
    if csv:
        printing.print_leak_table(found)
    else:
        printing.print_leaks(found)
