"""What holds for every file in configs/loss/: no batch makes it NaN, and it trains with all that can go with it."""

import copy
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from omegaconf import OmegaConf
from torch.optim import Optimizer

from dml.assembly import build_objective
from dml.config import TrainConfig, settle
from dml.losses import Objective
from dml.model import EmbeddingModel
from dml.training import Trainer, parameter_groups
from dml.training.gradients import BatchGradient
from dml.types import Batch
from tests.losses import test_pair_losses, test_proxy_losses, test_ranking_losses
from tests.losses.cases import CONFIGS, configured, names, takes, unit
from tests.noise import noise_splits

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]
LOSSES = names("loss")
TAKE_REFERENCES, TAKE_TUPLES = (
    {name for name in LOSSES if what in takes(name)} for what in ("references", "tuples")
)
WRITTEN_HERE = {"c1", "histogram", "recall_at_k", "smooth_ap"}  # each has a file of its own


def test_every_loss_is_held_against_its_formula() -> None:
    tests = (test_pair_losses, test_proxy_losses, test_ranking_losses)
    assert WRITTEN_HERE.union(*(test.FORMULAS for test in tests)) == set(LOSSES)


@pytest.mark.parametrize("group", ["loss", "miner"])
def test_every_file_has_its_row_in_the_docs(group: str) -> None:
    docs = (CONFIGS.parent / "docs" / "components.md").read_text(encoding="utf-8")
    section = docs.split(f"(`{group}=`)")[1].split("\n## ")[0]
    assert [name for name in names(group) if f"`{name}`" not in section] == []


def test_the_docs_say_which_losses_a_memory_and_a_miner_fit() -> None:
    docs = (CONFIGS.parent / "docs" / "components.md").read_text(encoding="utf-8")
    rows = [
        line.split(" | ") for line in docs.splitlines() if line.startswith("| `") and line.count(" | ") == 4
    ]
    said = {name: (memory, miner) for (cell, _, memory, miner, _) in rows for name in [cell.strip("|` ")]}
    assert {name for name, (memory, _) in said.items() if memory != "no"} == TAKE_REFERENCES
    takes_miner = {name for name, (_, miner) in said.items() if miner != "no"}
    assert takes_miner == TAKE_TUPLES


BATCHES = {
    "no positive": [0, 1, 2, 3],
    "one class": [2, 2, 2],
    "one image": [1],
    "one class with a positive": [0, 0, 1, 2],
    "equal images": [0, 0, 1, 1],
    "opposite images": [0, 0, 1, 1],
}


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("name", LOSSES)
def test_no_batch_makes_it_nan(name: str, kind: str) -> None:
    labels = torch.tensor(BATCHES[kind])
    x = unit(len(labels), 0).float()
    if kind in ("equal images", "opposite images"):
        x = x[:1] * torch.tensor([[1.0], [1.0], [1.0], [1.0 if kind == "equal images" else -1.0]])
    loss = configured("loss", name).float()
    value = loss(x.requires_grad_(), labels)
    value.backward()
    gradients = [part.grad for part in (x, *loss.parameters()) if part.grad is not None]
    assert value.isfinite().all() and gradients and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", sorted(TAKE_REFERENCES))
def test_an_image_that_is_met_again_in_a_memory_makes_it_not_nan(name: str) -> None:
    x, labels = unit(4, 0).float().requires_grad_(), torch.tensor([0, 0, 1, 2])
    value = configured("loss", name).float()(x, labels, ref_emb=x.detach(), ref_labels=labels.clone())
    value.backward()
    assert value.isfinite().all() and x.grad.isfinite().all()


def options(name: str) -> list[tuple[bool, bool, bool]]:
    """With the zero-shot loss or without, with a memory or without, with a miner or without: what the loss takes."""
    memory = (False, True) if name in TAKE_REFERENCES else (False,)
    return list(itertools.product((False, True), memory, (False, True) if name in TAKE_TUPLES else (False,)))


