from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dml.index import building, intake, layout, upgrading
from dml.index.building import remove_from_index
from dml.index.checking import check_index
from dml.index.duplicates import keep_apart
from dml.index.index import open_index
from dml.index.store import Store
from dml.index.upgrading import upgrade_index
from tests.index.small_model import small_model
from tests.index.test_kills import killed_at


@pytest.fixture
def other(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder of another model."""
    monkeypatch.setattr(upgrading, "load_model", building.load_model)
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "config.yaml").touch()
    return tmp_path / "seed-1"


def vectors(folder: Path) -> dict[str, bytes]:
    with open_index(folder) as index:
        return {item.path: vector.tobytes() for item, vector in index}


def test_an_upgraded_index_is_that_of_the_new_model_and_keeps_what_people_said(
    photo_index: Path, photos: Path, other: Path
) -> None:
    paths = sorted(photos.rglob("*.png"))
    keep_apart(str(photo_index), list(map(str, paths[:2])))
    remove_from_index(photo_index, [paths[8]])
    paths[7].unlink()
    done = upgrade_index(photo_index, other)
    assert (done.items, done.embedded, list(done.unreadable)) == (7, 7, [str(paths[7])])
    expected = small_model(1).embed(paths[:7], batch_size=7).numpy()
    assert b"".join(vectors(photo_index).values()) == expected.tobytes()
    assert (photo_index / "vectors.npy").stat().st_size == 128 + 7 * 8 * 4
    assert len(Store(photo_index).not_duplicates()) == 1 and not check_index(photo_index).damaged
    assert not (photo_index / "next").exists()
    assert open_index(photo_index).search([paths[0]], k=1)[0][0].path == str(paths[0])
    assert 0 < done.changed <= 1  # type: ignore[operator]
    old, new = (small_model(seed).embed(paths[:7]).numpy().astype(float) for seed in (0, 1))
    first = [(v @ v.T - 2 * np.eye(7)).argmax(axis=1) for v in (old, new)]
    assert done.changed == pytest.approx(
        (first[0] != first[1]).mean(), abs=0.3
    )  # paths[7] is an answer of the old


def test_an_upgrade_to_the_same_model_changes_no_answer(
    photo_index: Path, photos: Path, other: Path, run: Path
) -> None:
    before = vectors(photo_index)
    done = upgrade_index(photo_index)
    assert done.changed == 0 and vectors(photo_index) == before


def test_what_was_removed_stays_removed_after_an_upgrade(
    photo_index: Path, photos: Path, other: Path
) -> None:
    remove_from_index(photo_index, [photos / "class 1"])
    upgrade_index(photo_index, other)
    changes = building.build_index(other, [photos], photo_index)
    assert (changes.removed, changes.items) == (3, 6)


def test_what_is_removed_while_an_upgrade_is_interrupted_does_not_come_back(
    photo_index: Path, photos: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(upgrading, "finish_index", interrupt)  # all is embedded by then
        with pytest.raises(KeyboardInterrupt):
            upgrade_index(photo_index, other)
    gone, _ = remove_from_index(photo_index, [photos / "class 1"])
    assert upgrade_index(photo_index, other).items == 6
    assert not vectors(photo_index).keys() & set(gone)
    assert building.build_index(other, [photos], photo_index).removed == 3


def test_what_is_taken_back_while_an_upgrade_is_interrupted_is_kept_up_to_date(
    photo_index: Path, photos: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    remove_from_index(photo_index, [photos / "class 1"])
    with monkeypatch.context() as patch:
        patch.setattr(upgrading, "finish_index", interrupt)
        with pytest.raises(KeyboardInterrupt):
            upgrade_index(photo_index, other)
    building.add_to_index(photo_index, [photos / "class 1"])
    assert upgrade_index(photo_index, other).items == 9
    changes = building.build_index(other, [photos], photo_index)
    assert (changes.removed, changes.unchanged) == (0, 9)


def test_an_upgrade_that_is_killed_anywhere_leaves_one_of_the_two_and_goes_on(
    photo_index: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(intake, "BATCH", 2)
    shutil.copytree(photo_index, tmp_path / "whole")
    upgrade_index(tmp_path / "whole", other)
    old, new = vectors(photo_index), vectors(tmp_path / "whole")
    call, seen = 0, set()
    while True:
        folder, call = tmp_path / f"index {call}", call + 1
        shutil.copytree(photo_index, folder)
        if not killed_at(call, lambda folder=folder: upgrade_index(folder, other)):
            break
        found = vectors(folder)
        assert found in (old, new)
        seen.add(found == new)
        upgrade_index(folder, other)
        assert vectors(folder).keys() == new.keys() and not check_index(folder).damaged
        shutil.rmtree(folder)
    assert call > 8 and False in seen


@pytest.mark.parametrize("moved", range(4))
def test_a_swap_that_was_cut_short_is_finished_by_whoever_opens_the_index(
    photo_index: Path, other: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutShort(Exception):
        pass

    original, done = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        if self.parent.name == "next" and target.parent.name == "index":
            if len(done) == moved:
                raise CutShort
            done.append(target.name)
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(layout.Path, "replace", replace)
        with pytest.raises(CutShort):
            upgrade_index(photo_index, other)
    expected = small_model(1).embed(sorted(vectors(photo_index)), batch_size=9).numpy().tobytes()
    assert b"".join(vectors(photo_index).values()) == expected and not check_index(photo_index).damaged
    assert not (photo_index / "next").exists()
