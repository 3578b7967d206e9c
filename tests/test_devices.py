"""Every line of the choice of a device, on GPUs that are pretended."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from PIL import Image
from typer.testing import CliRunner

from dml.commands import app
from dml.config import ConfigError, TrainConfig
from dml.devices import choose_device, choose_workers, describe_precision, prepare_device
from dml.environment import describe_environment
from dml.runs import load_model
from tests.pretend_device import pretend_gpus

Compose = Callable[..., TrainConfig]
CPU = torch.device("cpu")


@pytest.fixture
def sweep() -> Iterator[Callable[[str, int], None]]:
    """Be a job of a Hydra sweep: which launcher, which number."""

    def job(launcher: str, number: int) -> None:
        hydra = {"mode": "MULTIRUN", "launcher": {"_target_": launcher}, "job": {"num": number}}
        HydraConfig.instance().cfg = OmegaConf.merge(
            {"hydra": OmegaConf.structured(HydraConf)}, {"hydra": hydra}
        )

    before = HydraConfig.instance().cfg
    yield job
    HydraConfig.instance().cfg = before


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Be one of several processes of torchrun on this machine."""

    def rank(number: int, count: int) -> None:
        monkeypatch.setattr("dml.devices.world_size", lambda: count)
        monkeypatch.setattr("dml.devices.local_rank", lambda: number)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(count))

    return rank


