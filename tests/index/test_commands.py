"""The commands, on a real run, as people and programs use them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dml.commands import app
from dml.index.building import build_index
from dml.index.leaks import Leak, Leaks
from dml.index.printing import print_leaks
from tests.index.conftest import draw


def dml(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands") / "photos"
    for number in range(6):
        draw(folder / f"{number}.jpg", number)
    return folder


@pytest.fixture(scope="module")
def index(smoke_run: Path, photos: Path) -> Path:
    build_index(smoke_run, [photos], photos.parent / "index")
    return photos.parent / "index"


def test_build_says_what_it_did_and_names_what_it_could_not_read(
    smoke_run: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"none")
    done = dml("index", "build", smoke_run, tmp_path / "photos", "--to", tmp_path / "index")
    assert done.exit_code == 1 and "6 images; 6 added" in done.stdout and "images a second" in done.stdout
    assert "1 files could not be read:" in done.stderr and "bad.jpg: cannot be read" in done.stderr
    (tmp_path / "photos" / "bad.jpg").unlink()
    done = dml("index", "build", smoke_run, tmp_path / "photos", "--to", tmp_path / "index")
    assert done.exit_code == 0 and "6 images; 6 unchanged" in done.stdout and not done.stderr
    draw(tmp_path / "photos" / "new.png", 9)
    done = dml("index", "add", tmp_path / "index", tmp_path / "photos" / "new.png", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["added"] == 1


def test_search_answers_programs_with_the_names_that_they_rely_on(index: Path, photos: Path) -> None:
    done = dml("search", index, photos / "3.jpg", "-k", 4, "--json")
    answer = json.loads(done.stdout)
    assert done.exit_code == 0 and answer["exact"] is True and "/best " in answer["model"]
    (query,) = answer["queries"]
    assert query["query"] == str(photos / "3.jpg") and len(query["hits"]) == 4
    first = query["hits"][0]
    assert first["path"] == str(photos / "3.jpg") and first["score"] == pytest.approx(1, abs=1e-5)
    assert first["label"] is None and first["match"] is None


def test_search_answers_people_and_tables(index: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    done = dml("search", index, "3.jpg")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("exact search of 6 images, model ") and lines[2] == "3.jpg"
    assert lines[3].split()[1] == "3.jpg" and len(lines) == 9
    rows = list(csv.DictReader(io.StringIO(dml("search", index, ".", "-k", 2, "--csv").stdout)))
    assert len(rows) == 12 and [row["rank"] for row in rows[:2]] == ["1", "2"]
    assert all(Path(row["path"]).name == Path(row["query"]).name for row in rows[::2])


def test_a_page_holds_its_images_and_takes_every_name_as_text(
    smoke_run: Path, photos: Path, tmp_path: Path
) -> None:
    evil = "<script>alert(1)</script>&\"'.jpg".replace("/", "∕")
    (tmp_path / "odd").mkdir()
    shutil.copy(photos / "0.jpg", tmp_path / "odd" / evil)
    build_index(smoke_run, [photos, tmp_path / "odd"], tmp_path / "index")
    done = dml("search", tmp_path / "index", tmp_path / "odd", "--html", tmp_path / "pages" / "out.html")
    page = (tmp_path / "pages" / "out.html").read_text(encoding="utf-8")
    assert done.exit_code == 0 and page.count("data:image/jpeg;base64,") == 8
    assert "<script" not in page and "&lt;script&gt;" in page and "http" not in page


def test_queries_that_are_no_images_are_named(index: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    done = dml("search", index, tmp_path / "note.txt")
    assert done.exit_code == 2 and "no query can be read" in done.stderr and "note.txt" in done.stderr
    done = dml("search", index, tmp_path)
    assert done.exit_code == 2 and "holds no images" in done.stderr
    done = dml("search", index, tmp_path / "gone.jpg")
    assert done.exit_code == 2 and "gone.jpg is not there: give images" in done.stderr
    done = dml("search", index, tmp_path / "note.txt", photos / "1.jpg", "--json")
    assert done.exit_code == 1 and "note.txt" in done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["queries"]) == 1 and list(answer["unreadable"]) == [str(tmp_path / "note.txt")]


def test_check_and_remove(smoke_run: Path, index: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(index, tmp_path / "index")
    assert dml("index", "check", tmp_path / "index").exit_code == 0
    done = dml("index", "remove", tmp_path / "index", photos / "1.jpg", photos / "2.jpg")
    assert done.exit_code == 0 and "2 removed, 4 left" in done.stdout
    assert dml("index", "remove", tmp_path / "index").exit_code == 2
    done = dml("index", "build", smoke_run, photos, "--to", tmp_path / "index")
    assert done.exit_code == 0 and "4 unchanged, 2 left out that were removed (`dml index add`" in done.stdout
    shutil.rmtree(tmp_path / "index" / "golden")
    done = dml("index", "check", tmp_path / "index", "--json")
    assert done.exit_code == 1 and "golden" in json.loads(done.stdout)["damaged"][0]
    assert "1 damaged" in dml("index", "check", tmp_path / "index").stdout


def test_a_match_needs_a_threshold(index: Path, photos: Path) -> None:
    done = dml("search", index, photos / "1.jpg", "--match")
    assert done.exit_code == 2 and "find one by `dml calibrate" in done.stderr


def test_an_interrupted_build_says_how_it_goes_on(
    smoke_run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dml.index.building.build_index", interrupt)
    done = dml("index", "build", smoke_run, photos, "--to", tmp_path / "index")
    assert done.exit_code == 130 and "the same command goes on" in done.stderr


def test_duplicates_are_listed_for_people_programs_and_tables(
    smoke_run: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    for name in ("copy.jpg", "<b>.jpg"):
        shutil.copy(photos / "2.jpg", tmp_path / "photos" / name)
    build_index(smoke_run, [tmp_path / "photos"], tmp_path / "index")
    done = dml(
        "duplicates", tmp_path / "index", "--above", 0.99999, "--json", "--html", tmp_path / "out.html"
    )
    expected = sorted(str(tmp_path / "photos" / name) for name in ("2.jpg", "<b>.jpg", "copy.jpg"))
    assert done.exit_code == 0 and json.loads(done.stdout)["groups"] == [expected]
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 3 and "<b>" not in page
    assert "1 groups of 3 images" in dml("duplicates", tmp_path / "index", "--above", 0.99999).stdout
    rows = list(
        csv.DictReader(io.StringIO(dml("duplicates", tmp_path / "index", "--above", -1, "--csv").stdout))
    )
    assert len(rows) == 15 and float(rows[0]["similarity"]) >= float(rows[-1]["similarity"])
    done = dml("duplicates", tmp_path / "index", "--apart", rows[0]["path"], "--apart", rows[0]["other"])
    assert done.exit_code == 0 and "2 images are kept apart" in done.stdout
    assert len(dml("duplicates", tmp_path / "index", "--above", -1, "--csv").stdout.splitlines()) == 15


def test_leaks_lie_across_the_parts_of_a_data_set(smoke_run: Path) -> None:
    done = dml("leaks", smoke_run, "--above", 0.9999, "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.exit_code == 0 and rows and all(row["part"] != row["other_part"] for row in rows)
    assert all(row["label"] != row["other_label"] and float(row["similarity"]) >= 0.9999 for row in rows)


def test_the_most_similar_leaks_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    leak = Leak("train", "a.png", "mug", "test", "b.png", "cup", 0.99)
    print_leaks(Leaks(0.9, {"train": 5, "test": 4}, [leak] * 25))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "25 pairs across parts are 0.9000 or more alike, of 5 train, 4 test images"
    assert (
        lines[1] == "  0.9900  train a.png  test b.png" and lines[-1] == "  ... and 5 more: --csv lists all"
    )
