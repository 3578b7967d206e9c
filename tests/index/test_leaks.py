"""Near-duplicates across the parts of a data set, and what is measured without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dml.commands import app
from dml.config import TrainConfig, build
from dml.data import Records, Splits
from dml.errors import InputError
from dml.index import leaks, near_pairs
from dml.index.copies import ALTERATIONS, LIKE, TURNS, likeness, outlines
from dml.index.leaks import evaluate_without_leaks, find_leaks
from dml.index.printing import print_without_leaks
from tests.index.small_model import small_model
from tests.photographs import write_photographs


def drawings(count: int, seed: int) -> list[np.ndarray]:
    """Blots of colour, each another one."""
    rng = np.random.default_rng(seed)
    small = (Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)) for _ in range(count))
    return [np.asarray(image.resize((40, 40), Image.Resampling.BICUBIC)) for image in small]


def records(images: list[np.ndarray], name: str) -> Records:
    """Two images a class."""
    numbers = np.arange(len(images))
    classes = tuple(f"{name} {number}" for number in range((len(images) + 1) // 2))
    files = tuple(f"{name}{number}.png" for number in numbers)
    return Records(np.stack(images), numbers, numbers // 2, classes, files)


@pytest.fixture
def splits(monkeypatch: pytest.MonkeyPatch, compose_smoke: Callable[..., TrainConfig]) -> Splits:
    """Parts with three copies: of a training image in the validation, and in the test, there also a mirrored one."""
    train, val, test = drawings(10, 0), drawings(8, 1), drawings(12, 2)
    val[3] = np.asarray(ALTERATIONS["JPEG of quality 50"](Image.fromarray(train[5])))
    test[4] = np.asarray(ALTERATIONS["JPEG of quality 50"](Image.fromarray(train[2])))
    test[7] = train[8][:, ::-1]
    found = Splits(records(train, "a"), records(val, "b"), records(test, "c"))
    cfg = compose_smoke("evaluator.recall_at=[1]")
    monkeypatch.setattr(leaks, "located_config", lambda *_, **__: cfg)
    model = small_model()
    model.preprocess = build(cfg.transform.evaluation)
    monkeypatch.setattr(leaks, "trained_model", lambda *_, **__: model)
    monkeypatch.setattr(leaks, "build_data", lambda cfg: found)
    return found


def pairs(found: leaks.Leaks) -> set[tuple[str, str]]:
    return {(leak.file, leak.other_file) for leak in found.pairs}


def test_copies_across_parts_are_found_and_nothing_else(splits: Splits) -> None:
    found = find_leaks("run")
    assert pairs(found) == {("a5.png", "b3.png"), ("a2.png", "c4.png")}
    assert found.leaked("val") == {"b3.png"} and found.leaked("test") == {"c4.png"}
    assert found.sizes == {"train": 10, "val": 8, "test": 12}


def test_mirrored_ones_are_found_on_request(splits: Splits) -> None:
    assert pairs(find_leaks("run", turned=True)) == pairs(find_leaks("run")) | {("a8.png", "c7.png")}


def test_a_similarity_alone_decides_if_it_is_given(splits: Splits) -> None:
    assert len(find_leaks("run", above=-1).pairs) == 10 * 8 + 10 * 12 + 8 * 12
    with pytest.raises(InputError, match="above=2: a similarity lies between"):
        find_leaks("run", above=2)


def test_each_metric_is_measured_without_the_images_that_leaked(
    splits: Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    found, metrics = evaluate_without_leaks("run")
    assert metrics["val"]["gallery"] == 7 and metrics["test"]["gallery"] == 11
    assert metrics["val"]["queries"] < 7  # the class of the one that went has one image left
    print_without_leaks(found, metrics)
    printed = capsys.readouterr().out
    assert "1 of 8 val, 1 of 12 test images" in printed and "recall@1" in printed


def test_a_part_without_leaks_stays_as_it_is(splits: Splits) -> None:
    assert leaks._without(splits.val, set()) is splits.val
    fewer = leaks._without(splits.val, {"b0.png", "b1.png", "b5.png"})
    assert fewer.class_names == ("b 1", "b 2", "b 3") and fewer.labels.tolist() == [0, 0, 1, 2, 2]
    assert fewer.files == ("b2.png", "b3.png", "b4.png", "b6.png", "b7.png")


@pytest.mark.parametrize("dense", [0.0, 2.0])
def test_turns_are_seven_and_pixels_are_alike_in_each(dense: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared one by one, and all with all."""
    monkeypatch.setattr(near_pairs, "DENSE", dense)
    image, other = drawings(2, 3)
    turned = [np.ascontiguousarray(turn(image)) for turn in TURNS]
    assert len({way.tobytes() for way in turned} | {image.tobytes()}) == 8
    images = [image, *turned, other]
    pixels = near_pairs.Pixels(lambda row: None if row == 9 else Image.fromarray(images[row]))
    rows = np.arange(1, 10)
    for way in range(8):
        found = pixels.alike(np.zeros(9, np.int64), rows, way)
        assert np.flatnonzero(found).tolist() == ([way - 1] if way else [])
        expected = [
            likeness(outlines(Image.fromarray(images[way])), outlines(Image.fromarray(images[row]))) >= LIKE
            for row in rows[:8]
        ]
        assert found[:8].tolist() == expected


def test_a_data_set_is_looked_at_before_any_training(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos")
    own = ["dataset=folder", f"dataset.root={tmp_path / 'photos'}", "transform.short_side=32", "pooling=gap"]
    words = ["debug=smoke", "protocol=conventional", "trainer.device=cpu", *own]
    done = CliRunner().invoke(app, ["leaks", *words, "--above=-1"])
    assert done.exit_code == 0 and "pairs across parts are -1.0000 or more alike" in done.stdout, done.output
    for words, said in (
        (["dataset=none"], "dataset=none does not exist"),
        (["a", "b"], "a b: give the folder of one run, or keys and values"),
        ([*own, "--data", "x"], "are for a run"),
    ):
        done = CliRunner().invoke(app, ["leaks", *words])
        assert done.exit_code == 2 and said in done.stderr, done.stderr
