"""Whose revision a run names."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dml import environment
from dml.environment import describe_environment

WHO = ["-c", "user.name=x", "-c", "user.email=x@example.org"]


def commit_all(repository: Path) -> str:
    for words in (["init", "-q"], ["add", "-A"], [*WHO, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(repository), *words], check=True, capture_output=True)
    found = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Let the package lie in a folder of a repository, with what is beside it or alone; gives the revision of that."""

    def place(folder: str, *, project: str = "dml", alone: bool = False) -> str:
        target = tmp_path / folder / "dml" / "environment.py"
        target.parent.mkdir(parents=True)
        shutil.copy(environment.__file__, target)
        (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
        for part in () if alone else environment.BESIDE:
            (target.parents[1] / part).parent.mkdir(parents=True, exist_ok=True)
            (target.parents[1] / part).touch()
        monkeypatch.setattr(environment, "__file__", str(target))
        return commit_all(tmp_path)

    return place


def recorded() -> tuple[str | None, bool | None]:
    found = describe_environment(seed=0, device=torch.device("cpu"), num_workers=0, search_backend="")
    return found["git_revision"], found["git_modified"]


@pytest.mark.parametrize("project", ["dml", "deep-metric-learning"])
def test_a_checkout_of_this_project_gives_its_revision_whatever_it_is_called(
    project: str, install: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    revision = install(".", project=project)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))  # as in a hook of another repository
    assert recorded() == (revision, False)
    (tmp_path / "dml" / "environment.py").write_text("changed")
    assert recorded() == (revision, True)


@pytest.mark.parametrize(
    ("folder", "alone"),
    [(".venv/lib/site-packages", True), (".", True), ("third_party", False)],
    ids=["in an environment", "copied beside", "copied below"],
)
def test_the_repository_of_another_project_is_not_taken_for_ours(
    folder: str, alone: bool, install: Callable[..., str]
) -> None:
    install(folder, project="shop", alone=alone)
    assert recorded() == (None, None)


def test_what_a_checkout_is_known_by_is_there() -> None:
    assert all((Path(__file__).parents[1] / part).is_file() for part in environment.BESIDE)


def test_without_git_there_is_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert recorded() == (None, None)
