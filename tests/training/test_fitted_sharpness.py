"""A sharpness that is fitted where the prototypes start: in the checkpoint, and exact wherever it is read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dml import load_model
from dml.config import TrainConfig
from dml.train import train
from dml.training import Trainer, load_checkpoint
from tests.execution.test_kills import assert_equal

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]


@pytest.mark.parametrize("rule", ["auto", "learned", "standardised"])
def test_a_run_that_was_cut_ends_as_one_that_was_not(
    rule: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    cfg = compose_smoke(f"pooling.sharpness={rule}", "pooling.effective_share=0.6", "trainer.ema=0.5")
    whole = assemble(cfg, tmp_path / "whole")
    whole.fit([])
    assemble(cfg, tmp_path / "cut").fit([], until=3)
    resumed = assemble(cfg, tmp_path / "cut")
    resumed.resume()
    resumed.fit([])
    for name in ("last.pt", "best.pt"):
        cut, uncut = (load_checkpoint(tmp_path / run / name) for run in ("cut", "whole"))
        assert_equal(cut["model"], uncut["model"], name)


def test_the_model_of_a_finished_run_has_it(compose_smoke: Compose, tmp_path: Path) -> None:
    train(compose_smoke("pooling.sharpness=auto", "trainer.max_steps=1"), tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.pt")["model"]
    pooling = load_model(tmp_path / "run").pooling
    assert pooling.sharpness.fitted.equal(state["pooling.sharpness.fitted"])
    assert pooling.sharpness.fitted.item() != 5.0


@pytest.mark.parametrize(
    "overrides", [["trainer.initialisation_locations=40"], ["pooling.prototype_start=pooled"]]
)
def test_it_is_fitted_to_whole_images_where_prototypes_start_from_a_part_of_them(
    overrides: list[str], compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    cfg = compose_smoke(
        "pooling.sharpness=auto", "trainer.max_steps=0", "pooling.num_prototypes=8", *overrides
    )
    trainer = assemble(cfg, tmp_path)
    trainer.fit([])
    pooling, (batch,) = trainer.model.pooling, trainer.batches(0, 1)
    found = pooling.sharpness.fitted.clone()
    with torch.no_grad():
        pooling.fit_sharpness(trainer.model.eval().features(batch.images))
    torch.testing.assert_close(pooling.sharpness.fitted, found, rtol=1e-4, atol=0)
