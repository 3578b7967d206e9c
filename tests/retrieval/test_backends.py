"""Which backend searches, and on what terms: faiss only where it is asked for, float32 whatever training has chosen."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from dml.retrieval import BACKENDS, choose_backend, exact_search, nearest_neighbours

CPU, GPU, MPS = (torch.device(name) for name in ("cpu", "cuda:1", "mps"))

WITHOUT_FAISS = """
import sys
import dml.reporting, torch  # all layers
from dml.retrieval import exact_search, retrieval_metrics
x, y = torch.eye(6)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])
assert retrieval_metrics(x, y, recall_at=(1,), backend="torch")["map@r"] == 1
assert "faiss" not in sys.modules, "something imports faiss without searching by it"
sys.modules["faiss"] = None  # as if it were not installed
assert retrieval_metrics(x, y, recall_at=(1,))["map@r"] == 1
assert exact_search(x, x, 2).indices.sum(dim=1).tolist() == [1, 1, 5, 5]
"""


def test_nothing_imports_faiss_before_it_searches_and_without_it_everything_searches() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_FAISS], check=True)


@pytest.mark.parametrize(
    ("name", "device", "platform", "expected"),
    [
        ("auto", CPU, "linux", ("faiss", CPU)),
        ("auto", CPU, "win32", ("faiss", CPU)),
        ("auto", CPU, "darwin", ("torch", CPU)),
        ("auto", GPU, "linux", ("torch", GPU)),
        ("auto", MPS, "darwin", ("torch", CPU)),  # no float64 there
        ("torch", GPU, "linux", ("torch", GPU)),
        ("torch", CPU, "linux", ("torch", CPU)),
        ("faiss", GPU, "linux", ("faiss", CPU)),
        ("faiss", CPU, "darwin", ("faiss", CPU)),  # who asks for it gets it
    ],
)
def test_torch_searches_on_an_accelerator_and_on_macos_and_faiss_elsewhere(
    name: str, device: torch.device, platform: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert choose_backend(name, device) == expected


def test_auto_is_torch_without_faiss_and_asking_for_faiss_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert choose_backend("auto", CPU) == ("torch", CPU)
    with pytest.raises(
        ValueError, match=r"faiss cannot be imported here \(.*\): install faiss-cpu, or choose torch"
    ):
        choose_backend("faiss", CPU)


def test_faiss_does_not_tell_a_run_which_instructions_of_the_processor_it_tries() -> None:
    choose_backend("faiss", CPU)
    assert not logging.getLogger("faiss.loader").isEnabledFor(logging.INFO)


def test_on_macos_auto_does_not_even_try_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(
        "dml.retrieval.backends._reason_against_faiss", lambda: pytest.fail("faiss was tried")
    )
    assert choose_backend("auto", CPU) == ("torch", CPU)


class Watch(TorchFunctionMode):
    """Notes, at each matrix product, whether float32 is multiplied as float32."""

    def __init__(self, is_exact: Callable[[], bool]) -> None:
        super().__init__()
        self.is_exact, self.seen = is_exact, []  # type: ignore[var-annotated]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("__matmul__", "matmul"):
            self.seen.append(self.is_exact())
        return func(*args, **(kwargs or {}))


def precisions() -> list[str]:
    matmuls = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    return [torch.backends.fp32_precision, *(matmul.fp32_precision for matmul in matmuls)]


def legacy_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "refused"


@pytest.fixture
def default_precision() -> Iterator[None]:
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        for matmul in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
            matmul.fp32_precision = "none"


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch 2.9 has this setting"
)
@pytest.mark.parametrize(
    "setting",
    [
        "torch.set_float32_matmul_precision('highest')",
        "torch.set_float32_matmul_precision('medium')",
        "torch.backends.cuda.matmul.allow_tf32 = True",
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
        "torch.backends.fp32_precision = 'tf32'",
    ],
)
@pytest.mark.usefixtures("default_precision")
def test_no_setting_of_either_api_reaches_the_search_and_each_is_put_back(setting: str) -> None:
    exec(setting)
    before = precisions(), legacy_precision()
    with Watch(lambda: precisions()[1:] == ["ieee", "ieee"]) as watch:
        exact_search(torch.eye(3), torch.eye(3), 2, backend="torch")
    assert watch.seen == [True]
    assert (precisions(), legacy_precision()) == before
    if setting.startswith("torch.backends.fp32_precision"):
        torch.backends.fp32_precision = "ieee"
        assert precisions() == ["ieee"] * 3  # the operations still follow


@pytest.mark.usefixtures("default_precision")
def test_the_one_setting_of_older_torch_is_held_and_put_back_also_after_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_float32_matmul_precision("high")
    monkeypatch.setattr(torch.backends.cuda, "matmul", object())
    with Watch(lambda: torch.get_float32_matmul_precision() == "highest") as watch:
        exact_search(torch.eye(3), torch.eye(3), 2, backend="torch")
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            BACKENDS["torch"](torch.eye(3), torch.eye(4), 2)
    assert watch.seen == [True, True] and torch.get_float32_matmul_precision() == "high"


def test_neighbours_too_are_found_without_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert nearest_neighbours(torch.eye(3), torch.eye(3), 1).indices.flatten().tolist() == [0, 1, 2]
