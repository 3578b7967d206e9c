"""Training on a GPU, against the CPU and against itself."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dml.config import TrainConfig
from dml.runs import load_metrics, load_model
from dml.train import train
from dml.training import Trainer
from tests.gpu.conftest import REAL
from tests.noise import Recorder

ROOT = Path(__file__).parents[2]
Fit = Callable[..., tuple[Recorder, Trainer]]
MEMORY = ("memory.batches=2", "memory.start_step=1", "trainer.ema=0.9")
DROPOUT = "backbone._target_=tests.noise.TinyWithDropout"


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten().cpu() for p in trainer.model.parameters()])


def test_a_run_from_end_to_end_has_the_figures_of_the_cpu_within_one_hundredth(
    smoke_run: Path, compose_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train(compose_config("debug=smoke", "trainer.device=auto"), folder)
    for split, figures in load_metrics(folder).items():
        assert figures == pytest.approx(load_metrics(smoke_run)[split], abs=0.01)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["device"] == torch.cuda.get_device_name(0) and environment["float32"] == "float32"
    assert environment["num_workers"] >= 1 and load_model(folder, device="cuda").projection.weight.is_cuda


@pytest.mark.parametrize("loss", ["contrastive", "proxy_anchor", "multi_similarity"])
def test_the_first_step_is_that_of_the_cpu_to_rounding(loss: str, fit: Fit) -> None:
    words = (f"loss={loss}", "trainer.max_steps=1")
    (on_gpu, _), (on_cpu, _) = fit(*words), fit(*words, "trainer.device=cpu", folder="cpu")
    np.testing.assert_allclose(on_gpu.steps, on_cpu.steps, rtol=1e-3)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("fp16", 0.01)])
def test_half_precision_is_near_and_the_weights_stay_float32(
    precision: str, tolerance: float, fit: Fit
) -> None:
    half, trainer = fit(f"trainer.precision={precision}")
    full, _ = fit(folder="full")
    np.testing.assert_allclose(
        [loss for loss, _ in half.steps], [loss for loss, _ in full.steps], rtol=tolerance
    )
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert half.steps != full.steps


def test_micro_batches_give_the_gradient_of_the_batch_with_dropout_and_memory(fit: Fit) -> None:
    parts, _ = fit("trainer.micro_batch=8", DROPOUT, *MEMORY, "trainer.max_steps=2")
    whole, _ = fit(DROPOUT, *MEMORY, "trainer.max_steps=2", folder="whole")
    np.testing.assert_allclose(parts.steps, whole.steps, rtol=1e-3)


def test_deterministic_mode_repeats_every_bit_and_so_does_a_resumed_run(fit: Fit) -> None:
    words = ("trainer.deterministic=true", "trainer.micro_batch=16", DROPOUT, *MEMORY)
    first, trainer = fit(*words)
    again, _ = fit(*words, folder="again")
    assert again.steps == first.steps and again.figures == first.figures
    before, cut = fit(*words, folder="cut", until=2)
    cut._save_last([])
    after, resumed = fit(*words, folder="cut")
    assert before.steps + after.steps == first.steps
    assert torch.equal(weights(resumed), weights(trainer))


@REAL
@pytest.mark.filterwarnings("default")  # the compiler warns of its own packages, and advises TF32
def test_a_compiled_model_trains_like_the_plain_one(fit: Fit) -> None:
    compiled, _ = fit("trainer.compile=true", "trainer.max_steps=2")
    plain, _ = fit("trainer.max_steps=2", folder="plain")
    np.testing.assert_allclose(compiled.steps, plain.steps, rtol=1e-2)


@REAL
def test_micro_batches_save_memory(fit: Fit) -> None:
    peaks = []
    for words in ((), ("trainer.micro_batch=32",)):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        batch = (
            "sampler.classes_per_batch=12",
            "sampler.images_per_class=40",
            "transform.size=96",
            "pooling=gap",
        )
        fit(*batch, *words, "trainer.max_steps=1", folder=f"run{len(peaks)}")
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 0.6 * peaks[0]


@REAL
def test_a_run_on_the_cpu_leaves_the_gpu_alone(tmp_path: Path) -> None:
    program = (
        "import runpy, torch; runpy.run_path('train.py', run_name='__main__'); "
        "assert not torch.cuda.is_initialized()"
    )
    words = ["debug=smoke", "trainer.device=cpu", "trainer.max_steps=1", f"hydra.run.dir={tmp_path / 'run'}"]
    result = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@REAL
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two processes need two GPUs")
def test_two_processes_with_nccl_have_the_figures_of_one(smoke_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "train.py",
    ]
    result = subprocess.run(
        [*command, "debug=smoke", f"hydra.run.dir={folder}"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    for split, figures in load_metrics(folder).items():
        assert figures == pytest.approx(load_metrics(smoke_run)[split], abs=0.01)


@REAL
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two runs side by side need two GPUs")
def test_runs_side_by_side_take_a_gpu_each(tmp_path: Path) -> None:
    launcher = [
        "-m",
        "hydra/launcher=submitit_local",
        "hydra.launcher.timeout_min=10",
        f"hydra.sweep.dir={tmp_path}",
    ]
    words = ["debug=smoke", "trainer.max_steps=0", "pooling=gap,gsp"]
    result = subprocess.run(
        [sys.executable, "train.py", *launcher, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    found = [json.loads(path.read_text())["device_index"] for path in tmp_path.rglob("environment.json")]
    assert sorted(found) == [0, 1]
