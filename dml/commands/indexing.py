"""``dml index``: make an index and keep it up to date."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from dml.commands.app import Checkpoint, Device, Run, Trust, app, command

__all__ = ["Folder", "Json", "group"]

Sources = Annotated[
    list[str],
    typer.Argument(metavar="FOLDER...", help="Folders, image files, and tables (.csv) with a column path."),
]

Folder = Annotated[str, typer.Argument(metavar="INDEX", help="The folder of an index.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer for programs.")]

group = typer.Typer(
    help="Make an index of images, and keep it up to date.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(group, name="index")


@command("build", group)
def build(
    run: Run,
    sources: Sources,
    to: Annotated[str, typer.Option("--to", metavar="INDEX", help="The folder of the index.")],
    checkpoint: Checkpoint = "best",
    dtype: Annotated[
        str, typer.Option(metavar="float32|float16", help="How a new index stores vectors.")
    ] = "float32",
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Prepare a search that looks at a part of the vectors, and measure what it finds.",
        ),
    ] = False,
    device: Device = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Embed images into an index.

    As in: dml index build RUN photos --to photos.index

    Called again, it takes in what is new or changed. What cannot be read is named, and the exit status is then 1.
    """
    from dml.index.building import build_index

    _take_in(
        lambda: build_index(
            run,
            sources,
            to,
            checkpoint=checkpoint,
            dtype=dtype,
            device=device or "auto",
            trust=trust or (),
            approximate=approximate,
        ),
        to,
        json,
    )


@command("add", group)
def add(
    index: Folder, sources: Sources, device: Device = None, trust: Trust = None, json: Json = False
) -> None:
    """Take further images into an index.

    By the model that made it, and also those that were removed.
    """
    from dml.index.building import add_to_index

    _take_in(lambda: add_to_index(index, sources, device=device or "auto", trust=trust or ()), index, json)


def _take_in(work: Callable[[], object], folder: str, json: bool) -> None:
    from dataclasses import asdict
    from json import dumps

    from dml.index.intake import Changes
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


@command("remove", group)
def remove(
    index: Folder,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Images, or folders of images, to be forgotten."),
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="All whose files are no longer there.")] = False,
) -> None:
    """Remove images from an index. Their files are left alone, and `build` does not take them in again.

    Those of --missing come back with their files.
    """
    from dml.errors import InputError
    from dml.index.building import remove_from_index

    if not paths and not missing:
        raise InputError("nothing is to be removed: give paths, or --missing for all whose files are gone")
    gone, left = remove_from_index(index, paths or (), missing=missing)
    print(f"{index}: {len(gone):,} removed, {left:,} left")


@command("check", group)
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


@command("upgrade", group)
def upgrade(
    index: Folder,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="The run of the new model; that of the index if not given."),
    ] = None,
    checkpoint: Checkpoint = "best",
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Embed all images of an index by another model. The old one answers until all is done.

    After a kill, the same command goes on. It also gives back the room of images that were removed.
    """
    from dml.index.printing import print_unreadable
    from dml.index.upgrading import upgrade_index

    done = upgrade_index(index, run, checkpoint=checkpoint, device=device or "auto", trust=trust or ())
    changed = "" if done.changed is None else f"; {done.changed:.1%} of first answers are another image now"
    print(f"{index}: {done.items:,} images, {done.embedded:,} embedded now{changed}")
    print_unreadable(done.unreadable)
    if done.unreadable:
        sys.exit(1)
