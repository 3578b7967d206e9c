"""Run folders of strangers: what they name is refused before it is imported, on every way in."""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import dml
from dml.config import ConfigError, TrainConfig, build, load_config, read_config, to_plain
from dml.reporting.retrieval_grid import retrieval_grid_of_run
from dml.reporting.weight_maps import weight_maps_of_run
from dml.runs import evaluate_run, open_run
from dml.train import train
from dml.trust import MODULES, UntrustedError, is_trusted, trusted_packages
from dml.verification import repeat_steps

Compose = Callable[..., TrainConfig]
WriteRun = Callable[[str, Any], Path]
CONFIGS = Path(__file__).parents[1] / "configs"
DRAWING: dict[str, Any] = {"count": 1, "seed": 0, "checkpoint": "best", "data": None, "device": None}
MAKE = {"_target_": "os.mkdir", "path": "marker"}  # what ran has left a folder of this name
CODE = "__import__('os').mkdir('marker')"
PICKLE = {"_target_": "numpy.load", "file": "bomb.pkl", "allow_pickle": True}
LOSSES = "pytorch_metric_learning.losses"

HOSTILE: dict[str, tuple[str, dict[str, Any]]] = {
    "a pickle by torch": ("backbone", {"_target_": "torch.load", "f": "bomb.pkl", "weights_only": False}),
    "a pickle by numpy": ("pooling", PICKLE),
    "the operating system": ("backbone", MAKE),
    "code as text": ("transform.evaluation", {"_target_": "builtins.eval", "_args_": [CODE]}),
    "Hydra": ("loss", {"_target_": "hydra.utils.instantiate", "config": MAKE}),
    "a nested part": ("loss", {"_target_": f"{LOSSES}.ContrastiveLoss", "distance": MAKE}),
    "a part in lists": ("loss", {"_target_": f"{LOSSES}.MultipleLosses", "losses": [[MAKE]]}),
    "a postponed call": ("optimizer", {**MAKE, "_partial_": True, "_recursive_": False}),
    "what a module has imported": ("pooling", {**PICKLE, "_target_": "dml.runs.np.load"}),
    "a way out of a listed module": ("pooling", {**PICKLE, "_target_": "torch.optim.adam.torch.load"}),
    "a name that begins like a listed one": ("protocol", {"_target_": "dml_imported.losses.C1Loss"}),
    "a module beside": ("miner", {"_target_": "dml_imported"}),
    "a writer of ours": (
        "scheduler",
        {"_target_": "dml.training.StepLogger", "path": "bomb.pkl", "start": 0},
    ),
    "a download": ("dataset", {"_target_": "pytorch_metric_learning.datasets.CUB", "root": "marker"}),
    "a private name": ("sampler", {"_target_": "dml.data._read", "path": "bomb.pkl"}),
    "a target that is no name": ("miner", {"_target_": MAKE}),
}

WAYS_IN: dict[str, Callable[[Path, Compose], object]] = {
    "load_model": lambda folder, _: dml.load_model(folder),
    "evaluate": lambda folder, _: evaluate_run(folder),
    "verify": lambda folder, _: repeat_steps(folder, 1),
    "resume": lambda folder, compose: open_run(compose(f"resume={folder}"), folder.parent / "new"),
    "attention": lambda folder, _: weight_maps_of_run(folder, [], **DRAWING),
    "grid": lambda folder, _: retrieval_grid_of_run(folder, neighbours=1, order="random", **DRAWING),
}


class Bomb:
    """Unpickling it leaves the marker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("marker",)


@pytest.fixture
def write_run(compose_smoke: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteRun:
    """Writes the configuration of a run with one part exchanged, beside a bomb and a module that leaves the marker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    Path("dml_imported.py").write_text(CODE)

    def write(key: str, node: Any) -> Path:
        cfg = OmegaConf.create(to_plain(compose_smoke()))
        OmegaConf.update(cfg, key, node, merge=False, force_add=True)
        folder = tmp_path / "run"
        folder.mkdir()
        OmegaConf.save(cfg, folder / "config.yaml")
        return folder

    return write


def assert_nothing_ran() -> None:
    assert not Path("marker").exists() and Path("bomb.pkl").read_bytes() == pickle.dumps(Bomb())
    assert "dml_imported" not in sys.modules


