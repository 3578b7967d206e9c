"""A metric is one entry of a table: here one of which less is better, and which is no share, is added to it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from dml.config import TrainConfig
from dml.reporting import compare, find_runs, group_by_setting, metrics_table
from dml.reporting.tables import csv_table, markdown_tables
from dml.retrieval import METRICS, Metric, Ranking, metric, ranks_of, retrieval_metrics
from dml.run_folder import RunFolder
from dml.train import train
from dml.training import BestOnTest, Trainer

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]


def first_correct(ranking: Ranking) -> Tensor:
    """The rank of the first correct item, one beyond the depth if there is none."""
    return 1.0 + (ranking.found == 0).sum(dim=1)


@pytest.fixture
def first_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "first_rank", Metric(first_correct, kind="count", higher_is_better=False))


@pytest.mark.usefixtures("first_rank")
def test_it_is_measured_with_the_others_and_changes_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = torch.tensor([0.0, 0.1, 0.3, 0.6])  # from 0: wrong, right, wrong
    x, labels = torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor([7, 1, 7, 1])
    with_it = retrieval_metrics(x[:1], labels[:1], x[1:], labels[1:], recall_at=(1, 2))
    monkeypatch.undo()
    without = retrieval_metrics(x[:1], labels[:1], x[1:], labels[1:], recall_at=(1, 2))
    assert with_it == {**without, "first_rank": 2.0}


@pytest.mark.usefixtures("first_rank")
def test_a_run_is_chosen_printed_and_reported_by_it(compose_smoke: Compose, tmp_path: Path) -> None:
    train(compose_smoke("trainer.select_by=first_rank"), tmp_path / "run")
    rank = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["first_rank"]
    console = Console(record=True, width=100)
    console.print(metrics_table({"test": {"first_rank": rank, "recall@1": 0.5, "queries": 1234}}))
    shown = console.export_text()
    assert f"{rank:,.2f}" in shown and "50.00%" in shown and "1,234" in shown
    comparison = compare(group_by_setting(find_runs(str(tmp_path / "*"))[0]), ["first_rank", "map@r"])
    assert f"| {rank:.2f} |" in markdown_tables(comparison)
    assert "first_rank (count)" in markdown_tables(comparison)
    assert f",first_rank,{rank}," in csv_table(comparison)


@pytest.mark.usefixtures("first_rank")
def test_the_lowest_is_the_best_for_the_checkpoint_the_schedule_and_the_test_classes(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    overrides = ["trainer.select_by=first_rank", "trainer.eval_every=1", "trainer.max_steps=3"]
    trainer = assemble(compose_smoke(*overrides, "scheduler=plateau", "scheduler.patience=0"), tmp_path)
    rates, values = [], iter([5.0, 3.0, 4.0, 2.0])
    best_on_test = BestOnTest(RunFolder(tmp_path), select_by="first_rank")

    def validate(model: nn.Module) -> dict[str, float]:
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        metrics = {"first_rank": next(values)}
        best_on_test.update(metrics)
        return metrics

    trainer.validate = validate
    trainer.fit([])
    assert trainer.kept.figure == {"step": 3, "value": 2.0}
    assert rates[0] == rates[1] == rates[2] > rates[3]  # falls after the one that was worse
    assert json.loads(RunFolder(tmp_path).best_on_test.read_text()) == {"first_rank": 2.0}


def test_names_with_a_rank_are_of_one_family() -> None:
    assert metric("recall@10") is METRICS["recall@k"] and metric("map@r") is METRICS["map@r"]
    assert ranks_of(["recall@1", "recall@10", "map@r", "queries"]) == [1, 10]
    assert metric("of_an_old_version") == Metric()
