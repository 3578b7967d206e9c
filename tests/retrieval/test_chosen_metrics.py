"""Metrics that a configuration or a data set brings along."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from dml.assembly.parts import build_metrics
from dml.config import ConfigError, TrainConfig, config_differences, to_plain
from dml.retrieval import Metric, Ranking, metric, precision_at_k, retrieval_metrics
from dml.training import Trainer
from tests.retrieval.test_evaluator import Colours, evaluator, records

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]


def first_rank() -> Metric:
    """One that is no share, and of which less is better."""
    return Metric(lambda ranking: 1.0 + (ranking.found == 0).sum(dim=1).double(), "count", False)


def of_wrong_shape() -> Metric:
    return Metric(lambda ranking: ranking.found.double())


def of_wrong_type() -> Metric:
    return Metric(lambda ranking: ranking.found[:, 0])


def infinite() -> Metric:
    return Metric(lambda ranking: ranking.counts.double() * torch.inf)


def fails() -> Metric:
    return Metric(lambda ranking: ranking.nothing)


def no_metric() -> Callable[[Ranking], Tensor]:
    return lambda ranking: ranking.counts.double()


def chosen(cfg: TrainConfig, name: str, target: str) -> TrainConfig:
    OmegaConf.update(cfg, "metric", {name: {"_target_": f"{__name__}.{target}"}}, force_add=True)
    return cfg


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    monkeypatch.setattr("dml.retrieval.metric_table._chosen", {})


def test_precision_is_the_share_of_correct_ones_among_the_first(compose_smoke: Compose) -> None:
    metrics = build_metrics(compose_smoke("metric=precision"))
    labels = np.array([0, 1, 0, 0, 1])
    x = np.stack([np.cos([0, 0.1, 0.3, 0.6, 1.0]), np.sin([0, 0.1, 0.3, 0.6, 1.0])], 1).astype(np.float32)
    found = retrieval_metrics(x, labels, recall_at=(1, 3), further=metrics)
    expected = {}
    for k in (1, 3):
        shares = []
        for i in range(5):
            nearest = sorted(set(range(5)) - {i}, key=lambda j: -float(x[i] @ x[j]))[:k]
            shares.append(sum(labels[j] == labels[i] for j in nearest) / k)
        expected[f"precision@{k}"] = pytest.approx(sum(shares) / 5)
    assert {name: value for name, value in found.items() if name.startswith("precision")} == expected
    without = retrieval_metrics(x, labels, recall_at=(1, 3))
    assert {name: found[name] for name in without} == without and len(found) == len(without) + 2


def test_a_run_may_be_chosen_by_one_of_its_own(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(chosen(compose_smoke("trainer.select_by=rank"), "rank", "first_rank"), tmp_path)
    assert metric("rank").kind == "count" and not metric("rank").higher_is_better
    assert trainer.kept.score({"rank": 2.0}) > trainer.kept.score({"rank": 3.0})
    with pytest.raises(ConfigError, match=r"select_by=rank; accepted: recall@1, .*map@r$"):
        assemble(compose_smoke("trainer.select_by=rank"), tmp_path)


def test_without_any_the_configuration_is_that_of_earlier_runs(compose_smoke: Compose) -> None:
    now = to_plain(compose_smoke())
    assert (
        now["metric"] == {} and config_differences({k: v for k, v in now.items() if k != "metric"}, now) == []
    )


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("mine", "no_metric", r"metric\.mine gives <function .*: a metric is dml\.Metric\(of_queries, kind"),
        ("mine", "of_wrong_shape", r"gives torch\.float64 \(3, 3\) for three queries"),
        ("mine", "of_wrong_type", r"gives torch\.int64 \(3,\) for three queries"),
        ("mine", "infinite", r"gives \[inf, inf, inf\], which is not finite"),
        ("mine", "fails", r"fails with a ranking of three queries: AttributeError"),
        (
            "mine@k",
            "first_rank",
            r"fails with a ranking of three queries: TypeError.* k if its name ends with @k",
        ),
        ("map@r", "first_rank", r"metric\.map@r has a name that is taken; give another one than recall@k"),
        ("recall@5", "first_rank", r"metric\.recall@5 has a name that is taken"),
    ],
)
def test_what_is_no_metric_is_refused(name: str, target: str, said: str, compose_smoke: Compose) -> None:
    with pytest.raises(ConfigError, match=said):
        build_metrics(chosen(compose_smoke(), name, target))


def test_what_names_no_metric_is_refused_and_null_switches_one_off(compose_smoke: Compose) -> None:
    assert list(build_metrics(compose_smoke("metric=precision"))) == ["precision@k"]
    for value, said in ((3, r"metric\.precision@k=3 is no component"), ("x", r"metric\.precision@k=x is no")):
        cfg = compose_smoke("metric=precision")
        cfg.metric["precision@k"] = value
        with pytest.raises(ConfigError, match=said):
            build_metrics(cfg)
    cfg.metric["precision@k"] = None
    assert build_metrics(cfg) == {}
    cfg.metric = "x"
    with pytest.raises(ConfigError, match=r"metric=x is no choice: give names of configs/metric/"):
        build_metrics(cfg)


def test_a_data_set_measures_what_it_alone_knows() -> None:
    def brightness(pooled: Any, rows: Any) -> Tensor:
        return torch.tensor([float(data.images[row].mean()) for row in rows])  # type: ignore[arg-type]

    data = dataclasses.replace(
        records(), measures={"brightness": brightness, "unknown": lambda pooled, rows: None}
    )
    data = data.select_classes(["b", "d"])
    metrics = evaluator()(Colours(), data).metrics
    assert metrics["brightness"] == pytest.approx(np.mean([data.image(i).mean() for i in range(len(data))]))
    assert "unknown" not in metrics and isinstance(precision_at_k(), Metric)
