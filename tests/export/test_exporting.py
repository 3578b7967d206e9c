"""An export embeds as its run does, without dml, and one that does not is never there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from dml import load_model
from dml.assembly import build_data
from dml.data import EvaluationTransform
from dml.errors import ConfigError, InputError, OccupiedError
from dml.export import exporting, graphs
from dml.export.certificate import BATCHES, BOUNDS, Bounds, check_bounds
from dml.export.exporting import export_run, standalone_script
from dml.index.fingerprint import draw_golden_images, fingerprint_of
from tests.commands.conftest import Dml
from tests.composed import ROOT, compose_config
from tests.index.conftest import draw

FEW = 80  # images of a certificate
FILES = {"model.onnx", "model.pt2", "embed.py", "preprocess.json", "certificate.json", "LICENSES", "golden"}
BLOCKED = (
    "import sys\nfor name in ('torch', 'dml', 'torchvision', 'simplejpeg'):\n    sys.modules[name] = None\n"
)


@pytest.fixture(autouse=True, scope="module")
def read_once() -> Iterator[None]:
    """The data set takes longer to read than all else."""
    with pytest.MonkeyPatch.context() as patch:
        read = cache(lambda root: build_data(compose_config("debug=smoke")))
        patch.setattr(exporting, "build_data", lambda cfg: read(cfg.paths.data))
        yield


@pytest.fixture(scope="module")
def exported(read_once: None, smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    export_run(smoke_run, folder, images=FEW)
    return folder


@pytest.fixture
def written_before(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are not made anew: what differs is looked for elsewhere."""
    monkeypatch.setattr(exporting, "trace", lambda model: None)
    monkeypatch.setattr(
        exporting, "write_onnx", lambda program, path, **_: shutil.copyfile(exported / "model.onnx", path)
    )
    monkeypatch.setattr(
        exporting, "write_pt2", lambda program, path: shutil.copyfile(exported / "model.pt2", path)
    )


def test_an_export_has_its_files_and_says_how_little_it_differs(exported: Path, smoke_run: Path) -> None:
    assert {path.name for path in exported.iterdir()} == FILES
    assert [path.name for path in exported.parent.iterdir()] == ["model"]  # nothing is left beside it
    certificate = json.loads((exported / "certificate.json").read_text())
    model = load_model(smoke_run)
    assert certificate["model"]["fingerprint"] == fingerprint_of(model) and certificate["precision"] == "fp32"
    assert certificate["measured_on"]["images"] >= FEW and certificate["measured_on"]["part"] == "test"
    for name in ("model.onnx", "model.pt2"):
        differences = certificate[name]["largest_difference"]
        assert {f"batches of {size}" for size in BATCHES} < set(differences)
        assert 0 <= max(differences.values()) < 1e-5
        assert certificate[name]["first_answers"] == 1 and abs(certificate[name]["map@r_change"]) < 1e-3
    assert {"from files", "golden images"} < set(certificate["model.onnx"]["largest_difference"])
    licences = (exported / "LICENSES").read_text(encoding="utf-8")
    assert "started from: ConvNet" in licences and "Noto Emoji" in licences and "MIT License" in licences


