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
    found = published(settings_of(compose(f"experiment={row}")), reading=reading, metric=metric)
    return None if found is None else round(100 * found.value, 2)


@pytest.mark.parametrize(
    ("row", "reading", "metric", "value"),
    [
        ("cub/mlrc/c2_gap", "concatenated", "recall@1", 67.49),
        ("cub/mlrc/c2_xbm_gap", "separated", "map@r", 21.41),
        ("cars/mlrc/proxy_anchor_gap", "separated", "r_precision", 29.91),
        ("sop/mlrc/soft_triple_gap", "concatenated", "map@r", 50.77),
        ("inshop/mlrc/proxy_nca_pp_gap", "separated", "recall@1", 84.79),
        ("sop/conventional_bn_inception/proxy_anchor_gap", "best on test", "recall@1", 79.2),
    ],
)
def test_published_figures_are_found_by_the_row(
    row: str, reading: str, metric: str, value: float, compose_config: Compose
) -> None:
    assert known(compose_config, row, reading, metric) == value


@pytest.mark.parametrize(
    ("row", "reading"),
    [
        ("cub/mlrc/c2_gsp_zero_shot", "concatenated"),
        ("cub/mlrc/c2_gap", "test"),
        ("cub/conventional_bn_inception/proxy_anchor_gap", "test"),
        ("cub/conventional_resnet50/proxy_anchor_gap", "best on test"),
        ("emoji/gap", "test"),
    ],
)
def test_what_is_not_known_is_not_given(row: str, reading: str, compose_config: Compose) -> None:
    assert known(compose_config, row, reading, "recall@1") is None


def test_no_published_figure_is_of_a_run_with_a_miner(compose_config: Compose) -> None:
    cfg = compose_config("experiment=cub/mlrc/multi_similarity_gap", "miner=multi_similarity")
    assert published(settings_of(cfg), reading="separated", metric="recall@1") is None


def test_every_published_row_is_one_setting_with_a_source_and_plausible_figures() -> None:
    with FILE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    keys = Counter(tuple(list(row.values())[:8]) for row in rows)
    assert len(rows) == 76 and set(keys.values()) == {1} and all(row["source"] for row in rows)
    for row in rows:
        if row["protocol"] == "mlrc":
            assert 100 > float(row["recall@1"]) > float(row["r_precision"]) > float(row["map@r"]) > 10
