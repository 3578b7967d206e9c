"""What was learned of a class follows its name: with the classes in another order an objective is the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from dml.assembly import build_objective
from dml.config import TrainConfig, build
from dml.data_changes import axes_of_classes
from dml.losses import CrossBatchMemory
from dml.training import ClassMapping
from dml.types import Pooled
from tests.noise import noise

Compose = Callable[..., TrainConfig]
LOSSES = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "configs" / "loss").glob("*.yaml")
    if OmegaConf.is_missing(OmegaConf.load(path), "num_classes")
)
BEFORE, NOW = ("a", "b", "c", "d"), ("d", "new", "b", "a")  # c is gone
LABELS_NOW = torch.tensor([3, 2, -1, 0])


def fill(cfg: TrainConfig) -> None:
    """What four classes and eight dimensions leave open no more."""
    for key, value in {"num_classes": 4, "embedding_size": 8}.items():
        if OmegaConf.is_missing(cfg.loss, key):
            cfg.loss[key] = value


def test_there_are_losses_that_learn_something_of_each_class() -> None:
    assert len(LOSSES) >= 9


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_the_same_for_classes_in_another_order(loss: str, compose_smoke: Compose) -> None:
    cfg = compose_smoke(f"loss={loss}", "embedding_dim=8", "memory.batches=0", "zero_shot.weight=0")
    fill(cfg)
    objective, other = (build_objective(cfg, noise(4, 2)) for _ in range(2))
    axes = axes_of_classes(cfg, 4)
    with torch.no_grad():
        for number, parameter in enumerate(objective.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    optimizer, unused = (torch.optim.SGD(each.parameters(), lr=1) for each in (objective, other))
    order = (2, 0, 3, 1)
    state = {"objective": objective.state_dict(), "optimizer": optimizer.state_dict()}
    mapping = ClassMapping(order, 4, axes)
    other.load_state_dict(mapping.carry_over(state, other, unused)["objective"])
    vectors, labels = torch.nn.functional.normalize(torch.randn(8, 8)), torch.arange(8) % 4
    found = other(Pooled(vectors), mapping.labels[labels])
    assert axes and torch.allclose(found.total, objective(Pooled(vectors), labels).total, rtol=1e-5)


def test_moments_go_with_their_class_and_new_classes_start_as_they_are_built(compose_smoke: Compose) -> None:
    cfg = compose_smoke("loss=soft_triple", "embedding_dim=8", "memory.batches=0", "zero_shot.weight=0.1")
    fill(cfg)
    old, new = (build_objective(cfg, noise(4, 2)) for _ in range(2))
    optimizer, fresh = (torch.optim.Adam(each.parameters(), amsgrad=True) for each in (old, new))
    for parameter in old.parameters():
        parameter.data.add_(1)
        parameter.grad = parameter.data.clone()
    optimizer.step()
    mapping = ClassMapping.by_name(BEFORE, NOW, axes_of_classes(cfg, 4), new_figure=False)
    state = mapping.carry_over(
        {"objective": old.state_dict(), "optimizer": optimizer.state_dict()}, new, fresh
    )
    codes, before = state["objective"]["zero_shot.class_codes"], old.zero_shot.class_codes
    assert mapping.labels.equal(LABELS_NOW)
    assert codes[[0, 2, 3]].equal(before[[3, 1, 0]]) and codes[1].equal(new.zero_shot.class_codes[1])
    each = cfg.loss.centers_per_class
    centres, moments = state["objective"]["metric.fc"], state["optimizer"]["state"]
    assert centres[:, :each].equal(old.metric.fc[:, 3 * each :])
    assert centres[:, each : 2 * each].equal(new.metric.fc[:, each : 2 * each])
    (kept,) = [moment for moment in moments.values() if moment["exp_avg"].shape == centres.shape]
    for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
        assert not kept[name][:, each : 2 * each].any() and kept[name][:, :each].abs().sum() > 0
    assert kept["step"] == 1


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("labels", [[3, 2, 1, 0], [3, 2, -1, 0], [-1, -1, -1, -1]])
def test_a_memory_knows_its_classes_by_their_new_labels(steps: int, labels: list[int]) -> None:
    memory, expected = CrossBatchMemory(7, 2, start_step=0), []
    for step in range(steps):
        vectors, old = torch.full((3, 2), float(step)), torch.tensor([step, step + 1, step + 2]) % 4
        memory.remember(vectors, old)
        expected += [(float(step), labels[label]) for label in old]
    memory.relabel(torch.tensor(labels))
    held = [(row, label) for row, label in expected[-7:] if label >= 0]
    assert sorted(zip(memory.vectors[:, 0].tolist(), memory.labels.tolist(), strict=True)) == sorted(held)
    memory.remember(torch.full((3, 2), 9.0), torch.tensor([0, 0, 0]))  # the oldest go first, as ever
    held = [*held, *[(9.0, 0)] * 3][-7:]
    assert sorted(zip(memory.vectors[:, 0].tolist(), memory.labels.tolist(), strict=True)) == sorted(held)


def test_a_memory_that_leaves_own_images_out_takes_none_for_its_own_when_their_rows_have_changed() -> None:
    memory = CrossBatchMemory(4, 2, start_step=0, own_images=False)
    memory.remember(torch.ones(3, 2), torch.tensor([0, 1, 2]), torch.tensor([5, 6, 7]))
    assert len(memory.references(torch.tensor([5]))[1]) == 2
    memory.relabel(torch.tensor([2, -1, 0]))
    assert memory.references(torch.tensor([5, 6, 7]))[1].tolist() == [2, 0]


def test_a_loss_without_classes_has_nothing_to_carry_over(compose_smoke: Compose) -> None:
    cfg = compose_smoke("loss=contrastive", "zero_shot.weight=0")
    assert axes_of_classes(cfg, 4) == {} and build(cfg.loss).state_dict() == {}
