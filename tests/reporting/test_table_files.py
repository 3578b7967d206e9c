from pathlib import Path

import pytest

from dml.config import ConfigError
from dml.reporting.table_files import TABLES, read_tables

NAMES = sorted(path.stem for path in TABLES.glob("*.yaml"))
CONFIGS = TABLES.parent


def test_every_table_has_rows_that_exist_once_each_and_seeds_and_folds() -> None:
    tables = [table for name in NAMES for table in read_tables(name)]
    assert len(tables) == len({table.name for table in tables}) > len(NAMES) > 10
    for table in tables:
        assert len({row.name for row in table.rows}) == len(table.rows) > 1
        assert all(len(group) > 1 for group in table.groups)
        assert (table.folds == 4) == ("mlrc" in table.name) and len(set(table.seeds)) == len(table.seeds) > 0


def test_rows_are_said_in_words_that_are_choices_of_their_groups() -> None:
    """One vocabulary: what a table says is what one types."""
    for table in (table for name in NAMES for table in read_tables(name)):
        for row in table.rows:
            choices = [word.split("=") for word in row.overrides]
            groups = [(group, choice) for group, choice in choices if (CONFIGS / group).is_dir()]
            assert groups and all((CONFIGS / group / f"{choice}.yaml").is_file() for group, choice in groups)


def test_a_product_has_a_table_for_each_data_set_and_a_group_for_each_loss() -> None:
    tables = read_tables("mlrc")
    assert [table.name for table in tables] == ["cub_mlrc", "cars_mlrc", "sop_mlrc", "inshop_mlrc"]
    assert [row.name for row in tables[0].groups[1]] == ["c1_xbm_gap", "c1_xbm_gsp"]
    expected = ("published=mlrc", "dataset=sop", "loss=c1", "memory=xbm", "pooling=gsp")
    assert tables[2].groups[1][1].overrides == expected


def test_a_product_may_be_narrowed_or_led_elsewhere() -> None:
    (table,) = read_tables(
        "mlrc", {"sets": ["emoji"], "losses": ["circle"], "poolings": ["gap", "gem pooling.power=2"]}
    )
    assert [row.name for row in table.rows] == ["circle_gap", "circle_gem_pooling.power=2"]
    assert table.rows[1].folder(Path("x")) == Path("x/circle_gem_pooling.power_2")
    with pytest.raises(ConfigError, match=r"sets: table=collage spells its rows out; leave"):
        read_tables("collage", {"sets": ["cub"]})


@pytest.mark.parametrize(
    ("narrowed", "message"),
    [
        ({"sets": []}, r"sets=\[\]: give at least one, and each once"),
        ({"poolings": ["gap", "gap"]}, r"poolings=\[gap,gap\]: give at least one, and each once"),
        ({"losses": ["c2"]}, "loss=c2 is called contrastive here"),
    ],
)
def test_axes_without_a_value_with_one_twice_or_with_a_former_name_are_refused(
    narrowed: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_tables("mlrc", narrowed)


def test_a_part_of_a_product_is_refused_with_the_name_of_the_product() -> None:
    with pytest.raises(
        ConfigError, match=r"table=sop_conventional_resnet50 is a part .*_products 'sets=\[sop\]'"
    ):
        read_tables("sop_conventional_resnet50")


def test_a_table_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"table=cub does not exist; accepted: collage, .*, mlrc"):
        read_tables("cub")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gruops: []", r"bad\.yaml is no table: .*gruops"),
        ("sets: [cub]", "it has sets; give groups, or all of sets, settings, losses, poolings"),
        ("groups: [[a]]\nsets: [cub]", "it has sets and groups; give groups, or all"),
        ("folds: 3", "it has no rows; give groups, or all"),
    ],
)
def test_a_file_that_is_no_table_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dml.reporting.table_files.TABLES", tmp_path)
    (tmp_path / "bad.yaml").write_text(
        f"{text}\nfolds: null\nseeds: [0]\nmetrics: [map@r]\n".replace("folds: 3\nfolds: null", "folds: 3")
    )
    with pytest.raises(ConfigError, match=message):
        read_tables("bad")
