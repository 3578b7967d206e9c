from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dml.config import TrainConfig
from dml.training import NonFiniteLossError, Trainer
from dml.training.trainer import weight_statistics
from dml.types import Pooled

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]


def snapshot(trainer: Trainer) -> dict[str, list[torch.Tensor]]:
    return {g["name"]: [p.detach().clone() for p in g["params"]] for g in trainer.optimizer.param_groups}


@pytest.mark.parametrize(
    ("loss", "roles"),
    [
        ("contrastive", {"backbone", "head", "prototypes", "class_codes"}),
        ("proxy_anchor", {"proxies", "class_codes"}),
    ],
)
def test_every_kind_of_parameter_is_trained(
    loss: str, roles: set[str], compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke(f"loss={loss}"), tmp_path)
    before = snapshot(trainer)
    trainer.fit([])
    for role, parameters in snapshot(trainer).items():
        assert not any(a.equal(b) for a, b in zip(before[role], parameters, strict=True)), role
    assert roles <= set(before)


@pytest.mark.parametrize("role", ["backbone", "head", "prototypes", "class_codes", "proxies"])
def test_a_multiplier_of_zero_leaves_a_kind_of_parameter_alone_and_only_that(
    role: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("loss=proxy_anchor", f"learning_rates.{role}=0"), tmp_path)
    before = {name: parameters for name, parameters in snapshot(trainer).items() if name != "prototypes"}
    trainer.fit([])
    after = snapshot(trainer)
    resting = {
        name for name in before if all(a.equal(b) for a, b in zip(before[name], after[name], strict=True))
    }
    assert resting == {role} - {"prototypes"}


def test_prototypes_start_from_local_features_in_the_same_parameter(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.max_steps=0"), tmp_path)
    prototypes = trainer.model.pooling.prototypes
    before = prototypes.detach().clone()
    trainer.fit([])
    assert trainer.model.pooling.prototypes is prototypes and not prototypes.equal(before)
    assert any(p is prototypes for group in trainer.optimizer.param_groups for p in group["params"])


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(
        compose_smoke("optimizer.lr=1e30", "scheduler=constant", "trainer.gradient_clip=null"), tmp_path
    )
    with pytest.raises(
        NonFiniteLossError, match=r"at step \d+ the (metric|zero_shot) loss is (nan|inf).*optimizer.lr"
    ):
        trainer.fit([])
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_warm_up_lets_the_backbone_rest(compose_smoke: Compose, assemble: Assemble, tmp_path: Path) -> None:
    trainer = assemble(compose_smoke("trainer.warmup_steps=100"), tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.fit([])
    moved = {name for name, p in trainer.model.named_parameters() if not p.equal(before[name])}
    assert moved == {"projection.weight", "pooling.prototypes"}


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batchnorm_keeps_statistics_and_parameters(
    frozen: bool, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke(f"trainer.frozen_batchnorm={frozen}"), tmp_path)
    layer = trainer.model.backbone.layers[0][1]
    before = [layer.weight.detach().clone(), layer.running_mean.clone()]
    trainer.fit([])
    assert [layer.weight.equal(before[0]), layer.running_mean.equal(before[1])] == [frozen, frozen]


def test_the_gradient_is_clipped_to_the_norm_that_was_asked_for(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.gradient_clip=0.001", "trainer.max_steps=1"), tmp_path)
    trainer.fit([])
    gradients = [p.grad for g in trainer.optimizer.param_groups for p in g["params"] if p.grad is not None]
    assert torch.stack([g.norm() for g in gradients]).norm().item() == pytest.approx(0.001, rel=1e-3)


def test_a_resumed_trainer_ends_with_the_weights_of_one_that_went_through(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    whole = assemble(compose_smoke("optimizer=adamw"), tmp_path / "whole")
    whole.fit([])
    part = assemble(compose_smoke("optimizer=adamw"), tmp_path / "part")
    batches = part.batches
    part.batches = lambda start, stop: batches(start, min(stop, 4))  # ends as if it had been killed
    part.fit([])
    resumed = assemble(compose_smoke("optimizer=adamw"), tmp_path / "part")
    resumed.resume()
    assert resumed.step == 3
    resumed.fit([])
    for name, value in whole.model.state_dict().items():
        assert value.equal(resumed.model.state_dict()[name]), name
    assert resumed.best == whole.best


def test_the_best_checkpoint_is_the_first_with_the_largest_figure(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.eval_every=1"), tmp_path)
    values = iter([0.1, 0.3, 0.2, 0.3, 0.1, 0.2, 0.25])
    trainer.validate = lambda model: {"map@r": next(values)}
    trainer.fit([])
    assert trainer.best == {"step": 1, "value": 0.3}
    assert torch.load(tmp_path / "best.pt", weights_only=True)["step"] == 1


def test_weight_statistics_know_the_extremes() -> None:
    vectors = torch.zeros(2, 3)
    uniform = weight_statistics(Pooled(vectors, None, torch.full((2, 8), 1 / 8)))
    single = weight_statistics(Pooled(vectors, None, torch.eye(8)[:2]))
    assert uniform["weights/spread"] == 0 and uniform["weights/effective_locations"] == 1
    assert single["weights/spread"].item() == pytest.approx(7**0.5)
    assert single["weights/effective_locations"].item() == pytest.approx(1 / 8)
    assert weight_statistics(Pooled(vectors)) == {}
