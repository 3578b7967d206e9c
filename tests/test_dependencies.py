"""pyproject.toml declares what is imported, with bounds that the environment of the tests keeps."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.photographs import write_photographs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OURS = {
    "dml",
    "tests",
    "train",
    "building",
    "contestants",
    *(file.stem for file in (ROOT / "benchmarks").glob("*.py")),
}
# read in an environment of open-metric-learning's, see benchmarks/peers.py
OF_A_PEER = {"oml", "pandas", "tqdm"}
NOT_IN_DEV = {"pillow-heif", "datasets", "umap-learn"}  # extras of their own, without which the tests run
# on some systems and Pythons, by their markers, and the above
LEFT_OUT = {
    "faiss-cpu": {"faiss"},
    "tomli": {"tomli"},
    "pillow-heif": {"pillow_heif"},
    "datasets": {"datasets"},
    "umap-learn": {"umap"},
    "sphinx": {"sphinx"},
    "docutils": {"docutils"},
    "myst-parser": {"myst_parser"},
    "furo": {"furo"},
}
STANDARD = sys.stdlib_module_names | {"tomllib"}


def requirements(*extras: str) -> list[Requirement]:
    """What is declared for these extras and always, without extras that only name others."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in EXTRAS[extra]]
    return [found for found in map(Requirement, lines) if found.name != PROJECT["name"]]


def names(*extras: str) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements(*extras)}


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of the modules that a piece of code imports, at any depth of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@cache
def foreign(*folders: str) -> dict[str, set[str]]:
    """Modules from outside that the code of these folders imports, each with the files that do."""
    code = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    assert code, f"no code in {folders}"
    found: dict[str, set[str]] = {}
    for file in code:
        for module in set(imported(ast.parse(file.read_bytes()))) - STANDARD - OURS:
            found.setdefault(module, set()).add(str(file.relative_to(ROOT)))
    return found


@cache
def modules_of(distribution: str) -> set[str]:
    """Top-level names of the modules that a distribution brings."""
    try:
        return {file.parts[0].partition(".")[0] for file in files(distribution) or ()}
    except PackageNotFoundError:
        return LEFT_OUT[distribution]


def undeclared(modules: dict[str, set[str]], declared: set[str]) -> dict[str, set[str]]:
    """Those of the modules that no declared distribution brings."""
    brought = set().union(*map(modules_of, declared))
    return {module: users for module, users in modules.items() if module not in brought}


def test_the_package_imports_nothing_that_is_not_declared() -> None:
    assert not undeclared(foreign("dml"), names(*EXTRAS.keys() - {"dev"}))


class WithoutFunctions(ast.NodeTransformer):
    """Leaves of a piece of code what runs while it is imported."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.Pass:
        return ast.copy_location(ast.Pass(), node)


@pytest.mark.parametrize("line", ["import a", "class B:\n    import a", "if c:\n    import a"])
def test_what_is_imported_at_once_is_told_from_what_a_function_imports(line: str) -> None:
    assert list(imported(WithoutFunctions().visit(ast.parse(line)))) == ["a"]
    inside = "\n".join(f"    {part}" for part in line.splitlines())
    for head in ("def f():", "class C:\n  def f():"):
        assert not list(imported(WithoutFunctions().visit(ast.parse(f"{head}\n{inside}"))))


def test_what_the_package_imports_at_once_needs_no_extra_but_for_what_draws_and_serves() -> None:
    for file in (ROOT / "train.py", *(ROOT / "dml").rglob("*.py")):
        at_once = WithoutFunctions().visit(ast.parse(file.read_bytes()))
        modules = set(imported(at_once)) - STANDARD - OURS
        extras = {"reporting": ["figures"], "index": ["figures"], "service": ["serve"]}.get(
            file.parent.name, []
        )
        assert not undeclared({module: {file.name} for module in modules}, names(*extras))


LAZY = ("timm", "torchvision", "faiss")  # of which the backbone of the smoke run asks for none
EXTRA = (
    "matplotlib",
    "tensorboard",
    "wandb",
    "mlflow",
    "optuna",
    "datasets",
    "pillow_heif",
    "hydra_plugins",
    "uvicorn",
)
WITHOUT_EXTRAS = f"""
import sys
for name in {EXTRA}:
    sys.modules[name] = None
