"""An optimizer and a schedule that go on, as saved or with values that were changed in between."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from dml.config import TrainConfig
from dml.errors import CheckpointError, ConfigError
from dml.training import Trainer

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]
SCHEDULES = {
    "constant": ["scheduler=constant"],
    "one_cycle": ["scheduler=one_cycle"],
    "plateau": ["scheduler=plateau", "scheduler.factor=0.5", "scheduler.patience=0"],
}


class Rates:
    """A logger of the learning rates of each step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def training(self, step: int, scalars: dict[str, float]) -> None:
        self.seen.append(
            {k.removeprefix("learning_rate/"): v for k, v in scalars.items() if "learning_rate" in k}
        )

    def step(self, *_: object) -> None: ...

    validation = step


@pytest.fixture(scope="module")
def start(
    compose_smoke: Compose, assemble: Assemble, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Trainer]:
    """A trainer of eight steps whose validation figure never rises, so that a plateau falls at every second one."""

    def started(*overrides: str) -> Trainer:
        steps = ["trainer.max_steps=8", "trainer.eval_every=2", "trainer.log_every=1"]
        cfg = compose_smoke(*steps, "trainer.initialisation_batches=1", *overrides)
        trainer = assemble(cfg, tmp_path_factory.mktemp("run"))
        trainer.validate = lambda model: {"map@r": 0.5}
        return trainer

    return started


@pytest.fixture(scope="module")
def resumed(start: Callable[..., Trainer]) -> Callable[..., Trainer]:
    """The same after it was left at step 4, with other values."""

    @cache
    def stopped(*before: str) -> Path:
        trainer = start(*before)
        trainer.fit([], until=4)
        return trainer.run.last

    def going_on(before: list[str], changes: list[str]) -> Trainer:
        trainer = start(*before, *changes)
        shutil.copy(stopped(*before), trainer.run.last)
        trainer.resume()
        return trainer

    return going_on


def rates(trainer: Trainer) -> list[dict[str, float]]:
    watch = Rates()
    trainer.fit([watch])
    return watch.seen


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_a_change_every_option_is_as_it_was_saved(
    schedule: str, start: Callable[..., Trainer], resumed: Callable[..., Trainer]
) -> None:
    through = rates(start(*SCHEDULES[schedule]))
    trainer = resumed(SCHEDULES[schedule], [])
    saved = torch.load(trainer.run.last, weights_only=True)
    assert trainer.optimizer.state_dict()["param_groups"] == saved["optimizer"]["param_groups"]
    assert trainer.scheduler.state_dict() == saved["scheduler"]
    assert rates(trainer) == through[4:]


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_changed_rates_are_those_of_a_run_that_always_had_them(
    schedule: str, start: Callable[..., Trainer], resumed: Callable[..., Trainer]
) -> None:
    changes = ["optimizer.lr=0.002", "learning_rates.backbone=0.5", "optimizer.weight_decay=0.3"]
    always = rates(start(*SCHEDULES[schedule], *changes))
    trainer = resumed(SCHEDULES[schedule], changes)
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.3}
    assert rates(trainer) == always[4:]


def test_the_shape_of_a_cycle_can_change_too(
    start: Callable[..., Trainer], resumed: Callable[..., Trainer]
) -> None:
    changes = ["scheduler.warmup=0.75", "scheduler.final=0.5"]
    assert rates(resumed(SCHEDULES["one_cycle"], changes)) == rates(start(*changes))[4:]


def test_a_plateau_keeps_its_drops_under_a_new_rate_and_falls_by_its_new_factor(
    resumed: Callable[..., Trainer],
) -> None:
    changes = ["optimizer.lr=0.1", "learning_rates.head=3", "scheduler.factor=0.1"]
    trainer = resumed(SCHEDULES["plateau"], changes)  # fell at steps 2 and 4
    seen = rates(trainer)
    assert [step["head"] for step in seen] == pytest.approx([0.075, 0.075, 0.0075, 0.0075])
    assert [step["prototypes"] for step in seen] == pytest.approx([0.025, 0.025, 0.0025, 0.0025])


def test_a_plateau_waits_as_long_as_its_new_patience_says(resumed: Callable[..., Trainer]) -> None:
    trainer = resumed(SCHEDULES["plateau"], ["scheduler.patience=9"])
    assert {step["head"] for step in rates(trainer)} == {0.00025}


def test_a_role_that_begins_to_learn_under_a_plateau_has_the_drops_of_the_others(
    resumed: Callable[..., Trainer],
) -> None:
    before = [*SCHEDULES["plateau"], "learning_rates.head=0"]
    seen = rates(resumed(before, ["learning_rates.head=2"]))
    assert seen[0]["head"] == pytest.approx(0.0005) and seen[0]["prototypes"] == 0.00025


def test_moments_are_kept_and_betas_are_taken(resumed: Callable[..., Trainer]) -> None:
    trainer = resumed([], ["optimizer.betas=[0.5,0.6]"])
    saved = torch.load(trainer.run.last, weights_only=True)["optimizer"]["state"]
    held = trainer.optimizer.state_dict()["state"]
    assert {group["betas"] for group in map(plain, trainer.optimizer.param_groups)} == {(0.5, 0.6)}
    assert list(held) == list(saved)
    for number, moments in saved.items():
        assert all(held[number][name].equal(value) for name, value in moments.items())


def plain(group: dict) -> dict:
    return {**group, "betas": tuple(group["betas"])}


def test_momentum_can_be_switched_on(resumed: Callable[..., Trainer]) -> None:
    before = ["optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false"]
    trainer = resumed(before, ["optimizer.momentum=0.5"])
    trainer.fit([])
    assert trainer.step == 8 and {group["momentum"] for group in trainer.optimizer.param_groups} == {0.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["optimizer=adam"],
            r"optimizer._target_=torch.optim.Adam: .*last.pt holds the state of torch.optim.AdamW",
        ),
        (
            ["scheduler=plateau"],
            r"scheduler._target_=dml.training.plateau: .*state of dml.training.one_cycle",
        ),
        (["+optimizer.amsgrad=true"], r"AdamW cannot go on with its new values.*max_exp_avg_sq"),
    ],
)
def test_what_cannot_be_applied_is_refused(
    changes: list[str], message: str, resumed: Callable[..., Trainer]
) -> None:
    with pytest.raises(ConfigError, match=message):
        resumed([], changes)


def test_an_optimizer_of_other_parameters_is_named_with_both_sides(
    resumed: Callable[..., Trainer],
) -> None:
    trainer = resumed([], [])
    state = torch.load(trainer.run.last, weights_only=True)
    del state["optimizer"]["param_groups"][0]["params"][0]
    torch.save(state, trainer.run.last)
    with pytest.raises(CheckpointError, match=r"has 2 parameters of backbone.*configuration 3 parameters of"):
        trainer.resume()


def test_the_state_of_another_schedule_is_refused(
    resumed: Callable[..., Trainer],
) -> None:
    trainer = resumed([], [])
    state = torch.load(trainer.run.last, weights_only=True)
    state["optimizer"] = {"param_groups": state["optimizer"]["param_groups"]}
    torch.save(state, trainer.run.last)
    with pytest.raises(CheckpointError, match=r"holds no state of AdamW and OneCycleLR.*KeyError: 'state'"):
        trainer.resume()
