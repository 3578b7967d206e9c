"""The library that dataset=hub needs, where it is missing or too old; the rest is in test_hub.py."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from dml.data import hub
from dml.errors import ConfigError


def test_without_the_library_the_way_to_get_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"needs the library datasets.*pip install 'datasets>=4'"):
        hub("user/set", short_side=None, cache=False, cache_folder=str(tmp_path))


def test_a_version_that_would_run_the_code_of_a_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ModuleType("datasets")
    old.__version__ = "3.6.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", old)
    with pytest.raises(ConfigError, match=r"from version 4 on, and 3\.6\.0 is installed"):
        hub("user/set", short_side=None, cache=False, cache_folder=str(tmp_path))
