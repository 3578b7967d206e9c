"""The chain from images to figures, on the command line's own code."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dml.assembly import check_components
from dml.config import ConfigError, TrainConfig
from dml.runs import load_metrics
from dml.train import train
from tests.children import run_dml, start_dml

ROOT = Path(__file__).parent.parent
Compose = Callable[..., TrainConfig]


def figures(folder: Path) -> bytes:
    return (folder / "metrics.json").read_bytes() + (folder / "history.csv").read_bytes()


def test_the_same_seed_gives_the_same_figures_with_two_workers_as_with_none(
    smoke_run: Path, compose_smoke: Compose, tmp_path: Path
) -> None:
    train(compose_smoke("num_workers=2"), tmp_path / "run")
    assert figures(tmp_path / "run") == figures(smoke_run)


def test_another_seed_gives_other_figures(smoke_run: Path, compose_smoke: Compose, tmp_path: Path) -> None:
    train(compose_smoke("seed=1"), tmp_path / "run")
    assert figures(tmp_path / "run") != figures(smoke_run)


def test_no_steps_evaluate_the_untrained_model_and_write_the_folder_all_the_same(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    train(compose_smoke("trainer.max_steps=0"), tmp_path / "run")
    assert load_metrics(tmp_path / "run")["test"]["queries"] > 4000
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ctrl_c_saves_and_the_resumed_run_ends_as_if_nothing_had_happened(
    num_workers: int, smoke_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = start_dml("train", "debug=smoke", f"hydra.run.dir={folder}", f"num_workers={num_workers}")
    while not (folder / "checkpoints" / "last.pt").exists() and command.process.is_alive():
        time.sleep(0.02)
    os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    done = command.end()
    assert done.returncode == 130 and f"resume={folder}" in done.stderr, done.stderr
    assert not (folder / "metrics.json").exists()
    resumed = run_dml("train", f"resume={folder}")
    assert resumed.returncode == 0, resumed.stderr
    assert figures(folder) == figures(smoke_run)


def test_ctrl_c_in_the_final_evaluation_leaves_it_to_the_resumed_run(
    smoke_run: Path, compose_smoke: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    monkeypatch.setattr(
        "dml.train.trained_model", lambda *args, **options: signal.raise_signal(signal.SIGINT)
    )
    with pytest.raises(KeyboardInterrupt):
        train(compose_smoke(), folder)
    signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    train(compose_smoke(f"resume={folder}"), folder)
    assert figures(folder) == figures(smoke_run)


def test_one_bad_value_does_not_end_a_sweep(tmp_path: Path) -> None:
    command = ["train", "-m", "debug=smoke", "trainer.max_steps=0", "evaluator.classes=20"]
    folder = tmp_path / "photos #2, (2024)"
    places = [f"dataset.root={ROOT / 'data' / 'emoji'}", f"paths.runs={'x' * 250}"]
    sweep = [f"hydra.sweep.dir={folder}", "pooling.num_prototypes=4,0,8", *places]
    result = run_dml(*command, *sweep)
    assert result.returncode != 0 and "error: num_prototypes is 0" in result.stderr
    assert (
        len(list(folder.glob("*/metrics.json"))) == 2
    )  # whatever stands in the overrides that name the folders


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["pooling=gpa"],
            "error: pooling=gpa does not exist; did you mean gsp or gap or gsp_max? Accepted: ",
        ),
        (["pooling.sharpnes=3"], "did you mean pooling.sharpness?"),
        (["sede=7"], "did you mean seed"),
        (["+pooling.sharpnes=3"], "did you mean sharpness?"),
        (["seed=abc"], "error: seed=abc is of the wrong type; accepted: a whole number"),
        (["sampler.images_per_class=0"], "error: sampler.images_per_class=0"),
    ],
)
def test_a_typing_error_ends_with_a_sentence_and_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = run_dml("train", "debug=smoke", f"hydra.run.dir={tmp_path / 'run'}", *arguments)
    assert result.returncode == 2 and message in result.stderr and "HYDRA_FULL_ERROR" not in result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pooling=gap,gpa"], "error: pooling=gpa does not exist"),
        (["seed=1,abc"], "error: seed=abc is of the wrong type"),
        (["loss.pos_margin=abc", "seed=1,2"], "error: loss.pos_margin='abc' is of type str; accepted: float"),
        (["seed=1,2"], "error: dataset.root=nowhere is no folder"),
    ],
)
def test_a_refused_sweep_says_why_once_and_leaves_no_folder(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    done = run_dml("train", "-m", "dataset=folder", "dataset.root=nowhere", *arguments, cwd=tmp_path)
    assert done.returncode not in (0, None) and done.stderr.count(sentence) == 1, done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong", ["loss.pos_margin=abc", "pooling.lloyd_iterations=many", "sampler.classes_per_batch=x"]
)
def test_a_wrong_type_within_a_part_is_refused_before_any_image_is_read(
    wrong: str, compose_smoke: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("dml.train.build_data")
    with pytest.raises(ConfigError, match=rf"^{wrong.partition('=')[0]}='\w+' is of type str; accepted: "):
        train(compose_smoke(wrong), tmp_path / "run")


@pytest.mark.parametrize("choice", ["loss=proxy_anchor", "protocol=all"])
def test_what_is_known_only_later_may_be_open_before_the_data_are_read(
    choice: str, compose_smoke: Compose
) -> None:
    check_components(compose_smoke(choice, "zero_shot.weight=0"))
