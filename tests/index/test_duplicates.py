from __future__ import annotations

import itertools
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.errors import InputError
from dml.index import grouping
from dml.index.building import add_to_index, build_index
from dml.index.copies import ALTERATIONS, SOUGHT, copy_threshold, similarity_of_copies
from dml.index.duplicates import find_duplicates, keep_apart
from dml.index.grouping import group_pairs
from dml.index.index import open_index
from tests.index.small_model import small_model

ROOT = Path(__file__).parents[2]


def similar(points: list[float], above: float) -> dict[tuple[int, int], float]:
    """Pairs of points on a line, alike where they are near."""
    near = {(i, j): 1 - abs(points[i] - points[j]) for i, j in itertools.combinations(range(len(points)), 2)}
    return {pair: score for pair, score in near.items() if score >= above}


def test_in_a_group_every_pair_is_alike_and_a_chain_is_no_group() -> None:
    points = [0.0, 0.04, 0.08, 0.5, 0.51, 0.52, 0.9]
    groups = group_pairs(list("abcdefg"), similar(points, 0.95))
    assert groups in ([[0, 1], [3, 4, 5]], [[1, 2], [3, 4, 5]])
    for group in groups:
        assert all(abs(points[i] - points[j]) <= 0.05 for i, j in itertools.combinations(group, 2))


def test_groups_are_equal_in_a_hundred_orders() -> None:
    points = [*np.linspace(0, 1, 21).round(2).tolist(), 0.3, 0.3, 0.52]  # with many ties
    names = [f"{number:02}" for number in range(len(points))]
    expected = None
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(len(points))
        shuffled = [points[i] for i in order]
        found = group_pairs([names[i] for i in order], similar(shuffled, 0.94))
        groups = [[names[order[i]] for i in group] for group in found]
        expected = expected or groups
        assert groups == expected and len(groups) > 5


def test_images_that_are_equal_but_for_their_bytes_are_of_one_group(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    """Their similarity may be a little above 1, as vectors have length 1 in float32 only."""
    for image in photos.rglob("*.png"):
        Image.open(image).save(image.with_suffix(".bmp"))
    build_index(run, [photos], tmp_path / "index")
    found = find_duplicates(open_index(tmp_path / "index"))
    assert len(found.groups) == 9 and all(len(group) == 2 for group in found.groups)
    assert max(score for *_, score in found.pairs) > 1
    assert group_pairs(list("abc"), {(0, 1): 1.0000001, (1, 2): 1.0, (0, 2): 1.0000002}) == [[0, 1, 2]]


def test_pairs_that_hang_all_together_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "LARGEST", 3)
    with pytest.raises(InputError, match=r"4 images hang together .* give a higher one by --above"):
        group_pairs(list("abcd"), {(0, 1): 1.0, (1, 2): 1.0, (2, 3): 1.0})
    assert group_pairs(list("ab"), {}) == []


@pytest.fixture
def with_copies(run: Path, photos: Path, tmp_path: Path) -> Path:
    """An index with a copy byte for byte, and others that were altered."""
    shutil.copy(photos / "class 0" / "0.png", photos / "same.png")
    original = Image.open(photos / "class 1" / "3.png")
    for name in SOUGHT:
        ALTERATIONS[name](original).save(photos / f"{name}.png")
    build_index(run, [photos], tmp_path / "index")
    return tmp_path / "index"


def names(found) -> list[list[str]]:  # type: ignore[no-untyped-def]
    return [[Path(item.path).name for item in group] for group in found.groups]


def test_copies_are_found_and_images_that_differ_are_not(with_copies: Path) -> None:
    found = find_duplicates(open_index(with_copies), above=0.995)
    assert any({"0.png", "same.png"} <= set(group) for group in names(found))
    assert any({"3.png", "JPEG of quality 50.png"} <= set(group) for group in names(found))
    assert all(score >= 0.995 for *_, score in found.pairs)
    assert ["0.png", "same.png"] in names(find_duplicates(open_index(with_copies), above=1.0))


