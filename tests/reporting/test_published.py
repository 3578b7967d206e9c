import csv
from collections import Counter
from collections.abc import Callable

import pytest

from dml.config import TrainConfig
from dml.reporting import published
from dml.reporting.published import FILE
from dml.reporting.results import settings_of

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
