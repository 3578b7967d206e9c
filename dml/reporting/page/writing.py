"""Write the page of a run, or of several side by side."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dml.assembly import build_data
from dml.config import TrainConfig, build
from dml.data import Records
from dml.devices import choose_device
from dml.distributed import is_main
from dml.errors import InputError, MissingFileError, UserError, user_files
from dml.model import EmbeddingModel
from dml.reporting.page.comparison import comparison_of
from dml.reporting.page.contents import gather
from dml.reporting.page.images import Thumbnails
from dml.reporting.page.sections import Contents, TestSet
from dml.run_folder import RunFolder
from dml.runs import located_config, trained_model

__all__ = ["report_finished_run", "write_report"]


def write_report(
    folders: Sequence[str | os.PathLike[str]],
    to: Path | None = None,
    *,
    data: str | None = None,
    device: str | None = None,
    trust: Sequence[str] = (),
) -> Path:
    """Write the page of a finished run, or one that has several side by side, and give its path.

    Without the data set the page has no images, and says so.

    Args:
        folders: run folders; of several the first is what the others are compared with.
        to: the file; None for ``report.html`` in the folder of a single run, or here for several.
        data, device, trust: as in `evaluate_run`.

    Raises:
        MissingFileError: a folder is no run folder, or its run is not finished.
        InputError: no folder was given, or test_embeddings.npz is not as a run writes it.
    """
    if not folders:
        raise InputError("no run was given: name one run folder or more")
    runs = [RunFolder(Path(folder)) for folder in folders]
    path = to or (runs[0].report if len(runs) == 1 else Path("report.html"))
    contents = [_read(run, data=data, device=device, trust=trust, alone=len(runs) == 1) for run in runs]
    _write(contents, path)
    return path


def report_finished_run(
    folder: RunFolder, cfg: TrainConfig, *, records: Records | None, model: EmbeddingModel
) -> None:
    """Write ``report.html`` at the end of training, from what is in memory; the main process does.

    A page that fails is a warning: the run is finished, and the page can be made again.
    """
    if not is_main():
        return
    try:
        contents = gather(folder, cfg, images=_thumbnails(cfg, records), model=model, umap=False)
        _write([contents], folder.report)
    except Exception as error:  # whatever it is, the run has its figures
        warnings.warn(
            f"{folder.report} could not be written ({type(error).__name__}: {error}); the run itself is finished",
            stacklevel=2,
        )


def _read(
    run: RunFolder, *, data: str | None, device: str | None, trust: Sequence[str], alone: bool
) -> Contents:
    cfg = located_config(run, data=data, device=device, trust=trust)
    records = _test_images(run, cfg) if alone else None
    model = trained_model(cfg, run, device=choose_device(cfg)) if records is not None else None
    return gather(run, cfg, images=_thumbnails(cfg, records), model=model)


def _test_images(run: RunFolder, cfg: TrainConfig) -> Records | None:
    """The test set that the run was measured on, if it is where the configuration says."""
    if not run.test_embeddings.exists():
        return None
    try:
        test = build_data(cfg).test
    except (UserError, OSError):
        return None
    return test if test is not None and test.files == tuple(TestSet.read(run).files) else None


def _thumbnails(cfg: TrainConfig, records: Records | None) -> Thumbnails | None:
    return None if records is None else Thumbnails(records, build(cfg.transform.evaluation))


def _write(contents: Sequence[Contents], path: Path) -> None:
    template = _templates().get_template("run.html" if len(contents) == 1 else "comparison.html")
    values: dict[str, Any] = (
        {"run": contents[0]} if len(contents) == 1 else {"comparison": comparison_of(contents, path)}
    )
    partial = path.with_name(path.name + ".partial")
    with user_files(f"writing {path}"):
        if not path.parent.is_dir():
            raise MissingFileError(
                f"there is no folder {path.parent} for {path.name}: make it, or name another"
            )
        partial.write_text(template.render(values), encoding="utf-8")
        partial.replace(path)


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("dml.reporting.page"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}%"
    return environment
