"""Train an embedding and evaluate it on classes it never saw; dml/commands/training.py calls it with what was typed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dml.assembly import (
    build_data,
    build_evaluator,
    build_model,
    build_objective,
    build_trainer,
    check_components,
    open_loggers,
)
from dml.config import TrainConfig, settle
from dml.reporting.page import report_finished_run
from dml.reporting.terminal import print_results
from dml.runs import check_data, finish_run, open_run, start_run, trained_model

__all__ = ["train"]


def train(cfg: TrainConfig, folder: Path, overrides: Sequence[str] = ()) -> None:
    """Train in a run folder, new or to be gone on with, and evaluate there.

    overrides: what was typed, for messages.
    """
    run = open_run(cfg, folder, overrides=overrides)
    check_components(run.cfg)
    data = build_data(run.cfg)
    run = check_data(run, data)
    cfg = settle(run.cfg, num_classes=data.train.num_classes)  # from here on nothing changes it

    model = build_model(cfg, pretrained=run.step is None)  # a checkpoint has all weights
    objective = build_objective(cfg, data.train)
    evaluator = build_evaluator(cfg, data)
    trainer = build_trainer(cfg, model, objective, data, evaluator, run.folder)

    if run.resumed:
        trainer.resume(run.classes)
    start_run(replace(run, cfg=cfg))
    with open_loggers(cfg, run.folder, start=trainer.step, watched=data.val) as loggers:
        trainer.fit(loggers)

    # chosen by the protocol, never by the test classes
    best = trained_model(cfg, run.folder, device=trainer.device)
    found = {name: evaluator(best, records) for name, records in data.measured.items()}
    finish_run(
        run.folder,
        metrics={name: evaluation.metrics for name, evaluation in found.items()},
        records=data.test,
        embeddings=found["test"].embeddings if "test" in found else None,
    )
    report_finished_run(run.folder, cfg, records=data.test, model=best)
    print_results(run.folder)