@pytest.mark.parametrize("attempt", HOSTILE)
def test_a_hostile_folder_runs_nothing(attempt: str, write_run: WriteRun) -> None:
    key, node = HOSTILE[attempt]
    with pytest.raises(UntrustedError, match=rf"config\.yaml: {key}.*_target_=.* nothing was imported"):
        dml.load_model(write_run(key, node))
    assert_nothing_ran()


@pytest.mark.parametrize("way", WAYS_IN)
def test_no_way_in_builds_what_is_refused(way: str, write_run: WriteRun, compose_smoke: Compose) -> None:
    folder = write_run("pooling", {"_target_": "dml_imported.Pooling"})
    with pytest.raises(
        UntrustedError, match=r"allow it by trust=\[dml_imported\] or .* DML_TRUST=dml_imported"
    ):
        WAYS_IN[way](folder, compose_smoke)
    assert_nothing_ran()


def test_reading_a_run_for_a_report_imports_nothing_of_it(write_run: WriteRun) -> None:
    folder = write_run("pooling", {"_target_": "dml_imported.Pooling"})
    assert read_config(folder / "config.yaml").pooling == {"_target_": "dml_imported.Pooling"}
    assert_nothing_ran()


@pytest.mark.parametrize(
    "value", ["${oc.env:HOME}", "${oc.decode:${oc.env:HOME}}", "${a.${now:%Y}}", "x${hydra:job}"]
)
def test_a_configuration_that_looks_into_the_environment_is_refused(value: str, write_run: WriteRun) -> None:
    folder = write_run("paths.runs", "???")
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("???", f"'{value}'"))
    with pytest.raises(UntrustedError, match=r"paths.runs=.* is to be looked up where it is read"):
        read_config(path)


def test_the_configuration_inside_of_a_checkpoint_is_no_way_around(
    write_run: WriteRun, compose_smoke: Compose
) -> None:
    folder = write_run("seed", 0)
    record = {**to_plain(compose_smoke()), "backbone": {"name": ["${oc.env:HOME}"]}}
    (folder / "checkpoints").mkdir()
    torch.save({"model": {}, "step": 0, "record": {"config": record}}, folder / "checkpoints" / "last.pt")
    with pytest.raises(UntrustedError, match=r"last.pt: backbone.name.0=.* is to be looked up"):
        open_run(compose_smoke(f"resume={folder}"), folder.parent / "new")


def test_a_tag_of_yaml_makes_nothing(write_run: WriteRun) -> None:
    path = write_run("seed", 0) / "config.yaml"
    path.write_text(path.read_text() + "tag: !!python/object/apply:os.mkdir [marker]\n")
    with pytest.raises(ConfigError, match=r"is no configuration: could not determine a constructor"):
        read_config(path)
    assert_nothing_ran()


def test_a_few_lines_that_stand_for_a_billion_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 64))]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(UntrustedError, match=r"line 2 repeats a part by \*a0"):
        read_config(tmp_path / "config.yaml")


MINE = """
import dml.pooling, numpy as np
from os import mkdir
class Pooling(dml.pooling.GlobalAveragePooling):
    @classmethod
    def from_name(cls, name, *, in_channels): return cls(in_channels=in_channels)
    _hidden = from_name
def offered(): ...
make = Pooling(in_channels=1)
"""


@pytest.fixture
def my_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("from os import rmdir; __all__ = ['rmdir']")
    (tmp_path / "my_package" / "pooling.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("my_package", "my_package.pooling"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("from_environment", [False, True])
def test_a_package_that_the_user_names_is_built(
    from_environment: bool, my_package: None, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"_target_": "my_package.pooling.Pooling.from_name", "name": "mine", "in_channels": 3}
    path = write_run("pooling", node) / "config.yaml"
    if from_environment:
        monkeypatch.setenv("DML_TRUST", "others, my_package")
    cfg = load_config(path, trust=[] if from_environment else ["my_package"])
    assert type(build(cfg.pooling)).__name__ == "Pooling"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("my_package.pooling.Pooling", True),
        ("my_package.pooling.offered", True),
        ("my_package.pooling.make", True),
        ("my_package.rmdir", True),  # it is in __all__
        ("my_package.pooling.mkdir", False),
        ("my_package.pooling.np.load", False),
        ("my_package.pooling.Pooling._hidden", False),
        ("my_package.pooling.Pooling.load_state_dict", False),
        ("my_package.pooling", False),
        ("my_package.absent.load", False),
        ("my_package2.load", False),
        ("my_package", False),
    ],
)
def test_of_a_trusted_package_only_what_it_defines_or_offers_is_allowed(
    name: str, allowed: bool, my_package: None
) -> None:
    assert is_trusted(name, ["my_package"]) is allowed


