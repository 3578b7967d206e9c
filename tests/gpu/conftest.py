"""Every test in this folder needs a GPU: ``make test-gpu``.

``DML_PRETEND_GPU=1 python -m pytest -m gpu tests/gpu`` rehearses them on a pretended one, without those of REAL.
"""

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch looks once in a process

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from dml.config import TrainConfig
from dml.training import Trainer
from tests.noise import Recorder
from tests.pretend_device import pretend_gpus

HERE = Path(__file__).parent
PRETEND = os.environ.get("DML_PRETEND_GPU") == "1"
REAL = pytest.mark.skipif(PRETEND, reason="a pretended GPU has no kernels, no memory and no links")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(
                pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
            )


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    """A GPU, with torch's settings put back afterwards."""
    if not PRETEND and not torch.cuda.is_available():
        pytest.skip("there is no GPU here that torch could use")
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with pretend_gpus() if PRETEND else nullcontext():
        yield
        torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture
def fit(
    compose_config: Callable[..., TrainConfig],
    assemble: Callable[[TrainConfig, Path], Trainer],
    tmp_path: Path,
) -> Callable[..., tuple[Recorder, Trainer]]:
    """Train a few steps on noise, on the GPU unless another device is given."""

    def run(*overrides: str, folder: str = "run", until: int | None = None) -> tuple[Recorder, Trainer]:
        words = ("debug=smoke", "trainer.device=cuda", "num_workers=0", "trainer.max_steps=4", *overrides)
        trainer, recorder = assemble(compose_config(*words), tmp_path / folder), Recorder()
        trainer.resume()
        trainer.fit([recorder], until=until)
        return recorder, trainer

    return run
