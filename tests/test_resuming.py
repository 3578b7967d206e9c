"""What a run goes on with: the very command that made it, values beside it, and no silent change."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from omegaconf import OmegaConf

from dml import resuming
from dml.config import ConfigError, TrainConfig, load_config, settle, to_plain
from dml.errors import OccupiedError
from dml.resuming import OpenedRun, open_run
from dml.runs import start_run
from dml.train import train
from dml.training import Logger, Trainer
from tests.children import run_dml
from tests.photographs import write_photographs

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]


@pytest.fixture(scope="module")
def saved(
    compose_smoke: Compose,
    assemble: Callable[[TrainConfig, Path], Trainer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run that was killed after step 3 of 6."""
    folder, cfg = tmp_path_factory.mktemp("saved") / "run", compose_smoke()
    trainer = assemble(cfg, folder / "checkpoints")
    trainer.fit([], until=3)
    OmegaConf.save(OmegaConf.create(to_plain(cfg)), folder / "config.yaml")
    return folder


@pytest.fixture
def begun(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "runs" / "begun")


def resume(compose: Compose, folder: Path, *overrides: str) -> OpenedRun:
    """Type the overrides beside ``resume=``."""
    typed = [f"resume={folder}", *overrides]
    return open_run(compose(*typed), folder.parent / "new", overrides=typed)


def values(compose: Compose, folder: Path, *overrides: str) -> OpenedRun:
    """The same for what Hydra would not compose, as it has to be parsed all the same."""
    typed = [f"resume={folder}", *overrides]
    return open_run(compose(typed[0]), folder.parent / "new", overrides=typed)


def test_resuming_goes_on_with_the_saved_configuration_in_its_folder(
    begun: Path, compose_smoke: Compose
) -> None:
    run = open_run(compose_smoke(f"resume={begun}", "seed=4"), begun.parent / "new")
    assert run.cfg.seed == 0 and run.cfg.resume is None and run.folder.path == begun
    assert run.resumed and run.step == 3 and run.before is None


def test_a_run_that_died_before_its_first_checkpoint_begins_anew_in_its_folder(
    begun: Path, compose_smoke: Compose
) -> None:
    shutil.rmtree(begun / "checkpoints")
    run = resume(compose_smoke, begun)
    assert run.resumed and run.step is None


def test_how_a_run_is_executed_may_change_on_resume(begun: Path, compose_smoke: Compose) -> None:
    elsewhere = ["paths.data=/disk", "dataset.root=/disk/sets/emoji", "evaluator.backend=torch"]
    run = resume(
        compose_smoke, begun, "num_workers=2", "trainer.micro_batch=8", "trainer.log_every=3", *elsewhere
    )
    assert run.cfg.num_workers == 2 and run.cfg.trainer.micro_batch == 8 and run.before is None
    assert run.cfg.dataset.root == "/disk/sets/emoji" and run.cfg.evaluator.backend == "torch"


def test_what_changes_the_numbers_is_shown_and_refused_and_nothing_is_touched(
    begun: Path, compose_smoke: Compose
) -> None:
    before = (begun / "config.yaml").read_bytes()
    message = (
        r"(?s)up to step 3.*\n  seed: 0 -> 77\n  optimizer.lr: 0.001 -> 0.1\nto go on as it was, type no more than: "
        r"dml train resume=.*begun\n.*accept_changes=true"
    )
    with pytest.raises(ConfigError, match=message):
        resume(compose_smoke, begun, "seed=77", "optimizer.lr=0.1")
    assert (begun / "config.yaml").read_bytes() == before


def test_what_changes_the_numbers_is_taken_if_asked_for_and_the_old_configuration_is_kept(
    begun: Path, compose_smoke: Compose
) -> None:
    run = resume(compose_smoke, begun, "optimizer.lr=0.1", "accept_changes=true")
    assert load_config(begun / "config.yaml").optimizer.lr == 0.001  # until the parts are known to take it
    start_run(run)
    assert run.cfg.optimizer.lr == load_config(begun / "config.yaml").optimizer.lr == 0.1
    assert load_config(begun / "config.until_step_3.yaml").optimizer.lr == 0.001


