"""``dml index``, ``dml search`` and what else a finished run is good for, as commands.

What a command needs is imported when it is called, so that help takes no longer than Python itself.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

__all__ = ["app", "index_app", "mount"]

P = ParamSpec("P")

Run = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.")]
Folder = Annotated[str, typer.Argument(metavar="INDEX", help="The folder of an index.")]
Sources = Annotated[
    list[str],
    typer.Argument(metavar="FOLDER...", help="Folders, image files, and tables (.csv) with a column path."),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="Of the model: cpu, cuda, cuda:1, ...")]
Checkpoint = Annotated[str, typer.Option(metavar="best|last", help="Which weights of the run.")]
Trust = Annotated[
    list[str] | None,
    typer.Option(metavar="PACKAGE", help="A package of your own that the run may name; may be repeated."),
]
Moved = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="The run of the index, if it is no longer where it was."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer for programs.")]

OPTIONS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, context_settings=OPTIONS)
index_app = typer.Typer(
    help="Make an index of images, and keep it up to date.", no_args_is_help=True, rich_markup_mode=None
)


def mount(other: typer.Typer) -> None:
    """Let a command have all of these as its own."""
    other.add_typer(index_app, name="index")
    other.registered_commands += app.registered_commands


def _command(owner: typer.Typer, name: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a function whose errors end it with one sentence."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @owner.command(name)
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> None:
            from dml.reporting import readable_errors

            readable_errors(function)(*args, **kwargs)

        return called

    return register


@_command(index_app, "build")
def build(
    run: Run,
    sources: Sources,
    to: Annotated[str, typer.Option("--to", metavar="INDEX", help="The folder of the index.")],
    checkpoint: Checkpoint = "best",
    dtype: Annotated[
        str, typer.Option(metavar="float32|float16", help="How a new index stores vectors.")
    ] = "float32",
    device: Device = "cpu",
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Embed images into an index: dml index build RUN photos --to photos.index

    Called again, it takes in what is new or changed. What cannot be read is named, and the exit status is then 1.
    """
    from dml.index.building import build_index

    _take_in(
        lambda: build_index(
            run, sources, to, checkpoint=checkpoint, dtype=dtype, device=device, trust=trust or ()
        ),
        to,
        json,
    )


@_command(index_app, "add")
def add(
    index: Folder, sources: Sources, device: Device = "cpu", trust: Trust = None, json: Json = False
) -> None:
    """Take further images into an index, by the model that made it."""
    from dml.index.building import add_to_index

    _take_in(lambda: add_to_index(index, sources, device=device, trust=trust or ()), index, json)


def _take_in(work: Callable[[], object], folder: str, json: bool) -> None:
    from dataclasses import asdict
    from json import dumps

    from dml.index.building import Changes
    from dml.index.printing import print_changes, print_unreadable

    try:
        changes = work()
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; what was embedded is in {folder}, and the same command goes on\n")
        sys.exit(130)
    assert isinstance(changes, Changes)
    if json:
        print(dumps(asdict(changes), indent=2))
        print_unreadable(changes.unreadable)
    else:
        print_changes(folder, changes)
    if changes.unreadable:
        sys.exit(1)


@_command(index_app, "remove")
def remove(
    index: Folder,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Images, or folders of images, to be forgotten."),
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="All whose files are no longer there.")] = False,
) -> None:
    """Remove images from an index. Their files are left alone."""
    from dml.errors import InputError
    from dml.index.building import remove_from_index

    if not paths and not missing:
        raise InputError("nothing is to be removed: give paths, or --missing for all whose files are gone")
    gone, left = remove_from_index(index, paths or (), missing=missing)
    print(f"{index}: {len(gone):,} removed, {left:,} left")


@_command(index_app, "check")
def check(index: Folder, json: Json = False) -> None:
    """Read all of an index and look at every file of it; the exit status is 1 if anything is wrong."""
    from dataclasses import asdict
    from json import dumps

    from dml.index.checking import check_index
    from dml.index.printing import short

    report = check_index(index)
    if json:
        print(dumps(asdict(report), indent=2))
    else:
        print(
            f"{index}: {report.items:,} images, {len(report.damaged):,} damaged, {len(report.missing):,} files "
            f"missing, {len(report.changed):,} changed since"
        )
        for line in report.damaged:
            print(f"  damaged: {line}")
        for what, paths in (("missing", report.missing), ("changed", report.changed)):
            for path in paths:
                print(f"  {what}: {short(path)}")
    if report.damaged or report.missing or report.changed:
        sys.exit(1)


