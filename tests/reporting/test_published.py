import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig
from dml.reporting import compare, find_runs, group_by_setting, published
from dml.reporting.published import FILE, LOSSES, POOLINGS, SETTINGS, departures_from_published
from dml.reporting.results import settings_of
from dml.reporting.tables import terminal_tables
from tests.reporting.conftest import write_fold

Compose = Callable[..., TrainConfig]


def known(compose: Compose, row: str, reading: str, metric: str) -> float | None:
    found = published(settings_of(compose(*row.split())), reading=reading, metric=metric)
    return None if found is None else round(100 * found.value, 2)


@pytest.mark.parametrize(
    ("row", "reading", "metric", "value"),
    [
        ("published=mlrc dataset=cub loss=contrastive pooling=gap", "concatenated", "recall@1", 67.49),
        ("published=mlrc dataset=cub loss=contrastive memory=xbm pooling=gap", "separated", "map@r", 21.41),
        ("published=mlrc dataset=cars loss=proxy_anchor pooling=gap", "separated", "r_precision", 29.91),
        ("published=mlrc dataset=sop loss=soft_triple pooling=gap", "concatenated", "map@r", 50.77),
        ("published=mlrc dataset=inshop loss=proxy_nca_pp pooling=gap", "separated", "recall@1", 84.79),
        (
            "published=conventional_bn_inception dataset=sop loss=proxy_anchor pooling=gap_max",
            "best on test",
            "recall@1",
            79.2,
        ),
    ],
)
def test_published_figures_are_found_by_the_row(
    row: str, reading: str, metric: str, value: float, compose_config: Compose
) -> None:
    assert known(compose_config, row, reading, metric) == value


@pytest.mark.parametrize(
    ("row", "reading"),
    [
        ("published=mlrc dataset=cub loss=contrastive pooling=gsp", "concatenated"),
        ("published=mlrc dataset=cub loss=contrastive pooling=gap", "test"),
        ("published=conventional_bn_inception dataset=cub loss=proxy_anchor pooling=gap_max", "test"),
        ("published=conventional_resnet50 dataset=cub loss=proxy_anchor pooling=gap_max", "best on test"),
        ("experiment=emoji/gap", "test"),
    ],
)
def test_what_is_not_known_is_not_given(row: str, reading: str, compose_config: Compose) -> None:
    assert known(compose_config, row, reading, "recall@1") is None


def test_no_published_figure_is_of_a_run_with_a_miner(compose_config: Compose) -> None:
    cfg = compose_config(
        "published=mlrc", "dataset=cub", "loss=multi_similarity", "pooling=gap", "miner=multi_similarity"
    )
    assert published(settings_of(cfg), reading="separated", metric="recall@1") is None


def test_every_published_row_is_one_setting_with_a_source_and_plausible_figures() -> None:
    with FILE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    keys = Counter(tuple(list(row.values())[:8]) for row in rows)
    assert len(rows) == 76 and set(keys.values()) == {1} and all(row["source"] for row in rows)
    for row in rows:
        if row["protocol"] == "mlrc":
            assert 100 > float(row["recall@1"]) > float(row["r_precision"]) > float(row["map@r"]) > 10


ROW = "published=mlrc dataset=cub loss=contrastive pooling=gap"


@pytest.mark.parametrize(
    ("more", "departures"),
    [
        ("", []),
        ("seed=3 protocol.fold=2 evaluator.recall_at=[1,5] evaluator.batch_size=8", []),
        ("trainer.max_steps=20", ["trainer.max_steps=20 (50000)"]),
        ("optimizer.lr=0.1 miner=distance_weighted", ["optimizer.lr=0.1 (1e-05)"]),
        ("pooling=gsp", []),  # of which nothing is published
    ],
)
def test_a_run_says_in_what_it_differs_from_the_published_setting(
    more: str, departures: list[str], compose_config: Compose
) -> None:
    found = departures_from_published(
        settings_of(compose_config(*ROW.split(), *more.split())), reading="separated"
    )
    assert set(departures) <= set(found) and bool(found) == bool(departures)


def test_every_published_row_is_a_setting_that_can_be_run() -> None:
    with FILE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["loss"] for row in rows} == set(LOSSES)
    assert {row["pooling"] for row in rows} == set(POOLINGS) and {row["protocol"] for row in rows} == set(
        SETTINGS
    )


def test_published_figures_stand_only_beside_runs_of_the_published_setting(
    compose_config: Compose, tmp_path: Path
) -> None:
    for name, more in (("same", ()), ("short", ("trainer.max_steps=20",))):
        for fold in range(4):
            cfg = compose_config(*ROW.split(), *more, f"protocol.fold={fold}")
            OmegaConf.resolve(cfg)
            write_fold(tmp_path / name / f"fold{fold}", cfg, fold)
    (separated, _) = compare(group_by_setting(find_runs(f"{tmp_path}/**")[0]), ["recall@1"])
    same, short = separated.rows
    assert same.figures["recall@1"].published is not None and not same.departures
    assert short.figures["recall@1"].published is None
    remarks = [part for part in terminal_tables([separated]) if isinstance(part, str)]
    assert any(
        "differ from the published ones (in brackets) by trainer.max_steps=20 (50000)" in r for r in remarks
    )