"""


def without_extras(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as where no extra is installed."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_EXTRAS)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "NO_COLOR": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_model_is_loaded_without_extras_and_without_what_its_configuration_does_not_ask_for(
    smoke_run: Path, tmp_path: Path
) -> None:
    code = f"""
import sys, dml, dml.train
import dml.commands
model = dml.load_model({str(smoke_run)!r})
print(*(name for name in {LAZY} if name in sys.modules))
"""
    done = without_extras(tmp_path, "-c", code)
    assert done.returncode == 0 and done.stdout == "\n", done.stderr + done.stdout


def test_training_says_what_it_leaves_out_without_extras_and_drawing_what_it_needs(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos")
    own = ["dataset=folder", f"dataset.root={tmp_path / 'photos'}", "transform.short_side=32", "pooling=gap"]
    small = ["protocol=conventional", "sampler.classes_per_batch=3", "evaluator.recall_at=[1]"]
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    done = without_extras(
        tmp_path,
        "-m",
        "dml",
        "train",
        "debug=smoke",
        "logger=[tensorboard,wandb,mlflow]",
        *own,
        *small,
        folder,
    )
    assert done.returncode == 0, done.stderr
    for title in ("TensorBoard", "Weights & Biases", "MLflow"):
        assert f"{title} is not installed" in done.stdout + done.stderr
    assert not (tmp_path / "run" / "tensorboard").exists()
    for command in (["attention", "RUN"], ["grid", "RUN"], ["study", "--no-run"]):
        done = without_extras(tmp_path, "-m", "dml", *command)
        assert done.returncode == 2 and "needs matplotlib, which is not installed: pip install" in done.stderr
    done = without_extras(tmp_path, "-m", "dml", "serve", "INDEX")
    assert (
        done.returncode == 2
        and "needs uvicorn, which is not installed: pip install 'dml-gsp[serve]'" in done.stderr
    )


def test_scripts_benchmarks_and_tests_import_nothing_that_is_not_declared() -> None:
    assert set(undeclared(foreign("scripts", "benchmarks", "docs", "tests"), names(*EXTRAS))) <= OF_A_PEER


def test_every_dependency_is_used() -> None:
    assert not {name for name in names() if not modules_of(name) & set(foreign("dml"))}


@pytest.mark.parametrize("line", ["import requests", "def f():\n    from requests.api import get"])
def test_an_import_that_nobody_declared_is_found(line: str) -> None:
    found = {module: {"new.py"} for module in imported(ast.parse(line))}
    assert undeclared(found, names(*EXTRAS)) == {"requests": {"new.py"}}


@pytest.mark.parametrize("requirement", requirements(*EXTRAS), ids=str)
def test_what_is_installed_keeps_the_bounds(requirement: Requirement) -> None:
    assert any(part.operator in (">=", "==") for part in requirement.specifier), "give it a lower bound"
    wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if wanted and requirement.name not in NOT_IN_DEV:
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)


def test_the_lowest_python_is_the_same_everywhere() -> None:
    lowest = re.search(r"3\.(\d+)", PROJECT["requires-python"])
    assert lowest and SpecifierSet(PROJECT["requires-python"]).contains(
        ".".join(map(str, sys.version_info[:3]))
    )
    minor = int(lowest[1])
    listed = [re.search(r":: 3\.(\d+)$", line) for line in PROJECT["classifiers"]]
    assert min(int(found[1]) for found in listed if found) == minor
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py3{minor}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == f"3.{minor}"


def test_no_command_installs_the_project_of_another_that_has_our_name_on_the_index() -> None:
    command = re.compile(r"pip install (?!-e|--editable)[^\n]*\bdml\b(?![-_]gsp)")
    folders = (ROOT / name for name in ("benchmarks", "configs", "data", "dml", "docs", "scripts", "tests"))
    files = [*ROOT.glob("*.*"), *(path for folder in folders for path in folder.rglob("*.*"))]
    read = [path for path in files if path.suffix in (".md", ".py", ".yaml") and path != Path(__file__)]
    found = [(path.name, line) for path in read for line in command.findall(path.read_text(encoding="utf-8"))]
    assert len(read) > 300 and found == [] and command.search("pip install 'dml[sweep]'")
    assert not command.search("pip install 'dml-gsp[sweep]'")
