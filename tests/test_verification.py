"""A run proves that it can be repeated."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from dml.config import TrainConfig
from dml.errors import InputError, MissingFileError
from dml.reporting import print_verification
from dml.run_folder import RunFolder
from dml.runs import open_run, start_run
from dml.verification import Verification, repeat_steps
from tests.children import run_dml
from tests.photographs import write_photographs

ROOT = Path(__file__).parents[1]


def test_the_command_repeats_a_run_to_the_last_bit(smoke_run: Path) -> None:
    result = run_dml("verify", smoke_run, "--steps", 4)
    if result.returncode:  # another number of threads than in this process is named as the likely cause
        assert "torch_threads" in result.stdout, result.stdout + result.stderr
    else:
        assert "identical: loss and gradient norm of 4 steps" in result.stdout


def test_steps_repeated_in_the_same_process_are_identical(
    smoke_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in smoke_run.rglob("*"))
    verification = repeat_steps(smoke_run, 100)
    assert print_verification(verification) and verification.environment == {}
    assert "6 steps" in capsys.readouterr().out
    assert sorted(path.name for path in smoke_run.rglob("*")) == before


def test_another_configuration_is_found_out(
    smoke_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(smoke_run, folder)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("sharpness: 5.0", "sharpness: 5.1"))
    environment = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**environment, "cpu_count": 99}))
    assert not print_verification(repeat_steps(folder, 2))
    said = capsys.readouterr().out
    assert "different from step 1 on, 2 of 2 steps" in said and "cpu_count: 99 then" in said


def test_a_difference_without_a_cause_is_called_a_defect(capsys: pytest.CaptureFixture[str]) -> None:
    assert not print_verification(Verification({7: ((0.5, 1.0), (0.25, 1.0))}, {}))
    assert "from step 7" in (said := capsys.readouterr().out) and "this is a defect" in said


def test_a_run_without_steps_and_no_steps_asked_for_are_refused(smoke_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps=0"):
        repeat_steps(smoke_run, 0)
    shutil.copy(smoke_run / "config.yaml", tmp_path)
    with pytest.raises(FileNotFoundError, match="has not trained"):
        repeat_steps(tmp_path, 3)


def repeated(
    compose: Callable[..., TrainConfig], folder: Path, *overrides: str, **moved: str
) -> Verification:
    """Repeat the steps of a run on a few photographs, of which only what it wrote first is left."""
    images, run = folder / "images", RunFolder(folder / "run")
    write_photographs(images)
    data = ["dataset=folder", f"dataset.root={images}", "transform.short_side=32", "evaluator.recall_at=[1]"]
    small = [*data, "sampler.classes_per_batch=3", "pooling=gap", "trainer.max_steps=2"]
    start_run(open_run(compose(*small, "protocol=conventional", *overrides), run.path))
    run.steps.write_text("step,loss,gradient_norm\n1,0.5,1.0\n2,0.5,1.0\n")
    return repeat_steps(run.path, 2, **moved)


def test_whoever_writes_does_so_in_the_scratch_folder(
    compose_smoke: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    repeated(compose_smoke, tmp_path, "protocol.report_best_on_test=true")
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".lock", "config.yaml", "environment.json", "steps.csv"
    ]  # fmt: skip


def test_weights_that_have_moved_are_asked_for_and_found_elsewhere(
    compose_smoke: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    backbone = ["backbone=timm", "backbone.model=test_resnet", "backbone.checkpoint=/nowhere/weights.pth"]
    with pytest.raises(MissingFileError, match=r"by weights=FILE, or by data=DIR.*/nowhere/weights.pth"):
        repeated(compose_smoke, tmp_path / "a", *backbone)
    weights = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
    assert len(repeated(compose_smoke, tmp_path / "b", *backbone, weights=str(weights)).steps) == 2
    with pytest.raises(InputError, match=r"weights=.*ConvNet has read no file of weights"):
        repeated(compose_smoke, tmp_path / "c", weights=str(weights))
