from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from dml.contracts import FollowedRun
from dml.loggers import TensorBoardLogger


def log(folder: Path, start: int, steps: list[int]) -> None:
    logger = TensorBoardLogger(FollowedRun(folder, start, {}))
    for step in steps:
        logger.training(step, {"loss/total": step / 3})
        logger.validation(step, {"recall@1": 0.5}, nn.Identity())
    logger.close()


def test_its_files_hold_the_scalars_of_a_run_that_went_on_once(tmp_path: Path) -> None:
    log(tmp_path, 0, [1, 2, 3])
    log(tmp_path, 2, [3, 4])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/total")] == [1, 2, 3, 4]
    assert [event.value for event in events.Scalars("val/recall_at_1")] == [0.5] * 4