def test_embed_py_gives_the_vectors_of_the_model_where_neither_torch_nor_dml_is(
    exported: Path, smoke_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(exported / "embed.py"), *map(str, words)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    files = sorted((exported / "golden").glob("[0-9].*"))
    done = run(*files, "--out", "v.npy")
    assert done.returncode == 0 and "v.npy: 5 vectors" in done.stdout, done.stderr
    vectors = np.load(tmp_path / "v.npy")
    expected = load_model(smoke_run).embed(draw_golden_images()).numpy()
    assert vectors.dtype == np.float32 and np.abs(vectors - expected).max() < 1e-5
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    done = run(files[0], "broken.jpg", "--out", "w.npy")
    assert done.returncode == 1 and "error: broken.jpg cannot be read" in done.stderr
    assert not (tmp_path / "w.npy").exists()


def test_golden_images_tell_whether_a_machine_computes_as_the_one_that_exported(
    exported: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(exported, tmp_path / "model")
    command = [sys.executable, str(folder / "embed.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "0.0001 is allowed" in done.stdout, done.stderr
    np.save(folder / "golden" / "vectors.npy", np.load(folder / "golden" / "vectors.npy")[::-1])
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "computes otherwise" in done.stderr
    settings = json.loads((folder / "preprocess.json").read_text())
    settings["model"]["fingerprint"] = "0" * 64
    (folder / "preprocess.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [*command[:2], str(folder / "golden" / "0.jpg"), "--out", "v.npy"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "take both from one export; nothing was written" in done.stderr


FAULTS = {
    "blue first": ("pixels.transpose(2, 0, 1)", "pixels.transpose(2, 0, 1)[::-1]"),
    "another filter": ("Resampling.BILINEAR", "Resampling.NEAREST"),
    "no turn by EXIF": ("upright(_colours(image), orientation)", "_colours(image)"),
    "transparency on black": ('pixels.size, "white"', 'pixels.size, "black"'),
}


@pytest.mark.usefixtures("written_before")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_embed_py_is_caught(
    name: str, smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, (right, wrong) = standalone_script(), FAULTS[name]
    assert right in script
    monkeypatch.setattr(exporting, "standalone_script", lambda: script.replace(right, wrong))
    with pytest.raises(
        InputError, match=r"model\.onnx of this export is not the model.*(from files|golden images)"
    ):
        export_run(smoke_run, tmp_path / "model", format="onnx", images=FEW)
    assert not any(tmp_path.iterdir())


def test_a_frozen_batch_is_caught(smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_dynamic_shapes", lambda: None)
    with pytest.raises(InputError, match=r"model\.pt2 of this export takes no batch of 1: "):
        export_run(smoke_run, tmp_path / "model", format="torch", images=FEW)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_so_is_one_of_onnx(smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_dynamic_shapes", lambda: None)
    with pytest.raises(InputError, match=r"model\.onnx of this export takes no batch of 1: "):
        export_run(smoke_run, tmp_path / "model", format="onnx", images=FEW)
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("written_before")
def test_other_weights_are_caught_in_each_format(
    smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*arguments: object, **options: object) -> torch.nn.Module:
        model = original(*arguments, **options)
        with torch.no_grad():
            model.projection.weight[0] += 0.05
        return model

    original: Callable[..., torch.nn.Module] = exporting.trained_model
    known = fingerprint_of(load_model(smoke_run))
    monkeypatch.setattr(exporting, "trained_model", other)
    monkeypatch.setattr(exporting, "fingerprint_of", lambda _: known)
    for name in ("onnx", "torch"):
        with pytest.raises(InputError, match="is not the model of the run: a vector differs by"):
            export_run(smoke_run, tmp_path / "model", format=name, images=FEW)
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("written_before")
def test_a_folder_is_replaced_if_it_is_an_export_and_kept_if_it_is_not_or_if_the_new_one_fails(
    smoke_run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(exported, tmp_path / "model")
    (folder / "golden" / "more.png").touch()
    monkeypatch.setitem(BOUNDS, "fp32", Bounds(-1.0, 0.1, 0.5))
    with pytest.raises(InputError, match=r"differs by .*, and -1 is allowed"):
        export_run(smoke_run, folder, format="onnx", images=FEW)
    assert (folder / "golden" / "more.png").exists()
    monkeypatch.undo()
    shutil.copytree(folder, tmp_path / ".model.old")
    shutil.rmtree(folder)  # killed between the two steps
    (tmp_path / ".model.partial").mkdir()
    monkeypatch.setattr(exporting, "_write_graphs", lambda *_: {})
    export_run(smoke_run, folder, format="torch", images=FEW)
    assert not (folder / "golden" / "more.png").exists() and not (folder / "model.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").touch()
    for occupied in (tmp_path / "thesis", tmp_path / "thesis" / "chapter"):
        with pytest.raises(OccupiedError, match=r"holds something else \(it has no certificate.json\)"):
            export_run(smoke_run, occupied, images=FEW)


def test_each_bound_counts() -> None:
    good = {"largest_difference": {"batches of 1": 1e-6}, "first_answers": 1.0, "map@r_change": 0.0}
    check_bounds({"model.onnx": good, "model.pt2": {**good, "map@r_change": None}}, "fp32")
    for change, message in (
        ({"largest_difference": {"batches of 1": 1e-6, "golden images": float("inf")}}, "golden images"),
        ({"first_answers": 0.9}, "90.0% of first answers agree, and 99.5% is the least"),
        ({"map@r_change": -0.01}, "map@r changes by -0.0100, and -0.001 is allowed"),
    ):
        with pytest.raises(InputError, match=message):
            check_bounds({"model.onnx": good | change}, "fp32")
    with pytest.raises(InputError, match="take --precision fp32"):
        check_bounds({"model.onnx": good | {"first_answers": 0.0}}, "int8")


def test_what_cannot_be_exported_is_refused_before_anything_is_made(
    smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, message in (
        ({"precision": "int4"}, "--precision int4: accepted are fp32, fp16, int8"),
        ({"format": "caffe"}, "--format caffe: accepted are onnx, torch, both"),
        ({"format": "both", "precision": "int8"}, "only onnxruntime computes with 8 bits"),
        ({"images": 1}, "--images 1: a certificate needs at least 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            export_run(smoke_run, tmp_path / "model", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"--to .*model\.onnx: \.onnx is the ending of a file"):
        export_run(smoke_run, tmp_path / "model.onnx")

    class Own(EvaluationTransform):
        pass

    original = exporting.trained_model

    def other(*arguments: object, **options: object) -> torch.nn.Module:
        model = original(*arguments, **options)  # type: ignore[arg-type]
        model.preprocess = Own(size=32, resize=32)
        return model

    monkeypatch.setattr(exporting, "trained_model", other)
    with pytest.raises(InputError, match=r"transform\.evaluation is a Own, which embed\.py does not know"):
        export_run(smoke_run, tmp_path / "model")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_lower_precision_states_what_it_costs(
    precision: str, dml: Dml, smoke_run: Path, tmp_path: Path
) -> None:
    words = (
        "export",
        smoke_run,
        "--to",
        tmp_path / "model",
        "--precision",
        precision,
        "--images",
        200,
        "--json",
    )
    done = dml(*words)
    assert done.exit_code == 0, done.stderr
    of = json.loads(done.stdout)["model.onnx"]
    assert 1e-6 < max(of["largest_difference"].values()) <= BOUNDS[precision].difference
    assert of["map@r_change"] >= -BOUNDS[precision].map_at_r
    assert ("images_per_second_in_fp32" in of) == (precision == "int8")


@pytest.mark.usefixtures("written_before")
def test_the_command_says_what_was_measured(dml: Dml, smoke_run: Path, tmp_path: Path) -> None:
    done = dml("export", smoke_run, "--to", tmp_path / "model", "--images", FEW)
    assert done.exit_code == 0, done.stderr
    assert "model.pt2: vectors differ by" in done.stdout and "100.0% of first answers agree" in done.stdout


@pytest.mark.usefixtures("written_before")
def test_every_command_of_the_page_works_in_its_order(
    dml: Dml, smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the Hub, which is asked elsewhere."""
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    commands = [line.split("  #")[0].strip() for line in re.findall(r"^ {4}((?:dml|python) .*)$", page, re.M)]
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shutil.copytree(smoke_run, tmp_path / "RUN")
    for name in ("a.jpg", "b.jpg"):
        draw(tmp_path / name, len(name))
    monkeypatch.chdir(tmp_path)
    assert len(commands) == 5
    for command in commands:
        if "hf:" in command:
            continue
        program, *words = shlex.split(command)
        if program == "dml":
            done = dml(*words)
            assert done.exit_code == 0, f"{command}\n{done.stderr}"
        else:
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
    names: dict[str, np.ndarray] = {}
    exec(code, names)
    assert np.abs(np.load("vectors.npy") - np.asarray(names["vectors"])).max() < 1e-5


def test_the_page_states_the_bounds_that_hold() -> None:
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    for name, bounds in BOUNDS.items():
        (row,) = re.findall(rf"^\| `{name}` \| (.*?) \| (.*?) points \| (.*?) % \|$", page, re.M)
        expected = bounds.difference, 100 * bounds.map_at_r, 100 * bounds.first_answers
        assert [float(value) for value in row] == pytest.approx(expected)
