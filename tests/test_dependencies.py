"""pyproject.toml declares what is imported, with bounds that the environment of the tests keeps."""

import ast
import re
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

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OURS = {"dml", "tests", "train", "contestants", *(file.stem for file in (ROOT / "benchmarks").glob("*.py"))}
# read in an environment of open-metric-learning's, see benchmarks/peers.py
OF_A_PEER = {"oml", "pandas", "tqdm"}
USED_UNSEEN = {"tensorboard"}  # torch.utils.tensorboard imports it
NOT_IN_DEV = {"pillow-heif", "datasets", "umap-learn"}  # extras of their own, without which the tests run
# on some systems and Pythons, by their markers, and the above
LEFT_OUT = {
    "faiss-cpu": {"faiss"},
    "tomli": {"tomli"},
    "pillow-heif": {"pillow_heif"},
    "datasets": {"datasets"},
    "umap-learn": {"umap"},
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


def test_what_the_package_imports_at_once_needs_no_extra() -> None:
    for file in (ROOT / "train.py", *(ROOT / "dml").rglob("*.py")):
        tree = ast.parse(file.read_bytes())
        at_once = ast.Module([node for node in tree.body if not isinstance(node, ast.FunctionDef)], [])
        modules = set(imported(at_once)) - STANDARD - OURS
        assert not undeclared({module: {file.name} for module in modules}, names())


def test_scripts_benchmarks_and_tests_import_nothing_that_is_not_declared() -> None:
    assert set(undeclared(foreign("scripts", "benchmarks", "tests"), names(*EXTRAS))) <= OF_A_PEER


def test_every_dependency_is_used() -> None:
    assert {name for name in names() if not modules_of(name) & set(foreign("dml"))} == USED_UNSEEN


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
    command = re.compile(r"pip install (?!-e|--editable)[^\n]*\bdml\b")
    folders = (ROOT / name for name in ("benchmarks", "configs", "data", "dml", "docs", "scripts", "tests"))
    files = [*ROOT.glob("*.*"), *(path for folder in folders for path in folder.rglob("*.*"))]
    read = [path for path in files if path.suffix in (".md", ".py", ".yaml") and path != Path(__file__)]
    found = [(path.name, line) for path in read for line in command.findall(path.read_text(encoding="utf-8"))]
    assert len(read) > 300 and found == [] and command.search("pip install 'dml[sweep]'")
