import pytest
import torch
from torch import nn

from dml.losses import Objective, ZeroShotLoss
from dml.training import constant, one_cycle, parameter_groups

MULTIPLIERS = {"backbone": 0.1, "head": 1.0, "prototypes": 2.0, "proxies": 10.0, "class_codes": 5.0}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.projection = nn.Linear(2, 2, bias=False)
        self.pooling = nn.Module()
        self.pooling.prototypes = nn.Parameter(torch.zeros(3, 2))
        self.pooling.ratio_logit = nn.Parameter(torch.zeros(()))


class Proxies(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(2, 4))


def groups(model: nn.Module) -> dict[str, dict]:
    objective = Objective(Proxies(), ZeroShotLoss(4, 2, ridge=0.05, scale=9.5), zero_shot_weight=0.1)
    found = parameter_groups(model, objective, lr=0.01, multipliers=MULTIPLIERS)  # type: ignore[arg-type]
    assert sum(len(g["params"]) for g in found) == 1 + 1 + sum(p.requires_grad for p in model.parameters())
    return {group["name"]: group for group in found}


def test_every_parameter_is_in_the_group_of_its_role_at_its_own_rate() -> None:
    found = groups(Model())
    assert {name: len(group["params"]) for name, group in found.items()} == {
        "backbone": 4, "head": 2, "prototypes": 1, "proxies": 1, "class_codes": 1
    }  # fmt: skip
    assert {name: group["lr"] for name, group in found.items()} == pytest.approx(
        {name: 0.01 * multiplier for name, multiplier in MULTIPLIERS.items()}
    )


def test_frozen_parameters_are_left_out() -> None:
    model = Model()
    model.backbone[0].requires_grad_(False)
    assert len(groups(model)["backbone"]["params"]) == 2


def test_a_role_with_a_multiplier_of_0_keeps_its_group_and_loses_its_gradient() -> None:
    model = Model()
    objective = Objective(Proxies(), None, zero_shot_weight=0)
    found = parameter_groups(model, objective, lr=1.0, multipliers={**MULTIPLIERS, "head": 0.0})  # type: ignore[arg-type]
    learning = {g["name"]: {p.requires_grad for p in g["params"]} for g in found}
    assert learning == {"backbone": {True}, "prototypes": {True}, "proxies": {True}, "head": {False}}


def test_a_run_in_which_nothing_would_learn_is_refused() -> None:
    objective = Objective(Proxies(), None, zero_shot_weight=0)
    with pytest.raises(ValueError, match=r"nothing would learn: of .*learning_rates.proxies at least one"):
        parameter_groups(Model(), objective, lr=1.0, multipliers=dict.fromkeys(MULTIPLIERS, 0.0))  # type: ignore[arg-type]


def rates(scheduler_of, steps: int) -> list[float]:  # type: ignore[no-untyped-def]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = scheduler_of(optimizer, total_steps=steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_one_cycle_rises_to_the_full_rate_and_falls_to_the_final_share() -> None:
    seen = rates(lambda o, total_steps: one_cycle(o, total_steps=total_steps, warmup=0.25, final=0.01), 101)
    assert seen[0] == pytest.approx(0.5 / 25) and max(seen) == pytest.approx(0.5, rel=1e-3)
    assert 20 <= seen.index(max(seen)) <= 26 and seen[-1] == pytest.approx(0.005, rel=0.02)


def test_constant_leaves_the_rate_as_it_is() -> None:
    assert set(rates(constant, 5)) == {0.5}


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
def test_very_short_runs_have_a_schedule_too(steps: int) -> None:
    assert (
        len(
            rates(lambda o, total_steps: one_cycle(o, total_steps=total_steps, warmup=0.2, final=0.01), steps)
        )
        == steps
    )
