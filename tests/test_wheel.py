"""What is installed elsewhere: a wheel, built without network, in a folder where nothing of the checkout is."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dml
from tests.parts_of_ones_own import typed, write_parts

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder for packages that holds the wheel's content and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent / "packages")
    return wheel.parent / "packages"


def python(installed: Path, folder: Path, *arguments: object) -> str:
    """Run Python in a folder, with the installed dml; what it prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DML_")}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_all_of_the_package_the_configurations_and_the_embedded_images(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert b"dml = dml.commands:main" in archive.read(entry)
    package = {
        path for path in (ROOT / "dml").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    beside = {
        path for name in ("configs", "data/emoji") for path in (ROOT / name).rglob("*") if path.is_file()
    }
    expected = {path.relative_to(ROOT).as_posix() for path in package}
    expected |= {f"dml/share/{path.relative_to(ROOT).as_posix()}" for path in beside}
    assert {"dml/py.typed", "dml/__init__.pyi", "dml/share/configs/train.yaml"} <= expected
    described = {name for name in names if ".dist-info/" in name}
    assert names - described == expected and any(name.endswith("NOTICE") for name in described)
    assert wheel.name.startswith(f"dml_gsp-{dml.__version__}-py3-none-any") and wheel.stat().st_size < 15e6


def test_in_an_empty_folder_it_trains_own_parts_on_own_images_reports_and_gives_the_model_back(
    installed: Path, tmp_path: Path
) -> None:
    write_parts(tmp_path)  # of which ``-m`` finds what lies in the folder
    (tmp_path / "photographs").rename(tmp_path / "photos")
    own = ["dataset=folder", "dataset.root=photos", "transform.short_side=32", "evaluator.recall_at=[1]"]
    small = ["protocol=conventional", "sampler.classes_per_batch=3", "hydra.run.dir=run"]
    printed = python(installed, tmp_path, "-m", "dml", "train", *typed(), "debug=smoke", *own, *small)
    assert "run folder: " in printed and "recall@1" in printed
    assert "map@r" in python(installed, tmp_path, "-m", "dml", "report", "run")
    code = "import dml; model = dml.load_model('run', trust=['mine'])"
    code += "; print(dml.__file__, model.embed(['photos/test/oak/0.png']).shape)"
    place, _, shape = python(installed, tmp_path, "-c", code).partition(" ")
    assert Path(place).is_relative_to(installed) and shape == "torch.Size([1, 128])\n"


@pytest.mark.slow
def test_in_an_empty_folder_it_trains_on_the_images_that_come_with_it(
    installed: Path, tmp_path: Path
) -> None:
    assert "4,433" in python(installed, tmp_path, "-m", "dml", "train", "debug=smoke", "hydra.run.dir=run")
    assert "to the last digit" in python(installed, tmp_path, "-m", "dml", "evaluate", "run")
