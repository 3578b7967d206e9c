"""Train an embedding and evaluate it on classes it never saw: ``python train.py --help``."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig

from dml.assembly import (
    build_data,
    build_evaluator,
    build_model,
    build_objective,
    build_trainer,
    open_loggers,
)
from dml.config import TrainConfig, register_schema, settle
from dml.distributed import process_group
from dml.overrides import as_typed
from dml.reporting import (
    print_departures,
    print_results,
    readable_errors,
    refuse_former_names,
    report_finished_run,
)
from dml.runs import check_data, finish_run, open_run, start_run, trained_model


def train(cfg: TrainConfig, folder: Path, overrides: Sequence[str] = ()) -> None:
    run = open_run(cfg, folder, overrides=overrides)
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


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
@readable_errors
def main(cfg: TrainConfig) -> None:
    hydra_config = HydraConfig.get()
    print_departures(cfg, hydra_config.runtime.choices, hydra_config.overrides.task)
    train(cfg, Path(hydra_config.runtime.output_dir), hydra_config.overrides.task)


register_schema()

if __name__ == "__main__":
    sys.argv[1:] = readable_errors(as_typed)(sys.argv[1:])
    readable_errors(refuse_former_names)(sys.argv[1:])
    with process_group():
        main()
