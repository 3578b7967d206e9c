"""Which loggers follow a run, chosen by name; none of them can end it."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.assembly import open_loggers
from dml.assembly.loggers import check_loggers
from dml.config import ConfigError, TrainConfig, load_config
from dml.contracts import FollowedRun, Logger
from dml.migrations import migrate_config
from dml.resuming import open_run
from dml.run_folder import RunFolder
from dml.training import Trainer, read_steps
from dml.trust import UntrustedError

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]
TENSORBOARD = {"tensorboard": {"_target_": "dml.loggers.TensorBoardLogger"}}


class Failing(Logger):
    """Fails wherever it can, or only when it is made."""

    def __init__(self, run: FollowedRun, *, at_once: bool = False) -> None:
        if at_once:
            raise LookupError("no connection")

    def validation(self, *_: object) -> None:
        raise ConnectionError("no connection")

    training = step = close = validation  # type: ignore[assignment]


def of_ones_own(cfg: TrainConfig) -> TrainConfig:
    OmegaConf.update(cfg, "logger.mine", {"_target_": f"{__name__}.Failing"}, force_add=True)
    return cfg


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


@pytest.mark.parametrize(
    ("typed", "chosen"),
    [
        ([], ["tensorboard"]),
        (["logger=tensorboard"], ["tensorboard"]),
        (["logger=none"], []),
        (["logger=[]"], []),
        (["logger.tensorboard=false"], []),
        (["logger.tensorboard=null"], []),
        (["logger=[mlflow,tensorboard]"], ["mlflow", "tensorboard"]),
        (["experiment=collage/gap"], []),
        (["experiment=collage/gap", "logger=tensorboard"], ["tensorboard"]),
    ],
)
def test_they_are_chosen_by_name(typed: list[str], chosen: list[str], compose_config: Compose) -> None:
    cfg = compose_config(*typed)
    check_loggers(cfg)
    assert [name for name, node in cfg.logger.items() if node] == chosen


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["logger.tensorboard=true"], r"logger\.tensorboard=True is no component: .* logger=\[tensorboard,NAME\]"),
        (["logger=wandb", "+logger.wandb.projekt=x"], r"logger\.wandb\.projekt: .* did you mean project"),
        (["logger.tensorboard._target_=dml.loggers.TensorbordLogger"], r"did you mean dml\.loggers\.TensorBoardLogger"),
    ],
)  # fmt: skip
def test_what_names_none_is_refused_before_anything_runs(
    typed: list[str], said: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        assemble(compose_smoke(*typed), tmp_path)


@pytest.mark.parametrize(
    ("target", "arguments", "said"),
    [
        (f"{__name__}.Failing", {}, r"Failing failed \(ConnectionError\('no connection'\)\), and the run goes on"),
        (f"{__name__}.Failing", {"at_once": True}, r"logger\.mine failed \(LookupError\('no connection'\)\)"),
        ("builtins.dict", {}, r"mine=builtins\.dict gives dict, which has no step\(\): .*; the run goes on without"),
    ],
)  # fmt: skip
def test_one_that_fails_is_named_once_and_the_run_goes_on(
    target: str, arguments: dict[str, bool], said: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:  # fmt: skip
    cfg = compose_smoke("trainer.max_steps=2", "trainer.eval_every=1", "logger=none")
    OmegaConf.update(cfg, "logger.mine", {"_target_": target, **arguments}, force_add=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_loggers(cfg, RunFolder(tmp_path), start=0) as loggers:
            assemble(cfg, tmp_path / "checkpoints").fit(loggers)
    (sentence,) = [str(one.message) for one in caught if "run goes on" in str(one.message)]
    assert re.search(said, sentence) and len(read_steps(tmp_path / "steps.csv")) == 2


@pytest.mark.parametrize(("before", "now"), [(True, TENSORBOARD), (False, {})])
@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_switch_of_an_old_run_is_a_choice_now(version: int, before: bool, now: dict[str, object]) -> None:
    old = {"format": version, "logger": {"tensorboard": before}}
    assert migrate_config(old, "config.yaml")["logger"] == now


def test_a_run_goes_on_with_other_loggers(compose_smoke: Compose, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    saved = OmegaConf.to_container(of_ones_own(compose_smoke()), resolve=True)
    OmegaConf.save(OmegaConf.create(saved), folder / "config.yaml")
    for choice, expected in (("logger=[mlflow]", {"mlflow"}), ("logger.tensorboard=null", {"mine"})):
        typed = [choice, f"resume={folder}", "trust=[tests]"]
        cfg = open_run(compose_smoke(*typed), tmp_path / "new", overrides=typed).cfg
        assert {name for name, node in cfg.logger.items() if node} == expected


def test_a_logger_of_ones_own_keeps_nobody_from_reading_the_run_but_from_going_on(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    saved = OmegaConf.to_container(of_ones_own(compose_smoke()), resolve=True)
    OmegaConf.save(OmegaConf.create(saved), tmp_path / "config.yaml")
    assert "mine" in load_config(tmp_path / "config.yaml").logger
    with pytest.raises(UntrustedError, match=r"logger\.mine\._target_"):
        open_run(compose_smoke(f"resume={tmp_path}"), tmp_path / "new", overrides=[f"resume={tmp_path}"])