def test_what_was_kept_apart_stays_so(with_copies: Path, photos: Path) -> None:
    pair = [str(photos / "class 1" / "3.png"), str(photos / "JPEG of quality 50.png")]
    keep_apart(str(with_copies), pair)
    add_to_index(with_copies, [photos])
    found = find_duplicates(open_index(with_copies), above=0.9)
    assert not any(set(pair) <= {item.path for item in group} for group in found.groups)
    for paths, said in (([*pair, "gone.png"], "gone.png is not in"), (pair[:1], "give two images or more")):
        with pytest.raises(InputError, match=said):
            keep_apart(str(with_copies), paths)


def test_the_threshold_is_what_copies_of_the_images_themselves_reach(with_copies: Path, photos: Path) -> None:
    with open_index(with_copies) as index:
        found = find_duplicates(index)
    images = [Image.open(path).convert("RGB") for path in sorted(photos.rglob("*.png"))]
    similarities = similarity_of_copies(small_model(), images, SOUGHT)
    assert found.above == pytest.approx(min(values.min() for values in similarities.values()), abs=1e-6)
    assert copy_threshold(small_model(), images) == pytest.approx(found.above, abs=1e-6)
    shutil.rmtree(photos)
    with pytest.raises(InputError, match=r"so no copies can be made .* give it by --above"):
        find_duplicates(open_index(with_copies))
    with pytest.raises(InputError, match="above=2: a similarity lies between"):
        find_duplicates(open_index(with_copies), above=2)


def test_mirrored_and_turned_copies_are_found_on_request(run: Path, photos: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    drawing = coarse.resize((40, 40), Image.Resampling.BICUBIC)
    drawing.save(photos / "drawing.png")
    for name in ("mirrored", "turned by 90°"):
        ALTERATIONS[name](drawing).save(photos / f"{name}.png")
    build_index(run, [photos], tmp_path / "index")
    assert names(find_duplicates(open_index(tmp_path / "index"))) == []
    found = find_duplicates(open_index(tmp_path / "index"), turned=True)
    assert names(found) == [["drawing.png", "mirrored.png", "turned by 90°.png"]]
    keep_apart(str(tmp_path / "index"), [str(photos / "drawing.png"), str(photos / "mirrored.png")])
    found = find_duplicates(open_index(tmp_path / "index"), turned=True)
    assert (
        all(not {"drawing.png", "mirrored.png"} <= set(group) for group in names(found))
        and len(found.pairs) == 2
    )


def test_each_alteration_alters(draw: Callable[..., Path], tmp_path: Path) -> None:
    image = Image.open(draw(tmp_path / "a.png", 0, (40, 40))).convert("RGB")
    altered = {name: np.asarray(alter(image).convert("RGB")) for name, alter in ALTERATIONS.items()}
    assert len({array.tobytes() for array in altered.values()} | {np.asarray(image).tobytes()}) == 6
    assert altered["half the size"].shape == (20, 20, 3) and altered["5 % cut off"].shape == (38, 38, 3)


def test_planted_copies_of_drawings_are_found_and_no_two_drawings_are_taken_for_one(
    run: Path, tmp_path: Path
) -> None:
    """By a model that was not trained at all: its similarity proposes, and the pixels decide."""
    folder = tmp_path / "emoji"
    folder.mkdir()
    with zipfile.ZipFile(ROOT / "data" / "emoji" / "emoji.zip") as drawings:
        chosen = sorted(name for name in drawings.namelist() if name.endswith("noto.webp"))[::20]
        for number, name in enumerate(chosen):
            (folder / f"{number:03} original.webp").write_bytes(drawings.read(name))
            image = Image.open(folder / f"{number:03} original.webp").convert("RGB")
            for kind in SOUGHT:
                ALTERATIONS[kind](image).save(folder / f"{number:03} {kind}.png")
    build_index(run, [folder], tmp_path / "index")
    groups = names(find_duplicates(open_index(tmp_path / "index")))
    found = sum(len(group) - 1 for group in groups)
    wrong = [group for group in groups if len({name[:3] for name in group}) > 1]
    assert len(chosen) > 40 and found >= 0.95 * len(chosen) * len(SOUGHT) and not wrong