@pytest.mark.parametrize(
    ("name", "found"),
    [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_a_gpu_has_a_number_that_torch_can_make_the_current_one(
    name: str, found: str, compose_smoke: Compose
) -> None:
    with pretend_gpus(2) as state:
        device = prepare_device(compose_smoke(f"trainer.device={name}"))
        assert str(device) == found and state["current"] == (device.index or 0)


def test_without_a_number_the_current_gpu_stays_the_current_one(compose_smoke: Compose) -> None:
    with pretend_gpus(3):
        torch.cuda.set_device(2)
        assert prepare_device(compose_smoke("trainer.device=cuda")) == torch.device("cuda:2")


def test_auto_is_the_cpu_where_there_is_no_gpu(compose_smoke: Compose) -> None:
    with pretend_gpus(0):
        assert prepare_device(compose_smoke()) == CPU


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("cuda:1", 1, "trainer.device=cuda:1, but torch sees 1 GPUs here"),
        ("cuda", 0, "trainer.device=cuda, but torch sees no GPU here: use trainer.device=cpu or auto"),
        ("mps", 1, "trainer.device=mps is not supported; accepted: auto, cpu"),
        ("gpu", 1, "trainer.device=gpu is no device; accepted: auto, cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    name: str, gpus: int, message: str, compose_smoke: Compose
) -> None:
    with pretend_gpus(gpus), pytest.raises(ConfigError, match=message):
        choose_device(compose_smoke(f"trainer.device={name}"))


def test_processes_of_a_run_take_a_gpu_each(
    compose_smoke: Compose, ranks: Callable[[int, int], None]
) -> None:
    ranks(1, 2)
    with pretend_gpus(2):
        assert choose_device(compose_smoke()) == torch.device("cuda:1")
    with pretend_gpus(1), pytest.raises(ConfigError, match="at most that many processes"):
        choose_device(compose_smoke())
    with pretend_gpus(2), pytest.raises(ConfigError, match="2 processes on this machine need a GPU each"):
        choose_device(compose_smoke("trainer.device=cuda:0"))


def test_runs_side_by_side_are_dealt_out_to_the_gpus_in_turn(
    compose_smoke: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    with pretend_gpus(2):
        for job in range(3):
            monkeypatch.setenv("DML_JOB", str(job))
            found.append(choose_device(compose_smoke()).index)
        assert found == [0, 1, 0] and choose_device(compose_smoke("trainer.device=cuda:0")).index == 0
        monkeypatch.setenv("DML_JOB", "first")
        with pytest.raises(ConfigError, match="DML_JOB=first: give a whole number"):
            choose_device(compose_smoke())


@pytest.mark.parametrize(
    ("launcher", "index"),
    [
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher", 1),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", 1),
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", 0),  # one after the other
    ],
)
def test_jobs_of_a_sweep_are_dealt_out_if_they_run_side_by_side(
    launcher: str, index: int, compose_smoke: Compose, sweep: Callable[[str, int], None]
) -> None:
    sweep(launcher, 3)
    with pretend_gpus(2):
        assert choose_device(compose_smoke()).index == index


@pytest.mark.parametrize(("tf32", "named"), [("false", "float32"), ("true", "tf32")])
def test_float32_is_what_the_configuration_says(tf32: str, named: str, compose_smoke: Compose) -> None:
    with pretend_gpus():
        device = prepare_device(compose_smoke(f"trainer.tf32={tf32}"))
        assert describe_precision(device) == named
        assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == (tf32 == "true")
        torch.backends.cudnn.allow_tf32 = tf32 == "false"
        assert describe_precision(device) == "mixed"


def test_a_run_on_the_cpu_leaves_the_precision_of_gpus_alone(compose_smoke: Compose) -> None:
    before = torch.backends.cudnn.allow_tf32
    with pretend_gpus():
        device = prepare_device(compose_smoke("trainer.tf32=true", "trainer.device=cpu"))
    assert torch.backends.cudnn.allow_tf32 == before and describe_precision(device) == "float32"


@pytest.mark.parametrize("on", ["true", "false"])
def test_determinism_reaches_torch_and_cublas(
    on: str, compose_smoke: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with pretend_gpus():
        prepare_device(compose_smoke(f"trainer.deterministic={on}"))
        assert torch.are_deterministic_algorithms_enabled() == (on == "true")
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == (on == "true")


@pytest.mark.parametrize(
    ("cores", "jobs", "processes", "expected"),
    [(2, 1, 1, 1), (4, 1, 1, 3), (64, 1, 1, 8), (64, 1, 8, 7), (16, 4, 1, 3), (1, 1, 1, 1), (4, 4, 2, 1)],
)
def test_a_gpu_gets_the_share_of_its_process_in_the_cores(
    cores: int,
    jobs: int,
    processes: int,
    expected: int,
    compose_smoke: Compose,
    ranks: Callable[[int, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranks(0, processes)
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    monkeypatch.setenv("DML_JOBS", str(jobs))
    assert choose_workers(compose_smoke(), torch.device("cuda:0")) == expected


def test_a_cpu_and_a_launcher_that_cannot_start_workers_get_none(
    compose_smoke: Compose, sweep: Callable[[str, int], None]
) -> None:
    assert choose_workers(compose_smoke(), CPU) == 0
    assert choose_workers(compose_smoke("num_workers=3"), CPU) == 3
    sweep("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", 0)
    assert choose_workers(compose_smoke(), torch.device("cuda:0")) == 0


@pytest.mark.parametrize("asked", ["-1", "many"])
def test_a_number_of_workers_that_is_none_is_refused(asked: str, compose_smoke: Compose) -> None:
    with pytest.raises(ConfigError, match=f"num_workers={asked} must be auto, or 0 or above"):
        choose_workers(compose_smoke(f"num_workers={asked}"), CPU)


def test_the_environment_says_which_gpu_and_in_which_precision(
    compose_smoke: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pretend_gpus(2):
        device = prepare_device(compose_smoke("trainer.device=cuda:1"))
        found = describe_environment(seed=0, device=device, num_workers=5, search_backend="")
    expected = {"device": "Pretended GPU", "device_index": 1, "visible_devices": "4,5", "float32": "float32"}
    assert found.items() >= {**expected, "num_workers": 5}.items()


@pytest.mark.parametrize(
    ("name", "said"),
    [("cuda", "device=cuda, but torch sees no GPU here"), ("gpu", "device=gpu is no device; accepted: auto")],
)
def test_a_model_that_is_loaded_onto_no_device_is_refused_in_a_sentence(
    name: str, said: str, smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=said):
        load_model(smoke_run, device=name)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    words = ["index", "build", str(smoke_run), str(tmp_path / "photos"), "--to", str(tmp_path / "index")]
    done = CliRunner().invoke(app, [*words, "--device", name])
    assert done.exit_code == 2 and said in done.stderr and not (tmp_path / "index").exists()


def test_a_command_of_an_index_takes_the_gpu_if_there_is_one(
    smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("dml.index.building.load_model", lambda *_, device, **__: asked.append(device))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    words = ["index", "build", str(smoke_run), str(tmp_path / "photos"), "--to", str(tmp_path / "index")]
    CliRunner().invoke(app, words)
    assert asked == ["auto"]
