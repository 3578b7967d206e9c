"""Search for settings by the validation classes: python scripts/sweep.py space=gsp trials=30

space=NAME         a file in configs/sweep/
trials=30          how many, those of earlier calls counted: the same command goes on after a stop or a kill
folder=DIR         where the trials are recorded; runs/sweeps/NAME if not given
overrides=[a,b]    what every trial has besides, as behind python train.py
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import MISSING
from rich.console import Console

from dml.config import ConfigError, TrainConfig, parse_arguments, register_schema
from dml.overrides import as_typed, train_command
from dml.reporting import readable_errors, sweep_table, winner_command
from dml.sweep import read_space, run_sweep

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@dataclass
class Arguments:
    space: str = MISSING
    trials: int = MISSING
    folder: str | None = None
    overrides: list[str] = field(default_factory=list)


def compose(overrides: Sequence[str]) -> TrainConfig:
    try:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra.compose("train", as_typed(overrides))
    except HydraException as error:
        raise ConfigError(f"{train_command(*overrides)} does not compose: {error}") from error


@readable_errors
def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    arguments = parse_arguments(Arguments, sys.argv[1:])
    register_schema()
    space = read_space(CONFIGS / "sweep" / f"{arguments.space.removesuffix('.yaml')}.yaml")
    space.overrides += arguments.overrides
    folder = Path(arguments.folder or f"runs/sweeps/{arguments.space.removesuffix('.yaml')}")
    study = run_sweep(space, folder, compose, trials=arguments.trials)
    console = Console()
    console.print(sweep_table(study))
    if command := winner_command(study, space.overrides):
        console.print(f"the best one: {command}", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
