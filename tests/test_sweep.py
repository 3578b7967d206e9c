import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from rich.console import Console

from dml.config import ConfigError, TrainConfig
from dml.data import Records, Splits, loading
from dml.reporting import sweep_table, winner_command
from dml.run_folder import RunFolder
from dml.sweep import SearchSpace, read_space, run_sweep
from dml.training import NonFiniteLossError
from tests.holding import other_process_holds

ROOT = Path(__file__).parent.parent
SPACES = sorted((ROOT / "configs" / "sweep").glob("*.yaml"))
Compose = Callable[[Sequence[str]], TrainConfig]


def noise(classes: int) -> Records:
    count = 4 * classes
    pixels = np.random.default_rng(classes).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    names = tuple(f"{classes}-{i}" for i in range(classes))
    return Records(
        pixels, np.arange(count), np.repeat(np.arange(classes), 4), names, tuple(map(str, range(count)))
    )


@pytest.fixture
def compose(compose_smoke: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch) -> Compose:
    """Configurations of the smoke run; the data is noise, and its test set may not be touched."""
    monkeypatch.setattr("dml.sweep.build_data", lambda cfg: Splits(noise(12), noise(6), noise(7)))
    return lambda overrides: compose_smoke("evaluator.recall_at=[1]", *overrides)


def space(**changes: Any) -> SearchSpace:
    parameters = {"pooling.sharpness": {"low": 0.5, "high": 50.0, "log": True}}
    options: dict[str, Any] = {"overrides": [], "seeds": [0, 1], "startup_trials": 5, **changes}
    return SearchSpace(**{"parameters": parameters, **options})


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def test_a_trial_is_worth_the_mean_of_its_seeds(compose: Compose, tmp_path: Path) -> None:
    (trial,) = run_sweep(space(), tmp_path, compose, trials=1).get_trials()
    by_seed = trial.user_attrs["by_seed"]
    assert trial.value == pytest.approx(np.mean([by_seed["0"], by_seed["1"]])) and len(by_seed) == 2
    assert 0.5 <= trial.params["pooling.sharpness"] <= 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.journal"]


def test_the_test_classes_are_never_embedded(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = loading._request
    monkeypatch.setattr(
        loading, "_request", lambda data, i: seen.append(data.num_classes) or original(data, i)
    )
    run_sweep(space(seeds=[0]), tmp_path, compose, trials=1)
    assert set(seen) == {12, 6}


def test_the_same_command_goes_on_and_counts_what_is_done(compose: Compose, tmp_path: Path) -> None:
    first = run_sweep(space(seeds=[0]), tmp_path, compose, trials=1).get_trials()
    more = run_sweep(space(seeds=[0]), tmp_path, compose, trials=3).get_trials()
    assert len(more) == 3 and more[0].params == first[0].params and more[0].value == first[0].value
    assert len(run_sweep(space(seeds=[0]), tmp_path, compose, trials=3).get_trials()) == 3


def test_what_a_kill_cut_off_is_tried_again_with_the_same_values_once(
    compose: Compose, tmp_path: Path
) -> None:
    study = run_sweep(space(seeds=[0]), tmp_path, compose, trials=1)
    study.ask({"pooling.sharpness": optuna.distributions.FloatDistribution(0.5, 50.0, log=True)})
    assert states(study) == ["COMPLETE", "RUNNING"]  # as after kill -9
    killed = study.get_trials()[1].params
    study = run_sweep(space(seeds=[0]), tmp_path, compose, trials=2)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"] and study.get_trials()[2].params == killed
    assert states(run_sweep(space(seeds=[0]), tmp_path, compose, trials=3))[3:] == ["COMPLETE"]


def test_a_trial_below_the_median_is_pruned(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def best_figure(cfg: TrainConfig, folder: RunFolder, watcher: Any) -> float:
        figure = 0.9 if "trial3" not in folder.path.name else 0.1
        watcher.validation(3, {"map@r": figure}, torch.nn.Identity())
        return figure

    monkeypatch.setattr("dml.sweep._best_figure", best_figure)
    study = run_sweep(space(startup_trials=3), tmp_path, compose, trials=4)
    assert states(study) == ["COMPLETE"] * 3 + ["PRUNED"]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(sweep_table(study))
    assert "90.00%" in captured.get() and "pruned" in captured.get()
    command = winner_command(study, ["pooling=gsp"])
    assert command == "dml train pooling=gsp " + " ".join(
        f"{key}={value}" for key, value in study.best_trial.params.items()
    )
    compose(command.split()[2:])


def test_without_a_complete_trial_nothing_is_the_best(tmp_path: Path) -> None:
    study = optuna.create_study()
    assert winner_command(study, []) is None


def test_a_trial_whose_loss_is_not_finite_fails_and_the_search_goes_on(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def best_figure(cfg: TrainConfig, folder: RunFolder, watcher: Any) -> float:
        if "trial0" in folder.path.name:
            raise NonFiniteLossError("loss is nan")
        return 0.5

    monkeypatch.setattr("dml.sweep._best_figure", best_figure)
    assert states(run_sweep(space(), tmp_path, compose, trials=2)) == ["FAIL", "COMPLETE"]
    assert states(run_sweep(space(), tmp_path, compose, trials=3)) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_a_protocol_without_validation_classes_is_refused(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = noise(12)
    monkeypatch.setattr("dml.sweep.build_data", lambda cfg: Splits(train, train, noise(7), val_chooses=False))
    with pytest.raises(ConfigError, match="protocol=holdout or mlrc"):
        run_sweep(space(), tmp_path, compose, trials=1)


def test_two_searches_in_one_folder_are_refused(compose: Compose, tmp_path: Path) -> None:
    with other_process_holds(tmp_path), pytest.raises(FileExistsError, match="another process searches in"):
        run_sweep(space(), tmp_path, compose, trials=1)


def test_without_optuna_the_way_to_get_it_is_named(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install optuna"):
        run_sweep(space(), tmp_path, compose, trials=1)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_has_keys_that_exist(path: Path, compose_config: Callable[..., TrainConfig]) -> None:
    found = read_space(path)
    drawn = [
        f"{key}={options.get('low', options.get('choices', [None])[0])}"
        for key, options in found.parameters.items()
    ]
    assert compose_config(*found.overrides, *drawn).seed == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters: {seed: {low: 3, high: 1}}", r"parameters.seed=.*is no range; accepted"),
        ("parameters: {seed: {hgih: 1, low: 0}}", r"is no range"),
        ("parameters: {seed: {low: 0, high: 1, log: true}}", "has no logarithm"),
        ("parameters: {}", "at least one of each"),
        ("parametres: {}", "is no search space: .*parametres"),
    ],
)
def test_a_space_that_cannot_be_drawn_from_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(f"{text}\nseeds: [0]\nstartup_trials: 1\n")
    with pytest.raises(ConfigError, match=message):
        read_space(tmp_path / "bad.yaml")


def test_an_unknown_space_and_no_trials_are_refused(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="space=psg does not exist; accepted: gsp, learning_rates"):
        read_space(ROOT / "configs" / "sweep" / "psg.yaml")
    with pytest.raises(ConfigError, match="trials=0"):
        run_sweep(space(), tmp_path, compose, trials=0)