def test_a_change_that_no_part_can_take_leaves_the_run_as_it_was(
    begun: Path, compose_smoke: Compose, assemble: Assemble
) -> None:
    before = (begun / "config.yaml").read_bytes()
    run = resume(compose_smoke, begun, "debug=smoke", "optimizer=sgd", "accept_changes=true")
    with pytest.raises(ConfigError, match=r"holds the state of torch\.optim\.AdamW"):
        assemble(run.cfg, run.folder.checkpoints).resume()
    assert (begun / "config.yaml").read_bytes() == before
    assert sorted(path.name for path in begun.iterdir()) == [".lock", "checkpoints", "config.yaml"]


def test_an_edited_configuration_is_held_against_that_of_the_checkpoint(
    begun: Path, compose_smoke: Compose
) -> None:
    path = begun / "config.yaml"
    path.write_text(path.read_text().replace("embedding_dim: 128", "embedding_dim: 64"))
    with pytest.raises(ConfigError, match=r"(?s)embedding_dim: 128 -> 64\n.*config.yaml was edited since"):
        resume(compose_smoke, begun)


COMMANDS = {
    "late values": ["debug=smoke", "loss=proxy_anchor", "memory.batches=0"],
    "a value added": ["debug=smoke", "loss=triplet", "+loss.collect_stats=true", "pooling=gap"],
    "a value deleted": ["debug=smoke", "optimizer=sgd", "~optimizer.fused"],
    "an experiment": ["experiment=emoji/gap", "hydra.run.dir=elsewhere", "trainer.patience=null"],
    "places": ["debug=smoke", "dataset=folder", "dataset.root=photos"],
    "values alone": [
        "+loss.collect_stats=true",
        "optimizer.betas=[0.8,0.9]",
        "~optimizer.fused",
        "hydra.run.dir=a",
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_very_command_of_a_run_goes_on_with_it(
    name: str, compose_config: Compose, tmp_path: Path
) -> None:
    command, folder = COMMANDS[name], tmp_path / "run"
    cfg = compose_config(*command)
    opened = open_run(cfg, folder)
    cfg = settle(opened.cfg, num_classes=12)
    start_run(replace(opened, cfg=cfg))
    run = resume(compose_config, folder, *command)
    assert run.before is None and to_plain(run.cfg) == to_plain(cfg)


def test_a_value_that_only_the_part_of_the_run_knows_is_taken_beside_resume(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    write_photographs(tmp_path / "images")
    folder, data = tmp_path / "run", ["dataset=folder", f"dataset.root={tmp_path / 'images'}"]
    small = ["transform.short_side=32", "protocol=conventional", "sampler.classes_per_batch=3", "pooling=gap"]
    train(compose_smoke(*data, *small, "evaluator.recall_at=[1]", "logger.tensorboard=false"), folder)
    before = (folder / "metrics.json").read_bytes()
    (folder / "metrics.json").unlink()  # as if it had been stopped in the last evaluation
    cache = ["dataset.cache=true", f"dataset.cache_folder={tmp_path / 'cache'}"]
    done = run_dml("train", f"resume={folder}", *cache)
    assert done.returncode == 0 and (folder / "metrics.json").read_bytes() == before, done.stderr
    assert any((tmp_path / "cache").iterdir()) and load_config(folder / "config.yaml").dataset.cache is True


def test_the_format_is_no_choice(compose_smoke: Compose, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"format=7: this is no choice, new runs are of format 3"):
        open_run(compose_smoke("format=7"), tmp_path / "run")


def test_what_the_command_leaves_open_is_what_was_saved(compose_config: Compose, tmp_path: Path) -> None:
    start_run(open_run(compose_config("dataset=folder", "dataset.root=photos"), tmp_path / "run"))
    assert resume(compose_config, tmp_path / "run", "dataset=folder").cfg.dataset.root == "photos"


def test_another_part_is_shown_and_refused_with_the_reason_why_all_was_compared(
    begun: Path, compose_config: Compose
) -> None:
    message = (
        r"(?s)pooling._target_: dml.*Sum.* -> dml.*Average.*\n'?pooling=gap chooses a part, so the whole"
    )
    with pytest.raises(ConfigError, match=message):
        resume(compose_config, begun, "pooling=gap", "debug=smoke")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+trainer.speed=3", r"trainer\.speed: there is no such key; accepted: max_steps"),
        ("+surprise=3", "surprise: there is no such key; accepted: accept_changes"),
        ("dataset.cahce=true", r"dataset\.cahce: dml\.data\.emoji_dataset has no such argument"),
        ("trainer.sped=3", r"trainer.sped=3: Key 'sped'"),
        ("seed=abc", "seed=abc: Value 'abc'"),
        ("~pooling.sharpness", r"pooling.sharpness: 5.0 -> \(absent\)"),
        ("~trainer.ema", "~trainer.ema: "),
        ("~nothing.at_all", "~nothing.at_all: "),
    ],
)
def test_overrides_that_do_not_fit_a_saved_run_are_refused(
    override: str, message: str, begun: Path, compose_smoke: Compose
) -> None:
    with pytest.raises(ConfigError, match=message):
        (resume if override == "+surprise=3" else values)(compose_smoke, begun, override)


def test_auto_goes_on_with_the_newest_unfinished_run_of_the_same_configuration(
    begun: Path, compose_smoke: Compose
) -> None:
    runs = begun.parent
    shutil.copytree(begun, runs / "older")
    os.utime(runs / "older" / "config.yaml", (1, 1))
    same = compose_smoke("resume=auto", f"paths.runs={runs}", "num_workers=2")
    found = open_run(same, runs / "new")
    assert found.folder.path == begun and found.resumed and found.step == 3
    other = open_run(compose_smoke("resume=auto", f"paths.runs={runs}", "seed=3"), runs / "new")
    assert other.folder.path == runs / "new" and not other.resumed


def test_auto_holds_the_run_in_the_folder_that_was_named_against_what_was_typed(
    begun: Path, compose_smoke: Compose
) -> None:
    assert open_run(compose_smoke("resume=auto"), begun).folder.path == begun
    with pytest.raises(ConfigError, match="seed: 0 -> 3"):
        open_run(compose_smoke("resume=auto", "seed=3"), begun)


def test_a_run_that_is_under_way_is_left_alone(
    begun: Path, compose_smoke: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "lock_folder", lambda folder: False)
    with pytest.raises(OccupiedError, match="under way in another process"):
        resume(compose_smoke, begun)
    auto = compose_smoke("resume=auto", f"paths.runs={begun.parent}")
    assert not open_run(auto, begun.parent / "new").resumed


def test_auto_passes_over_runs_that_cannot_be_written_to(
    begun: Path, compose_smoke: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(resuming, "lock_folder", refuse)
    auto = compose_smoke("resume=auto", f"paths.runs={begun.parent}")
    assert not open_run(auto, begun.parent / "new").resumed


def test_a_finished_run_is_not_resumed(begun: Path, compose_smoke: Compose) -> None:
    (begun / "metrics.json").write_text("{}")
    with pytest.raises(OccupiedError, match="nothing to resume"):
        resume(compose_smoke, begun)


def test_a_resumed_run_needs_no_weights_and_ends_bit_identical(
    compose_smoke: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, images, through, stopped = (tmp_path / name for name in ("weights.pth", "images", "a", "b"))
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
    write_photographs(images)
    backbone = ["backbone=timm", "backbone.model=test_resnet", f"backbone.checkpoint={weights}"]
    data = ["dataset=folder", f"dataset.root={images}", "transform.short_side=32", "evaluator.recall_at=[1]"]
    others = [
        "protocol=conventional",
        "sampler.classes_per_batch=3",
        "pooling=gap",
        "logger.tensorboard=false",
    ]
    command = [*backbone, *data, *others]
    train(compose_smoke(*command), through)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "fit", until_step_3)
        train(compose_smoke(*command), stopped)
    weights.unlink()
    typed = ["debug=smoke", *command, f"resume={stopped}"]
    train(compose_smoke(*typed[1:]), tmp_path / "new", typed)
    for file in ("metrics.json", "history.csv", "steps.csv"):
        assert (stopped / file).read_bytes() == (through / file).read_bytes()


def until_step_3(trainer: Trainer, loggers: Sequence[Logger], fit: Callable[..., None] = Trainer.fit) -> None:
    fit(trainer, loggers, until=3)
    raise KeyboardInterrupt
