"""Every file in configs/dataset composes and reads."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dml.config import TrainConfig, build
from tests.data.many_forms import as_table, write_tar

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "configs" / "dataset").glob("*.yaml"))
COLLAGES = {"collage", "collage_cifar100", "distilled"}  # see test_collage.py
PHOTOGRAPHS = [name for name in NAMES if name not in {"emoji", *COLLAGES}]
SMALL = ["dataset.train={classes: 2, images: 5}", "dataset.test={classes: 2, images: 6}"]

ROLES = {
    "inshop": ["dataset.test.query=2", "dataset.test.gallery=4"],
    "grocery": [
        "dataset.train.query=2",
        "dataset.train.gallery=3",
        "dataset.test.query=2",
        "dataset.test.gallery=4",
    ],
}


def overrides(name: str, place: Path, write_small: Callable[[str, Path], Path]) -> list[str]:
    """What reads a look-alike of a data set instead of the data set."""
    if name == "emoji":
        return []
    if name not in ("folder", "table", "shards", "hub"):
        write_small(name, place)
        return [f"paths.data={place}", *SMALL, *ROLES.get(name, [])]
    folder = write_small("cub", place) / "images"
    if name == "folder":
        return [f"dataset.root={folder}", f"paths.data={place}"]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}
    if name == "hub":
        pytest.importorskip("datasets", reason="the extra hub is not installed: pip install datasets")
        as_table(files).save_to_disk(place / "saved")
        return [f"dataset.name={place / 'saved'}", f"paths.data={place}"]
    if name == "shards":
        return [f"dataset.root={write_tar(place / 'birds.tar', files)}", f"paths.data={place}"]
    lines = [f"{path},{path.parent.name}" for path in sorted(folder.rglob("*.jpg"))]
    (place / "items.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    return [f"dataset.path={place / 'items.csv'}", f"paths.data={place}"]


def test_the_data_sets_are_found() -> None:
    assert {
        "emoji",
        "cub",
        "cars",
        "sop",
        "inshop",
        "grocery",
        "folder",
        "table",
        "shards",
        "hub",
        *COLLAGES,
    } <= set(NAMES)


@pytest.mark.parametrize("name", ["emoji", *PHOTOGRAPHS])
def test_every_data_set_reads_into_halves_of_different_classes(
    name: str,
    compose_config: Callable[..., TrainConfig],
    write_small: Callable[[str, Path], Path],
    tmp_path: Path,
) -> None:
    cfg = compose_config(f"dataset={name}", *overrides(name, tmp_path, write_small))
    train, test = build(cfg.dataset)
    assert len(train) and len(test) and not set(train.class_names) & set(test.class_names)
    assert train.image(0).shape[2] == 3
    assert name == "emoji" or min(train.image(0).shape[:2]) == cfg.transform.short_side == (
        160 if name == "grocery" else 256
    )


def test_a_data_set_of_photographs_brings_their_transform_unless_another_is_chosen(
    compose_config: Callable[..., TrainConfig],
) -> None:
    assert compose_config("dataset=cub").transform.train.whole_pixels
    assert compose_config("dataset=cub", "transform=emoji").transform.short_side is None
    assert not compose_config().transform.train.whole_pixels


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_cache_is_switched_on_by_one_word(
    name: str,
    compose_config: Callable[..., TrainConfig],
    write_small: Callable[[str, Path], Path],
    tmp_path: Path,
) -> None:
    cfg = compose_config(f"dataset={name}", "dataset.cache=true", *overrides(name, tmp_path, write_small))
    train, _ = build(cfg.dataset)
    assert train.image(0).shape[2] == 3
    assert [path.name.split("-")[0] for path in (tmp_path / "cache").glob("*.pixels")] == [name]
