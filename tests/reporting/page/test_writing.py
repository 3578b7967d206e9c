"""The page of a run: whole, alone, escaped, and never the end of a run."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dml.config import TrainConfig, read_config
from dml.reporting.page import report_finished_run, write_report, writing
from dml.run_folder import RunFolder
from tests.photographs import write_finished_run

Compose = Callable[..., TrainConfig]
MEBIBYTE = 2**20


class Page(HTMLParser):
    """What a browser would find: ids, targets of links, addresses, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.ids |= {values["id"]} if values.get("id") else set()
        self.links += [values["href"]] if values.get("href") else []
        self.sources += [values["src"]] if values.get("src") else []

    def handle_data(self, data: str) -> None:
        self.words += f"{data} "


@pytest.fixture(scope="module")
def run(compose_smoke: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finished_run(tmp_path_factory.mktemp("page"), compose_smoke)


def test_train_leaves_a_page_that_needs_nothing_else(smoke_run: Path) -> None:
    text = (smoke_run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(text) < 3 * MEBIBYTE
    assert not re.search(r"https?:|@import|src=.//|url\((?!.data:)", text.replace("http://www.w3.org", ""))
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert len(page.sources) > 60
    assert page.links and {link.removeprefix("#") for link in page.links} <= page.ids
    assert {"classes", "confused", "hardest", "similarities", "plane", "looks"} <= page.ids


def test_the_page_says_what_was_trained_how_it_went_and_what_to_type(smoke_run: Path) -> None:
    words = " ".join(Page((smoke_run / "report.html").read_text(encoding="utf-8")).words.split())
    figures = json.loads((smoke_run / "metrics.json").read_text(encoding="utf-8"))
    for text in (
        "backbone ConvNet EfficientNetLite0",
        "trainer.max_steps 6 300",
        f"Kept: step {figures['step']} of 6",
        f"{figures['test']['map@r']:.2%}",
        f"dml verify {smoke_run}",
        "95 % interval",
    ):
        assert text in words


def test_names_of_classes_are_text_and_no_markup(compose_smoke: Compose, tmp_path: Path) -> None:
    folder = write_finished_run(tmp_path, compose_smoke)
    path = folder / "test_embeddings.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    evil = "<script>alert('\"1')</script>"
    arrays["class_names"] = np.array([evil, *arrays["class_names"][1:]])
    np.savez(path, **arrays)
    page = Page(write_report([folder]).read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1 and evil in page.words


def test_without_its_data_a_run_still_has_its_figures(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = write_report([tmp_path / "run"], data=str(tmp_path / "nowhere"))
    page = Page(path.read_text(encoding="utf-8"))
    assert path == tmp_path / "run" / "report.html" and not page.sources
    assert "The data set was not at hand" in page.words and {"classes", "similarities", "plane"} <= page.ids


def test_images_of_another_set_than_was_measured_are_not_shown(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run.parent, tmp_path / "moved")
    (tmp_path / "moved" / "photographs" / "test" / "oak" / "3.png").unlink()
    path = write_report([tmp_path / "moved" / "run"], data=str(tmp_path / "moved"))
    assert not Page(path.read_text(encoding="utf-8")).sources


def test_a_set_with_queries_and_a_gallery_has_a_page(compose_smoke: Compose, tmp_path: Path) -> None:
    page = Page(write_report([write_finished_run(tmp_path, compose_smoke, roles=True)]).read_text("utf-8"))
    assert page.sources and re.search(r"of\s+3\s+queries", page.words)


def test_a_pooling_without_weights_has_no_section_on_where_it_looks(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    overrides = ["pooling=gap_max", "zero_shot.weight=0"]
    page = Page(write_report([write_finished_run(tmp_path, compose_smoke, *overrides)]).read_text("utf-8"))
    assert "looks" not in page.ids and "plane" in page.ids


def test_a_page_that_fails_is_a_warning_and_not_the_end_of_the_run(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(writing, "gather", fail)
    folder = RunFolder(run)
    with pytest.warns(UserWarning, match=r"report.html could not be written \(ZeroDivisionError: no\)"):
        report_finished_run(folder, read_config(folder.config), records=None, model=None)  # type: ignore[arg-type]


def test_umap_is_drawn_too_where_it_is_installed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class UMAP:
        def __init__(self, **options: Any) -> None:
            assert options["metric"] == "cosine"

        def fit_transform(self, vectors: Any) -> Any:
            return vectors[:, :2]

    module = ModuleType("umap")
    module.UMAP = UMAP  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    with_umap = Page(write_report([run]).read_text("utf-8")).words
    monkeypatch.setitem(sys.modules, "umap", None)
    assert "UMAP" in with_umap and "UMAP" not in Page(write_report([run]).read_text("utf-8")).words


def test_runs_side_by_side_differ_in_settings_figures_and_classes(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(run, tmp_path / name, ignore=shutil.ignore_patterns("report.html"))
    config = tmp_path / "b" / "config.yaml"
    config.write_text(config.read_text("utf-8").replace("seed: 0", "seed: 7"), "utf-8")
    path = tmp_path / "b" / "test_embeddings.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    vectors = np.random.default_rng(0).normal(size=arrays["vectors"].shape)
    arrays["vectors"] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    np.savez(path, **arrays)
    write_report([tmp_path / "a"])
    page = Page(write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "both.html").read_text("utf-8"))
    words = " ".join(page.words.split())
    assert "a/report.html" in page.links and "b/report.html" not in page.links
    assert "seed 0 7" in words
    assert "lost run first run this run" in words and words.count(" b ") >= 3
    assert re.search(r"-\d+\.\d\d", words)


def test_runs_of_other_test_images_have_no_difference(
    run: Path, compose_smoke: Compose, tmp_path: Path
) -> None:
    other = write_finished_run(tmp_path, compose_smoke, roles=True)
    words = Page(write_report([run, other], tmp_path / "r.html").read_text("utf-8")).words
    assert "have no difference" in words or "+" not in words


def test_what_is_no_finished_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run was given"):
        write_report([])
    with pytest.raises(FileNotFoundError, match="no configuration at"):
        write_report([tmp_path])
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_report([run], tmp_path / "missing" / "r.html")
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="not finished"):
        write_report([tmp_path / "run"])
