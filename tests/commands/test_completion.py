"""What the shell offers behind dml train."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dml.commands.completion import complete_overrides

ROOT = Path(__file__).parents[2]
# as zsh and fish have the words, and as bash does
WHOLE = [
    ("poo", ["pooling.", "pooling="]),
    ("miner=multi", ["miner=multi_similarity"]),
    ("pooling=gsp pooling.sh", ["pooling.sharpness="]),
    ("-m pooling=gap miner=batch_h", ["miner=batch_hard"]),
    ("experiment=emoji/gs", ["experiment=emoji/gsp", "experiment=emoji/gsp_zero_shot"]),
    ("trainer.max", ["trainer.max_steps="]),
    ("sede=7 poo", ["pooling="]),
    ("pooling='a poo", []),
]
SPLIT = [
    ("miner = multi", ["multi_similarity"]),
    ("pooling = gap miner = batch_h", ["batch_hard"]),
    ("experiment = emoji/gs", ["emoji/gsp", "emoji/gsp_zero_shot"]),
    ("dataset = cub memory ", ["none", "xbm"]),  # of memory=, without the last =
]


@pytest.mark.parametrize(("typed", "offered"), [*WHOLE, *SPLIT])
def test_groups_choices_and_keys_are_offered(typed: str, offered: list[str]) -> None:
    *words, incomplete = typed.split(" ")
    context = SimpleNamespace(params={"overrides": words})
    assert complete_overrides(context, incomplete)[: len(offered) or None] == offered  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [("dml ver", "verify"), ("dml train miner = multi", "multi_similarity"), ("dml train pooling =", "cbam")],
)
def test_bash_is_told_so(typed: str, offered: str, tmp_path: Path) -> None:
    (tmp_path / "dml").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dml "$@"\n')
    (tmp_path / "dml").chmod(0o755)
    words = typed.split()
    script = (
        f'eval "$(_DML_COMPLETE=source_bash dml)"; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; '
        '$(complete -p dml | sed "s/.*-F \\([^ ]*\\) .*/\\1/") dml; echo "${COMPREPLY[@]}"'
    )
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env={**os.environ, **path}, capture_output=True, text=True)
    assert done.stdout.split()[:1] == [offered], done.stderr