class Parts(NamedTuple):
    model: EmbeddingModel
    objective: Objective
    optimizer: Optimizer

    def step(self, number: int, batch: Batch) -> set[str]:
        """One step of training; returns the roles of the parameters that moved, and the terms of the loss."""
        gradient = BatchGradient(
            self.model,
            self.objective,
            device=torch.device("cpu"),
            seed=0,
            micro_batch=None,
            precision="fp32",
            compile=False,
        )
        groups = self.optimizer.param_groups
        before = [[p.detach().clone() for p in group["params"]] for group in groups]
        self.optimizer.zero_grad()
        losses, pooled, labels, images = gradient(batch, number, [len(batch.labels)])
        self.optimizer.step()
        self.objective.remember(pooled, labels, images)
        assert all(value.isfinite().all() for value in losses.terms().values())
        moved = [
            group["name"]
            for group, then in zip(groups, before, strict=True)
            if any(not p.equal(b) for p, b in zip(group["params"], then, strict=True))
        ]
        return {*moved, *losses.terms()}


@pytest.fixture(scope="module")
def start(
    compose_smoke: Compose, assemble: Assemble, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, EmbeddingModel, list[Batch]]:
    """What all losses begin with: a configuration, a model with its prototypes, and the batches of three steps."""
    cfg = compose_smoke("sampler.classes_per_batch=5")
    trainer = assemble(cfg, tmp_path_factory.mktemp("start"))
    trainer._initialise_prototypes()
    trainer._train_mode()
    return cfg, trainer.model, list(trainer.batches(0, 3))


@pytest.fixture
def build_parts(start: tuple[TrainConfig, EmbeddingModel, list[Batch]]) -> Callable[..., Parts]:
    def build(name: str, zero_shot: bool, memory: bool, mined: bool) -> Parts:
        cfg = start[0].copy()  # type: ignore[attr-defined]
        cfg.loss = OmegaConf.load(CONFIGS / "loss" / f"{name}.yaml")
        cfg.miner = OmegaConf.load(CONFIGS / "miner" / f"{'distance_weighted' if mined else 'none'}.yaml")
        cfg.zero_shot.weight = 0.1 if zero_shot else 0.0
        cfg.memory.batches, cfg.memory.start_step = 2 if memory else 0, 0
        data = noise_splits().train
        cfg = settle(cfg, num_classes=data.num_classes)
        model, objective = copy.deepcopy(start[1]), build_objective(cfg, data)
        groups = parameter_groups(model, objective, lr=0.01, multipliers=dict(cfg.learning_rates))
        return Parts(model, objective, torch.optim.SGD(groups))

    return build


@pytest.mark.parametrize("name", LOSSES)
def test_it_trains_with_and_without_zero_shot_loss_memory_and_miner(
    name: str, build_parts: Callable[..., Parts], start: tuple[TrainConfig, EmbeddingModel, list[Batch]]
) -> None:
    for zero_shot, memory, mined in options(name):
        parts = build_parts(name, zero_shot, memory, mined)
        first, second = (parts.step(number, start[2][number]) for number in range(2))
        expected = {"backbone", "head", "prototypes", "metric", "total"}
        expected |= {"proxies"} if list(parts.objective.metric.parameters()) else set()
        expected |= {"class_codes", "zero_shot"} if zero_shot else set()
        assert first == expected and second == expected | ({"memory"} if memory else set())


@pytest.mark.parametrize("name", LOSSES)
def test_it_goes_on_from_a_saved_state_with_the_same_bits(
    name: str, build_parts: Callable[..., Parts], start: tuple[TrainConfig, EmbeddingModel, list[Batch]]
) -> None:
    parts, again = (build_parts(name, *options(name)[-1]) for _ in range(2))
    for number in range(2):
        parts.step(number, start[2][number])
    file = io.BytesIO()
    torch.save([part.state_dict() for part in parts], file)
    file.seek(0)
    for part, state in zip(again, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    parts.step(2, start[2][2]), again.step(2, start[2][2])
    for part, other in zip(parts[:2], again[:2], strict=True):
        tensors = [[t for t in each.state_dict().values() if torch.is_tensor(t)] for each in (part, other)]
        assert all(map(torch.equal, *tensors))
