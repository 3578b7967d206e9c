"""A data set that changed while a run rested: what changed is named, and taken only if asked for."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from dml.config import TrainConfig, load_config
from dml.data import Records, Splits, contents, contents_differences
from dml.errors import CheckpointError, InputError
from dml.run_folder import RunFolder
from dml.runs import evaluate_run, load_metrics
from dml.train import train
from dml.training import Logger, Trainer
from dml.verification import repeat_steps
from tests.photographs import write_photographs

Compose = Callable[..., TrainConfig]
SMALL = (
    "transform.short_side=32", "evaluator.recall_at=[1]", "protocol=conventional", "sampler.classes_per_batch=3",
    "logger.tensorboard=false", "trainer.initialisation_batches=1",
)  # fmt: skip
KINDS = {
    "proxies": ["loss=normalized_softmax", "memory.batches=0"],
    "class codes": ["zero_shot.weight=0.1"],
    "a memory": ["pooling=gap", "memory.batches=2", "memory.start_step=0"],
}


def until_step_3(trainer: Trainer, loggers: Sequence[Logger], fit: Callable[..., None] = Trainer.fit) -> None:
    fit(trainer, loggers, until=3)
    raise KeyboardInterrupt


class Stopped:
    """A run that rests after step 3 of 6, on photographs of the classes ash, elm and fir."""

    def __init__(self, folder: Path, compose: Compose, overrides: Sequence[str]) -> None:
        self.images, self.run, self.compose = folder / "photos", RunFolder(folder / "run"), compose
        write_photographs(self.images)
        command = ["dataset=folder", f"dataset.root={self.images}", *SMALL, *overrides]
        with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Trainer, "fit", until_step_3)
            train(compose(*command), self.run.path)

    def go_on(self, *overrides: str) -> None:
        typed = [f"resume={self.run}", *overrides]
        train(self.compose(*typed), self.run.path.parent / "new", typed)

    def rename(self, name: str, other: str) -> None:
        (self.images / "train" / name).rename(self.images / "train" / other)

    @property
    def state(self) -> dict:
        return torch.load(self.run.last, weights_only=True)


@pytest.fixture(scope="module")
def stopped(
    compose_smoke: Compose, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Path], Stopped]:
    made: dict[str, Stopped] = {}

    def copy(kind: str, folder: Path) -> Stopped:
        if kind not in made:
            made[kind] = Stopped(tmp_path_factory.mktemp("stopped"), compose_smoke, KINDS[kind])
        source = made[kind].run.path.parent
        shutil.copytree(source, folder, dirs_exist_ok=True)
        config = folder / "run" / "config.yaml"
        config.write_text(config.read_text().replace(str(source), str(folder)))
        copied = object.__new__(Stopped)
        copied.images, copied.run, copied.compose = (
            folder / "photos",
            RunFolder(folder / "run"),
            compose_smoke,
        )
        return copied

    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_a_renamed_class_is_named_and_refused_and_nothing_is_touched(
    kind: str, stopped: Callable[[str, Path], Stopped], tmp_path: Path
) -> None:
    run = stopped(kind, tmp_path)
    before = (run.run.config.read_bytes(), run.run.last.read_bytes())
    run.rename("ash", "zelkova")
    message = r"(?s)up to step 3 .*train: 1 of 3 classes are gone, namely 'ash'\n.*classes are new.*'zelkova'\n.*accept"
    with pytest.raises(InputError, match=message):
        run.go_on()
    assert (run.run.config.read_bytes(), run.run.last.read_bytes()) == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_of_the_other_classes_is_kept_if_asked_for(
    kind: str, stopped: Callable[[str, Path], Stopped], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """elm and fir, which were 1 and 2, are 0 and 1 now."""
    run = stopped(kind, tmp_path)
    run.rename("ash", "zelkova")
    old, seen = run.state["objective"], []
    monkeypatch.setattr(
        Trainer, "fit", lambda trainer, loggers: seen.append(trainer) or until_step_3(trainer, loggers)
    )
    with pytest.raises(KeyboardInterrupt):
        run.go_on("accept_changes=true")
    (trainer,) = seen
    now = trainer.objective.state_dict()
    assert trainer.step == 3
    if kind == "proxies":
        assert now["metric.W"][:, :2].equal(old["metric.W"][:, 1:]) and len(now["metric.W"].T) == 3
    elif kind == "class codes":
        codes = "zero_shot.class_codes"
        assert now[codes][:2].equal(old[codes][1:]) and not now[codes][2].equal(old[codes][0])
    else:
        fill = old["memory._extra_state"]["fill"]
        labels = old["memory.ring_labels"][:fill]
        assert trainer.objective.memory.fill == int((labels > 0).sum()) > 0
        assert trainer.objective.memory.labels.tolist() == [
            label - 1 for label in labels.tolist() if label > 0
        ]


def test_an_added_class_is_learned_to_the_end_and_the_old_configuration_is_kept(
    stopped: Callable[[str, Path], Stopped], tmp_path: Path
) -> None:
    run = stopped("proxies", tmp_path)
    shutil.copytree(run.images / "train" / "ash", run.images / "train" / "birch")
    for image in (run.images / "train" / "birch").iterdir():
        image.write_bytes(image.read_bytes() + b"\0")  # no copy, byte for byte
    with pytest.raises(InputError, match=r"train: 1 classes are new, namely 'birch'"):
        run.go_on()
    run.go_on("accept_changes=true")
    assert load_metrics(run.run) and run.state["objective"]["metric.W"].shape[1] == 4
    assert load_config(run.run.config).loss.num_classes == 4
    assert load_config(run.run.earlier_config(3)).loss.num_classes == 3
    assert list(run.state["record"]["data"]["train"]["classes"]) == ["ash", "birch", "elm", "fir"]


def test_images_that_come_and_go_are_named_too(
    stopped: Callable[[str, Path], Stopped], tmp_path: Path
) -> None:
    run = stopped("proxies", tmp_path)
    (run.images / "train" / "fir" / "0.png").unlink()
    (run.images / "test" / "oak" / "1.png").rename(run.images / "test" / "oak" / "other.png")
    message = r"(?s)train: 1 classes have other images.*'fir'\n  test: 1 classes have other images.*'oak'\n"
    with pytest.raises(InputError, match=message):
        run.go_on()
    run.go_on("accept_changes=true")
    assert load_metrics(run.run)


def test_the_same_images_elsewhere_are_no_change(
    stopped: Callable[[str, Path], Stopped], tmp_path: Path
) -> None:
    run = stopped("proxies", tmp_path)
    elsewhere = run.images.rename(tmp_path / "other (2)")
    run.go_on(f"dataset.root='{elsewhere}'")
    assert load_metrics(run.run) and load_config(run.run.config).dataset.root == str(elsewhere)


def test_a_checkpoint_that_does_not_name_its_classes_goes_on_as_it_did(
    stopped: Callable[[str, Path], Stopped], tmp_path: Path
) -> None:
    run = stopped("proxies", tmp_path)
    state = run.state
    del state["record"]["data"]
    torch.save(state, run.run.last)
    shutil.copytree(run.images / "train" / "ash", run.images / "train" / "birch")
    with (
        pytest.warns(UserWarning, match="copies"),
        pytest.raises(
            CheckpointError, match=r"begun with 3 training classes, and its data set has 4 now.*new run"
        ),
    ):
        run.go_on("accept_changes=true")
    shutil.rmtree(run.images / "train" / "birch")
    run.go_on()
    assert load_metrics(run.run)


def test_a_run_that_learned_nothing_yet_takes_more_classes_if_asked_for(
    stopped: Callable[[str, Path], Stopped], tmp_path: Path
) -> None:
    run = stopped("proxies", tmp_path)
    shutil.rmtree(run.run.checkpoints)
    shutil.copytree(run.images / "train" / "ash", run.images / "train" / "birch")
    (run.images / "train" / "ash").rename(run.images / "train" / "yew")
    with (
        pytest.warns(UserWarning, match="copies"),
        pytest.raises(CheckpointError, match=r"has 4 now.*accept_changes"),
    ):
        run.go_on()
    with pytest.warns(UserWarning, match="copies"):
        run.go_on("accept_changes=true")
    assert load_config(run.run.config).loss.num_classes == 4


def test_the_best_figure_of_other_validation_classes_is_not_compared(
    stopped: Callable[[str, Path], Stopped], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = stopped("proxies", tmp_path), []
    run.rename("ash", "zelkova")  # the train classes validate under this protocol
    monkeypatch.setattr(
        Trainer, "fit", lambda trainer, loggers: seen.append(trainer.kept.figure) or until_step_3(trainer, [])
    )
    with pytest.raises(KeyboardInterrupt):
        run.go_on("accept_changes=true")
    assert seen == [{"step": 3, "value": -np.inf}]


def test_verify_and_evaluate_say_that_the_images_are_others(
    stopped: Callable[[str, Path], Stopped], tmp_path: Path
) -> None:
    run = stopped("proxies", tmp_path)
    run.go_on()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run.images, elsewhere)
    assert all(then == now for then, now in repeat_steps(run.run, 2, data=str(elsewhere)).steps.values())
    assert dict(evaluate_run(run.run, data=str(elsewhere))["test"]) == load_metrics(run.run)["test"]
    (elsewhere / "test" / "oak").rename(elsewhere / "test" / "tree")
    assert repeat_steps(run.run, 1, data=str(elsewhere)).steps  # it trained on the same
    with pytest.warns(
        UserWarning, match=r"not the images that .*run was measured on: test: 1 of 3 classes are gone"
    ):
        evaluate_run(run.run, data=str(elsewhere))
    (elsewhere / "train" / "elm" / "1.png").unlink()
    with pytest.raises(
        InputError, match=r"trained on other images.*train: 1 classes have other images.*'elm'"
    ):
        repeat_steps(run.run, 2, data=str(elsewhere))


def test_the_data_folder_moves_the_images_of_a_resumed_run_too(
    stopped: Callable[[str, Path], Stopped], tmp_path: Path
) -> None:
    run = stopped("proxies", tmp_path)
    elsewhere = run.images.rename(tmp_path / "elsewhere")
    (elsewhere / "train" / "ash").rename(elsewhere / "train" / "zelkova")
    with pytest.raises(InputError, match=r"'zelkova'"):
        run.go_on(f"paths.data={elsewhere}")
    (elsewhere / "train" / "zelkova").rename(elsewhere / "train" / "ash")
    run.go_on(f"paths.data={elsewhere}")
    assert load_metrics(run.run) and load_config(run.run.config).dataset.root == str(elsewhere)


def test_the_best_figure_of_other_test_images_is_laid_aside(
    stopped: Callable[[str, Path], Stopped], tmp_path: Path
) -> None:
    run = stopped("proxies", tmp_path)
    run.run.best_on_test.write_text('{"map@r": 2.0}')
    (run.images / "test" / "oak" / "0.png").unlink()
    run.go_on("accept_changes=true")
    assert run.run.earlier_best_on_test(3).exists() and "best_on_test" not in load_metrics(run.run)


def records(files: dict[str, list[str]]) -> Records:
    names = tuple(files)
    labels = np.repeat(np.arange(len(names)), [len(each) for each in files.values()])
    flat = tuple(file for each in files.values() for file in each)
    return Records(np.zeros((1, 1, 1, 3), np.uint8), np.arange(len(flat)), labels, names, flat)


def differences(before: Records, after: Records) -> list[str]:
    return contents_differences(*(contents(Splits(each, each, each, False)) for each in (before, after)))


def test_names_in_two_forms_of_unicode_are_the_same() -> None:
    composed, decomposed = "\u00e9.jpg", "e\u0301.jpg"
    assert differences(records({"a": [composed]}), records({"a": [decomposed]})) == []


def test_another_order_and_another_role_are_changes() -> None:
    one = records({"a": ["1", "2"], "b": ["3"]})
    assert "a" in differences(one, records({"a": ["2", "1"], "b": ["3"]}))[0]
    assert differences(one, records({"b": ["3"], "a": ["1", "2"]})) == [
        "train: classes or images come in another order",
        "test: classes or images come in another order",
    ]
    query = Records(
        one.images, one.rows, one.labels, one.class_names, one.files, np.array([True, False, False])
    )
    assert len(differences(one, query)) == 2
