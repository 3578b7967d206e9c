"""The folder that docs/extending.md describes, written from its code blocks."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from tests.photographs import write_photographs

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`([\w./]+)`\n\n```(?:python|yaml)\n(.*?)```$", re.MULTILINE | re.DOTALL)
CHOICE = "dml train --config-dir my_configs dataset=mine "
GROUPS = ("pooling", "loss", "backbone", "dataset", "logger", "metric")


def write_parts(folder: Path) -> Path:
    """The files of the page and the images that it speaks of; returns the folder."""
    files = dict(FILE.findall(PAGE))
    assert {Path(name).parts[1] for name in files if name.startswith("my_configs/")} == set(GROUPS)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (folder / "mine" / "__init__.py").touch()
    write_photographs(folder / "photographs")
    (folder / "images").mkdir()
    for image in (folder / "photographs").rglob("*.png"):
        shutil.copy(image, folder / "images" / f"{image.parent.name}-{image.name}")
    return folder


def typed() -> list[str]:
    """The choices of all parts but the data set, as the page types them."""
    (line,) = (line.strip() for line in PAGE.splitlines() if line.strip().startswith(CHOICE))
    return ["--config-dir", "my_configs", *shlex.split(line.removeprefix(CHOICE))]
