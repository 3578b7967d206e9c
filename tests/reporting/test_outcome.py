"""What a run says at its end: each case from history.csv, metrics.json and the configuration."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig, to_plain
from dml.reporting.outcome import outcome


@pytest.fixture
def finished(tmp_path: Path, compose_smoke: Callable[..., TrainConfig]) -> Callable[..., Path]:
    def write(values: list[float], step: int | None, *, split: str = "val") -> Path:
        OmegaConf.save(OmegaConf.create(to_plain(compose_smoke())), tmp_path / "config.yaml")
        rows = [f"{10 * i},{value}" for i, value in enumerate(values)]
        (tmp_path / "history.csv").write_text("\n".join(["step,val/map@r", *rows, ""]))
        course = {} if step is None else {"step": step}
        figures = {split: {"map@r": 0.5}, "test": {"map@r": 0.5}}
        (tmp_path / "metrics.json").write_text(json.dumps({**figures, **course}))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("values", "step", "said"),
    [
        ([0.2, 0.4, 0.3, 0.1], 10, "training made it worse from there"),
        ([0.2, 0.3, 0.4, 0.1], 20, None),
        ([0.2, 0.3, 0.35, 0.4], 30, "trainer.max_steps"),
        ([0.4, 0.3, 0.35, 0.2], 0, "training brought nothing"),
        ([0.2, 0.4], 10, None),
    ],
)
def test_the_place_of_the_best_step_says_what_to_try(
    finished: Callable[..., Path], values: list[float], step: int, said: str | None
) -> None:
    folder = finished(values, step)
    first, *more = outcome(folder)
    assert first.startswith(f"kept: step {step} of {10 * (len(values) - 1)}, the best of {len(values)}")
    assert first.endswith(f"{max(values):.2%}, untrained {values[0]:.2%}")
    assert len(more) == (said is not None) and all(said in sentence for sentence in more if said)


def test_a_run_of_an_earlier_version_is_read_by_its_history(finished: Callable[..., Path]) -> None:
    assert outcome(finished([0.2, 0.4, 0.4], None))[0].startswith("kept: step 10 of 20")


def test_where_nothing_chooses_the_last_is_kept_and_compared_with_the_untrained(
    finished: Callable[..., Path],
) -> None:
    first, *more = outcome(finished([0.2, 0.4, 0.3], 20, split="train"))
    assert "step 20 of 20, the last one" in first and "30.00%, untrained 20.00%" in first and not more
    assert "training brought nothing" in outcome(finished([0.4, 0.1], 10, split="train"))[1]


def test_a_run_without_steps_says_so(finished: Callable[..., Path]) -> None:
    (said,) = outcome(finished([0.4], 0))
    assert said.startswith("not trained")


def test_a_folder_without_a_history_says_nothing(finished: Callable[..., Path]) -> None:
    folder = finished([0.4], 0)
    (folder / "history.csv").unlink()
    assert outcome(folder) == []
