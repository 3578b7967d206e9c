"""The parts of docs/extending.md train together and keep what they promise, outside of this repository."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dml
from dml.checks import check_file
from tests.parts_of_ones_own import GROUPS, PAGE, typed, write_parts

ROOT = Path(__file__).parents[1]
SMALL = ["transform.size=32", "trainer.max_steps=2", "trainer.eval_every=1", "trainer.log_every=1"]
SMALL += [
    "sampler.classes_per_batch=2",
    "evaluator.recall_at=[1]",
    "protocol=conventional",
    "hydra.run.dir=run",
]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = write_parts(tmp_path_factory.mktemp("elsewhere"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_all_of_them_train_together(elsewhere: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dml", "train", *typed(), "dataset=mine", *SMALL, "trainer.select_by=mrr@r"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(elsewhere), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    run = elsewhere / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 < metrics["test"]["mrr@r"] <= 1 and metrics["test"]["queries"] == 12
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2] and "mrr@r" in lines[0]
    assert (run / "tensorboard").is_dir() and "mrr@r" in done.stdout
    model = dml.load_model(run, trust=["mine"])
    assert model.embed([elsewhere / "images" / "ash-0.png"]).shape == (1, 128)
    with pytest.raises(ValueError, match=r"trust=\[mine\]"):
        dml.load_model(run)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.usefixtures("elsewhere")
def test_each_of_them_keeps_what_it_promises(group: str) -> None:
    small = ["dataset.root=images"] if group == "dataset" else []
    findings = list(check_file(f"my_configs/{group}/mine.yaml", ["transform.size=32", *small]))
    assert len(findings) > 3 and [finding for finding in findings if finding.problem] == []


def test_the_page_stands_for_what_is_promised() -> None:
    for promised in (
        "out_channels",
        "pools_embedded",
        "has_attributes",
        "normalisation",
        "FollowedRun",
        "_takes_",
    ):
        assert f"`{promised}" in PAGE or f"`dml.{promised}`" in PAGE
