"""The numbers of a run do not depend on the number of processes that share it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dml.config import TrainConfig
from dml.retrieval import retrieval_metrics
from dml.runs import load_metrics
from dml.train import train
from dml.training import read_steps
from tests.children import free_port, together, train_together
from tests.execution.gradient_cases import CASES, gradients, write_gradients
from tests.noise import assemble
from tests.retrieval.embeddings import hard_sets

ROOT = Path(__file__).parents[2]
Compose = Callable[..., TrainConfig]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
ADAMW = ("debug=smoke", "trainer.max_steps=20", "trainer.eval_every=10", "evaluator.classes=100")
# SGD: where a gradient is almost 0, Adam makes whole steps of its rounding, and a query of thousands may flip
LONGER = (*ADAMW, "optimizer=sgd", "optimizer.lr=0.01")


def torchrun(processes: int, *command: str) -> subprocess.Popen[str]:
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={processes}",
        "--standalone",
    ]
    return subprocess.Popen(
        [*launcher, *command],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Tensor]]:
    return {name: gradients(*overrides) for name, overrides in CASES.items()}


@pytest.fixture(scope="module", params=[2, 3], ids="{} processes".format)
def written_by_several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that so many processes wrote their gradients and figures to."""
    folder = tmp_path_factory.mktemp("several")
    together(request.param, write_gradients, folder)
    return folder


def test_figures_of_a_shared_search_are_those_of_one_process_to_the_last_bit(
    written_by_several: Path,
) -> None:
    figures = json.loads((written_by_several / "figures.json").read_text())
    alone = {name: dict(retrieval_metrics(*sets)) for name, sets in hard_sets().items()}
    assert figures == {f"{name}, {by}": alone[name] for name in alone for by in ("faiss", "torch", "blocks")}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc to read the threads from")
def test_no_thread_of_the_group_outlives_it() -> None:
    """One that needs the interpreter while Python ends aborts the process: a run that succeeded ends as failed."""
    code = """
        from pathlib import Path
        import torch
        from dml.distributed import process_group
        def threads():
            return [name.read_text() for name in Path("/proc/self/task").glob("*/comm")]
        with process_group():
            import torch.distributed.nn  # as torch.compile and timm do
            torch.distributed.all_gather([torch.empty(1)], torch.ones(1))
            assert any("gloo" in name for name in threads()), threads()
        assert not any("gloo" in name for name in threads()), threads()
    """
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    group = {**alone, "MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": "alone"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env={**ENVIRONMENT, **group}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_gradient_is_that_of_one_process(
    written_by_several: Path, alone: dict[str, dict[str, Tensor]]
) -> None:
    shared = torch.load(written_by_several / "gradients.pt", weights_only=True)
    cut = shared.pop("micro-batches of 4")
    assert set(shared) == set(alone)
    expected = {**alone, "micro-batches of 4": alone["contrastive + memory + zero-shot"]}
    for case, roles in {**shared, "micro-batches of 4": cut}.items():
        assert set(roles) == set(expected[case])
        for role, gradient in roles.items():
            agree(gradient, expected[case][role])


def agree(gradient: Tensor, expected: Tensor) -> None:
    a, b = gradient.double(), expected.double()
    assert b.norm() > 0
    assert (a.norm() / b.norm()).item() == pytest.approx(1, abs=1e-5)
    assert torch.cosine_similarity(a, b, dim=0) > 0.99999


@pytest.fixture(scope="module")
def run_alone(compose_config: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(compose_config(*LONGER), folder)
    return folder


def same_figures(folder: Path, expected: Path) -> None:
    for split, values in load_metrics(expected).items():
        assert load_metrics(folder)[split] == pytest.approx(values, abs=1e-4)


def test_a_run_of_two_processes_ends_as_that_of_one_and_the_main_one_alone_writes(
    run_alone: Path, tmp_path: Path
) -> None:
    main, other = together(2, train_together, tmp_path, *LONGER)
    folder = tmp_path / "run"
    same_figures(folder, run_alone)
    assert main.count("run folder:") == 1 and other == ""
    assert {p.name for p in folder.iterdir()} == {p.name for p in run_alone.iterdir()}
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    with (
        np.load(folder / "test_embeddings.npz") as ours,
        np.load(run_alone / "test_embeddings.npz") as theirs,
    ):
        np.testing.assert_allclose(ours["vectors"], theirs["vectors"], atol=1e-3)
        assert ours["files"].tolist() == theirs["files"].tolist()


def test_a_process_that_dies_ends_the_run_and_one_process_goes_on_from_the_last_checkpoint(
    run_alone: Path, compose_config: Compose, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = torchrun(2, "train.py", *LONGER, f"hydra.run.dir={folder}")
    while len(read_steps(folder / "steps.csv")) < 12 and process.poll() is None:
        time.sleep(0.05)
    os.kill(second_process(process.pid), signal.SIGKILL)
    output = process.communicate(timeout=120)[0]
    assert process.returncode != 0 and "Signal 9 (SIGKILL)" in output, output
    assert not (folder / "metrics.json").exists()
    train(compose_config(f"resume={folder}"), folder)
    same_figures(folder, run_alone)
    assert list(read_steps(folder / "steps.csv")) == list(range(1, 21))


@pytest.fixture(scope="module")
def cut_alone(compose_config: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that cuts the batch as two share it."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(compose_config(*ADAMW, "trainer.micro_batch=16"), folder)
    return folder


def test_one_process_that_cuts_the_batch_as_two_share_it_takes_the_very_same_steps(
    cut_alone: Path, tmp_path: Path
) -> None:
    together(2, train_together, tmp_path, *ADAMW)
    alone, shared = ((folder / "steps.csv").read_bytes() for folder in (cut_alone, tmp_path / "run"))
    assert alone == shared
    same_figures(tmp_path / "run", cut_alone)


def test_a_signal_to_torchrun_and_all_below_it_saves_the_step_and_the_resumed_run_takes_the_very_same_steps(
    cut_alone: Path, compose_config: Compose, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = torchrun(2, "train.py", *ADAMW, "num_workers=2", f"hydra.run.dir={folder}")
    while len(read_steps(folder / "steps.csv")) < 5 and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    stopped = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["step"]
    assert 5 <= stopped < 20 and output.count(f"stopped after step {stopped} of 20 and saved") == 1, output
    options = (f"resume={folder}", "trainer.micro_batch=16")
    train(compose_config(*options), folder, options)
    assert (folder / "steps.csv").read_bytes() == (cut_alone / "steps.csv").read_bytes()
    same_figures(folder, cut_alone)


def second_process(launcher: int) -> int:
    """The worker with RANK=1 below a torchrun."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return next(int(c) for c in children if b"\0RANK=1\0" in Path(f"/proc/{c}/environ").read_bytes())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["sampler.classes_per_batch=2", "sampler.images_per_class=1"],
            "2 images cannot be shared by 3 processes",
        ),
        (["trainer.frozen_batchnorm=false"], "BatchNorm would take its statistics from parts of the batch"),
    ],
)
def test_what_would_change_the_numbers_is_refused(
    arguments: list[str],
    message: str,
    compose_smoke: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dml.assembly.loop.world_size", lambda: 3)
    with pytest.raises(ValueError, match=message):
        assemble(compose_smoke(*arguments), tmp_path)
