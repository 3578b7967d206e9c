"""Errors of the user are classes of our own, and the built-in ones that Python code expects."""

import ast
import re
from pathlib import Path

import pytest

from dml import errors
from dml.errors import FileError, InputError, MissingFileError, UserError, raised_in_dml, user_files
from dml.migrations import migrate_config

BUILT_IN = {
    "ConfigError": ValueError,
    "InputError": ValueError,
    "CheckpointError": ValueError,
    "WrongTypeError": TypeError,
    "FileError": OSError,
    "MissingFileError": FileNotFoundError,
    "OccupiedError": FileExistsError,
    "UnavailableError": RuntimeError,
}


def test_each_class_is_an_error_of_the_user_and_a_built_in_one_and_says_what_it_was_given() -> None:
    assert set(errors.__all__) == {*BUILT_IN, "UserError", "raised_in_dml", "user_files"}
    for name, built_in in BUILT_IN.items():
        error = getattr(errors, name)("a sentence")
        assert isinstance(error, UserError) and isinstance(error, built_in) and str(error) == "a sentence"


def test_a_missing_file_and_whatever_else_the_system_says_become_errors_of_the_user(tmp_path: Path) -> None:
    with (
        pytest.raises(
            MissingFileError, match=r"reading it: No such file or directory \(.*nothing\); check the path"
        ),
        user_files("reading it"),
    ):
        (tmp_path / "nothing").read_text()
    with pytest.raises(FileError, match=r"reading it: Is a directory"), user_files("reading it"):
        tmp_path.read_text()
    with pytest.raises(FileError, match=r"writing it: said without a number; mend"), user_files("writing it"):
        raise OSError("said without a number")


def test_what_is_no_error_of_files_passes_as_it_is() -> None:
    for kind in (KeyError, InputError, MissingFileError):
        with pytest.raises(kind, match=r"^'?as it is'?$"), user_files("reading it"):
            raise kind("as it is")


def test_an_error_knows_whether_dml_raised_it() -> None:
    with pytest.raises(ValueError, match="format") as ours:
        migrate_config({"format": 99}, "config.yaml")
    with pytest.raises(ValueError, match="literal") as others:
        int("x")
    assert raised_in_dml(ours.value) and not raised_in_dml(others.value) and not raised_in_dml(ValueError())


def test_dml_raises_no_built_in_error_for_what_the_user_can_mend() -> None:
    built_in = "|".join({kind.__name__ for kind in BUILT_IN.values()})
    files = sorted((Path(errors.__file__).parent).rglob("*.py"))
    found = [
        f"{path.name}: {line.strip()}"
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(rf"\s*(raise ({built_in})\(|class \w+\(({built_in})\))", line)
    ]
    assert len(files) > 100 and found == []


def test_docstrings_name_the_classes_of_our_own() -> None:
    """OSError is left where the system's own error passes through."""
    wrong = re.compile(r"^.*\b(ValueError|FileNotFoundError|TypeError|RuntimeError)\b", re.MULTILINE)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    files = sorted(set(Path(errors.__file__).parent.rglob("*.py")) - {Path(errors.__file__)})
    found = [
        f"{path.name}: {line.group().strip()}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, documented)
        for line in wrong.finditer(ast.get_docstring(node) or "")
    ]
    assert len(files) > 100 and found == []