@_command(index_app, "upgrade")
def upgrade(
    index: Folder,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="The run of the new model; that of the index if not given."),
    ] = None,
    checkpoint: Checkpoint = "best",
    device: Device = "cpu",
    trust: Trust = None,
) -> None:
    """Embed all images of an index by another model. The old one answers until all is done.

    After a kill, the same command goes on. It also gives back the room of images that were removed.
    """
    from dml.index.printing import print_unreadable
    from dml.index.upgrading import upgrade_index

    done = upgrade_index(index, run, checkpoint=checkpoint, device=device, trust=trust or ())
    changed = "" if done.changed is None else f"; {done.changed:.1%} of first answers are another image now"
    print(f"{index}: {done.items:,} images, {done.embedded:,} embedded now{changed}")
    print_unreadable(done.unreadable)
    if done.unreadable:
        sys.exit(1)


@_command(app, "search")
def search(
    index: Folder,
    queries: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")],
    k: Annotated[
        int | None, typer.Option("-k", help="How many for each; 10, or all of a smaller index.")
    ] = None,
    above: Annotated[float | None, typer.Option(help="Leave out what is less similar.")] = None,
    match: Annotated[bool, typer.Option("--match", help="Say for each image: match or none.")] = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page with the images, too.")
    ] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a table.")] = False,
    run: Moved = None,
    device: Device = "cpu",
    trust: Trust = None,
) -> None:
    """Find the most similar images of an index.

    As in: dml search photos.index mug.jpg
    """
    from dml.errors import InputError
    from dml.index import printing
    from dml.index.index import open_index
    from dml.index.querying import answer_queries

    with open_index(index, run=run, device=device, trust=trust or ()) as opened:
        if match and opened.calibration is None:
            raise InputError(
                f"no threshold is known for {opened.store.info.model}: find one by `dml calibrate "
                f"{opened.store.info.run} --precision 0.95`"
            )
        answers, unreadable = answer_queries(opened, queries, k, above=above)
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


@_command(app, "calibrate")
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
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where the data sets lie, if not where they lay in training."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda, ...; that of the run.")
    ] = None,
    trust: Trust = None,
) -> None:
    """Find the similarity from which on two images match.

    As in: dml calibrate RUN --precision 0.95

    Measured on the validation classes, which were not trained on, with an interval by resampling the classes. It is
    kept in the run, and its indexes then say which of their answers match.
    """
    from pathlib import Path

    from dml.reporting.endings import needs

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


@_command(app, "duplicates")
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
    run: Moved = None,
    device: Device = "cpu",
    trust: Trust = None,
) -> None:
    """Find images of an index that are the same, or nearly.

    As in: dml duplicates photos.index

    In a group, every image is alike to every other one.
    """
    from pathlib import Path

    from dml.index import printing
    from dml.index.duplicates import find_duplicates, keep_apart
    from dml.index.index import open_index

    if apart:
        keep_apart(index, [str(Path(path).absolute()) for path in apart])
        print(f"{index}: {len(apart)} images are kept apart")
        return
    with open_index(index, run=run, device=device, trust=trust or ()) as opened:
        found = find_duplicates(opened, above=above)
    if json:
        print(printing.duplicates_as_json(found))
    elif csv:
        printing.print_pairs(found)
    else:
        printing.print_duplicates(found)
    if html is not None:
        printing.write_duplicates(html, found)


@_command(app, "leaks")
def leaks(
    run: Run,
    above: Annotated[
        float | None,
        typer.Option(help="From which similarity on; measured on copies of test images if not given."),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print all pairs as a table.")] = False,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where the data sets lie, if not where they lay in training."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda, ...; that of the run.")
    ] = None,
    trust: Trust = None,
) -> None:
    """Find near-duplicates across the parts of a data set.

    Training, validation and test images of a run, as its model sees them.
    """
    from dml.index import printing
    from dml.index.leaks import find_leaks

    found = find_leaks(run, above=above, data=data, device=device, trust=trust or ())
    if csv:
        printing.print_leak_table(found)
    else:
        printing.print_leaks(found)


if __name__ == "__main__":
    mount(app_alone := typer.Typer(context_settings=OPTIONS))
    app_alone()
