"""The gradient of a batch does not depend on how the batch is cut; precision and compilation."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dml.config import TrainConfig
from dml.training import Trainer

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]
EVERYTHING = ("memory.batches=2", "memory.start_step=0", "backbone._target_=tests.noise.TinyWithDropout")


def gradients(trainer: Trainer, steps: int = 2) -> list[Tensor]:
    trainer._train_mode()
    for step, batch in enumerate(trainer.batches(0, steps)):
        trainer.optimizer.zero_grad()
        _, pooled, labels, images = trainer.gradient(batch, step, [len(batch.labels)])
        trainer.objective.remember(pooled, labels, images)
    trainer.gradient.scaler.unscale_(trainer.optimizer)
    return [p.grad for group in trainer.optimizer.param_groups for p in group["params"]]


@pytest.fixture
def cut(compose_smoke: Compose, assemble: Assemble, tmp_path: Path) -> Callable[..., list[Tensor]]:
    def gradients_of(*overrides: str) -> list[Tensor]:
        return gradients(assemble(compose_smoke(*EVERYTHING, *overrides), tmp_path))

    return gradients_of


@pytest.mark.parametrize("micro_batch", [1, 5, 16, 32, 99])
def test_micro_batches_give_the_gradient_of_the_batch_dropout_and_memory_included(
    micro_batch: int, cut: Callable[..., list[Tensor]]
) -> None:
    for one, other in zip(cut(), cut(f"trainer.micro_batch={micro_batch}"), strict=True):
        a, b = one.flatten().double(), other.flatten().double()
        assert (b.norm() / a.norm()).item() == pytest.approx(1, abs=1e-5)
        assert torch.cosine_similarity(a, b, dim=0) > 0.99999


@pytest.mark.parametrize(
    "resting", [("backbone",), ("head", "prototypes"), ("backbone", "head", "prototypes")]
)
def test_micro_batches_give_the_gradient_of_what_learns(
    resting: tuple[str, ...], compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    rates = ["loss=proxy_anchor", *(f"learning_rates.{role}=0" for role in resting)]
    whole, parts = (
        gradients(assemble(compose_smoke(*rates, *others), tmp_path))
        for others in ((), ("trainer.micro_batch=8",))
    )
    assert [g is None for g in whole] == [g is None for g in parts] and any(g is not None for g in whole)
    for one, other in zip(whole, parts, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_micro_batches_are_nearer(
    precision: str, cut: Callable[..., list[Tensor]]
) -> None:
    exact, whole, parts = (
        torch.cat([g.flatten() for g in cut(*overrides)])
        for overrides in (
            (),
            (f"trainer.precision={precision}",),
            (f"trainer.precision={precision}", "trainer.micro_batch=8"),
        )
    )
    distance = (whole - exact).norm() / exact.norm()
    assert 1e-5 < distance < 0.1
    assert (whole - parts).norm() / exact.norm() < max(distance, 1e-3)


def test_the_images_in_the_model_at_a_time_are_those_of_a_micro_batch(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer, seen = assemble(compose_smoke("trainer.micro_batch=12"), tmp_path), []
    trainer.model.register_forward_pre_hook(
        lambda module, inputs: seen.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    gradients(trainer, steps=1)
    assert seen == [(12, False), (12, False), (8, False), (12, True), (12, True), (8, True)]


def test_the_objective_stays_in_float32_under_half_precision(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer, seen = assemble(compose_smoke("trainer.precision=bf16"), tmp_path), {}
    trainer.objective.metric.register_forward_pre_hook(
        lambda module, inputs: seen.update(loss=inputs[0].dtype)
    )
    backbone = trainer.model.backbone
    backbone.register_forward_hook(lambda module, inputs, output: seen.update(backbone=output.dtype))
    gradients(trainer, steps=1)
    assert seen == {"loss": torch.float32, "backbone": torch.bfloat16}


@pytest.mark.slow
def test_a_compiled_model_has_the_same_gradient(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    plain, compiled = (
        torch.cat(
            [g.flatten() for g in gradients(assemble(compose_smoke(f"trainer.compile={on}"), tmp_path), 1)]
        )
        for on in (False, True)
    )
    torch.testing.assert_close(plain, compiled, rtol=1e-3, atol=1e-5)