def test_the_saved_configuration_cannot_trust_for_its_reader(
    write_run: WriteRun, compose_smoke: Compose
) -> None:
    folder = write_run("trust", ["os"])
    cfg = read_config(folder / "config.yaml")
    OmegaConf.save(OmegaConf.merge(cfg, {"pooling": MAKE}), folder / "config.yaml")
    for way_in in WAYS_IN.values():
        with pytest.raises(UntrustedError, match="no model needs it"):
            way_in(folder, compose_smoke)
    assert_nothing_ran()


def test_what_is_typed_beside_resume_trusts_and_is_not_saved(
    my_package: None, write_run: WriteRun, compose_smoke: Compose
) -> None:
    folder = write_run("pooling", {"_target_": "my_package.pooling.Pooling"})
    typed = [f"resume={folder}", "trust=[my_package]"]
    assert open_run(compose_smoke(*typed), folder.parent / "new", overrides=typed).resumed
    assert read_config(folder / "config.yaml").trust == []


def test_the_command_line_of_a_training_run_may_name_anything_and_loading_asks(
    my_package: None, compose_smoke: Compose, tmp_path: Path
) -> None:
    mine = ["pooling=gap", "pooling._target_=my_package.pooling.Pooling", "trainer.max_steps=0"]
    train(compose_smoke(*mine, "trust=[elsewhere]"), tmp_path / "run")
    assert read_config(tmp_path / "run" / "config.yaml").trust == []
    with pytest.raises(UntrustedError, match=r"trust=\[my_package\]"):
        dml.load_model(tmp_path / "run")
    assert type(dml.load_model(tmp_path / "run", trust=["my_package"]).pooling).__name__ == "Pooling"


@pytest.mark.parametrize("trust", ["my_package", ["my package"], ["a.*"], [""], [3]])
def test_trust_that_names_no_packages_is_refused(trust: Any) -> None:
    with pytest.raises(ValueError, match=r"^trust"):
        trusted_packages(trust)


def test_what_our_own_modules_offer_to_a_stranger_was_looked_at() -> None:
    """These and the components of configs/ neither write nor fetch; whoever adds a name here has made sure of it."""
    named = {
        line.split()[-1]
        for path in CONFIGS.rglob("*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line
    }
    ours = [module for module in MODULES if module.startswith("dml.")]
    offered = {f"{module}.{name}" for module in ours for name in dir(import_module(module))}
    beside = sorted(name for name in offered - named if is_trusted(name))
    assert beside == [
        "dml.backbones.fold_batchnorm",
        "dml.data.Contents",
        "dml.data.ImageStore",
        "dml.data.PartContents",
        "dml.data.Records",
        "dml.data.Sampler",
        "dml.data.Splits",
        "dml.data.TrainTest",
        "dml.data.contents",
        "dml.data.contents_differences",
        "dml.data.decode",
        "dml.data.decode_source",
        "dml.data.evaluation_batches",
        "dml.data.find_images",
        "dml.data.read_ahead",
        "dml.data.training_batches",
        "dml.losses.CrossBatchMemory",
        "dml.losses.Losses",
        "dml.losses.Objective",
        "dml.losses.ZeroShotLoss",
        "dml.losses.lists_tuples",
        "dml.losses.split_by_class",
    ]


def test_every_component_that_the_configurations_choose_is_allowed() -> None:
    groups = [
        path for path in CONFIGS.rglob("*.yaml") if path.parent != CONFIGS
    ]  # train.yaml has what Hydra calls
    text = "\n".join(path.read_text(encoding="utf-8") for path in groups)
    named = set(re.findall(r"_target_: *([\w.]+)", text)) - {"null"}
    assert len(named) > 90 and [name for name in named if not is_trusted(name)] == []
