"""The study: its runs, what its tables say of selection, and its figures from real runs."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from dml.config import TrainConfig
from dml.reporting.reproduction import check_jobs
from dml.reporting.results import Run, settings_of
from dml.reporting.study import (
    MAIN,
    SWEEPS,
    StudyRow,
    markdown_study,
    study_jobs,
    study_rows,
    study_table,
)
from dml.reporting.study_figures import _typical, draw_weights, write_study
from dml.train import train

Compose = Callable[..., TrainConfig]


def row(compose_smoke: Compose, name: str, figures: dict[int, float], *overrides: str) -> StudyRow:
    """A row whose runs have the figure as recall@1, half of it as map@r and a fifth as selection accuracy."""
    settings = settings_of(compose_smoke("dataset=collage", *overrides))
    metrics = {s: {"recall@1": f, "map@r": f / 2, "selection_accuracy": f / 5} for s, f in figures.items()}
    runs = {s: Run(Path(f"{name}{s}"), settings, s, None, {"test": m}) for s, m in metrics.items()}
    return StudyRow(name, runs)


def test_every_run_is_planned_once_the_main_table_first(tmp_path: Path) -> None:
    jobs = study_jobs(tmp_path)
    main = study_table(MAIN)
    assert len({job.folder for job in jobs}) == len(jobs) > 35
    assert {job.row for job in jobs[:35]} == set(main.rows) and main.seeds == (0, 1, 2, 3, 4)
    seeds_of_default = [job.folder.name for job in jobs if job.row.name == "gsp"]
    assert seeds_of_default == [f"seed{i}" for i in range(5)]


def test_every_run_of_the_study_composes(tmp_path: Path) -> None:
    check_jobs(study_jobs(tmp_path, limit=3))


def test_sweeps_and_ablation_are_compared_with_the_row_of_the_main_table() -> None:
    compared = [study_table(name).rows[0] for name in (*SWEEPS, "collage_ablation")]
    assert {row.overrides for row in compared} == {("experiment=collage/gsp",)}
    assert compared[0] in study_table(MAIN).rows


@pytest.mark.parametrize(
    ("overrides", "best"),
    [
        (["pooling=gap", "zero_shot.weight=0"], 0.25),
        (["pooling=max", "zero_shot.weight=0"], 1.0),
        (["pooling.transport_ratio=0.1"], 1.0),
        (["pooling.transport_ratio=0.5"], 0.5),
        (["pooling.transport_ratio=0.5", "dataset.targets_per_image=2"], 1.0),
    ],
)
def test_chance_and_best_selection_follow_from_the_grid_and_the_ratio(
    compose_smoke: Compose, overrides: list[str], best: float
) -> None:
    found = row(compose_smoke, "x", {0: 0.5}, *overrides)
    assert found.chance == (0.5 if len(overrides) == 2 and "targets" in overrides[1] else 0.25)
    assert found.best_selection == pytest.approx(best)
    learned = row(compose_smoke, "x", {0: 0.5}, "pooling.learnable_ratio=true")
    assert math.isnan(learned.best_selection)


def test_the_table_has_differences_over_paired_seeds_and_shares_of_the_reference(
    compose_smoke: Compose,
) -> None:
    first = row(compose_smoke, "gap", {0: 0.2, 1: 0.4}, "pooling=gap", "zero_shot.weight=0")
    other = row(compose_smoke, "gsp", {0: 0.5, 1: 0.7, 2: 0.9}, "pooling.transport_ratio=0.5")
    alone = row(compose_smoke, "distilled", {0: 1.0}, "dataset=distilled")
    lines = markdown_study([first, other, alone], reference=alone).splitlines()
    assert lines[0].startswith("| setting | seeds | recall@1 | Δ recall@1 | map@r |")
    assert "| `gsp` | 3 | 70.00 ± 49.68 | +30.00 ± 0.00 |" in lines[3]
    # seed 0: 0.25 of 0.5; a fifth of 0.7; chance; 0.25 / 0.5
    assert lines[3].endswith("| 50.00 | 14.00 ± 9.94 | 25 | 50 |")
    assert lines[4].endswith("|  |  |  |  |")


def test_rows_of_a_sweep_are_named_and_ordered_by_its_value(compose_smoke: Compose) -> None:
    rows = [row(compose_smoke, "x", {0: f}, f"pooling.sharpness={s}") for s, f in ((50, 0.5), (5, 0.4))]
    lines = markdown_study(rows, reference=None, swept="pooling.sharpness").splitlines()
    assert lines[0].startswith("| `pooling.sharpness` | seeds |")
    assert lines[2].startswith("| 5 | 1 | 40.00 | -10.00 |") and lines[3].startswith("| 50 | 1 | 50.00 |  |")


def test_finished_runs_are_read_tabled_and_drawn(tmp_path: Path, compose_smoke: Compose) -> None:
    small = [
        "dataset.target_groups=[Objects]",
        "trainer.max_steps=1",
        "trainer.eval_every=1",
        "evaluator.classes=20",
    ]
    rows = {
        "gap": ["collage/gap"],
        "gsp": ["collage/gsp"],
        "distilled": ["collage/distilled"],
        "gsp_pooling.transport_ratio_0.3": ["collage/gsp", "pooling.transport_ratio=0.3"],
    }
    for name, (experiment, *more) in rows.items():
        cfg = compose_smoke(f"experiment={experiment}", *more, *small, "trainer.frozen_batchnorm=false")
        train(cfg, tmp_path / name / "seed0")
    found = study_rows(MAIN, tmp_path)
    assert [row.name for row in found] == ["gap", "gsp", "distilled"]
    drawn = draw_weights(found, count=2, seed=0).axes
    assert [axes.get_title() for axes in drawn] == [
        "",
        "gsp",
        "",
        "",
    ]  # two lines; equal weights are not drawn
    figures = json.loads((tmp_path / "gap/seed0/metrics.json").read_text())["test"]
    assert figures["selection_accuracy"] == pytest.approx(0.25)
    written = write_study(tmp_path, tmp_path / "out")
    assert [path.name for path in written] == [
        "results.md",
        "study_rows.png",
        "study_course.png",
        "study_weights.png",
        "study_sweeps.png",
    ]
    assert all(path.stat().st_size > 10_000 for path in written[1:])
    text = written[0].read_text()
    assert "| `gap` | 1 |" in text and "| 0.3 | 1 |" in text and "25.00 | 25 | 25 |" in text


def test_a_study_without_a_finished_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run of the study is finished.*run=false"):
        write_study(tmp_path, tmp_path)


def test_the_collages_shown_are_those_nearest_to_the_median_of_every_row() -> None:
    shares = [[0.1, 0.5, 0.9, 0.45, 0.55], [0.9, 0.6, 0.1, 0.6, 0.58]]
    assert _typical(shares, 2) == [1, 3] and _typical(shares, 9) == [0, 1, 2, 3, 4]
