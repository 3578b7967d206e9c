"""What every row, choice and table resolved to before rows became products, and a comparison with it.

resolved.json has, for each top key of a configuration, the variants that occur, and for each row and choice which
variant it has, in the order of ``keys``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from dml.config import EXECUTION, TrainConfig, to_plain
from dml.migrations import migrate_config

BEFORE: dict[str, Any] = json.loads(Path(__file__).with_name("resolved.json").read_text(encoding="utf-8"))


def assert_unchanged(cfg: TrainConfig, part: str, name: str) -> None:
    """Every key of then has its value still, but for how a run is executed; later keys are no concern of this test.

    What was renamed since is renamed as in the configuration of a run of then, of which format 1 was the first.
    """
    then = migrate_config({**before(part, name), "format": 1}, "resolved.json")
    then["loss"].pop("_takes_", None)  # it cannot know but of what was used
    now = dict(leaves(to_plain(cfg)))
    for key, value in leaves(then):
        if any(key == execution or key.startswith(f"{execution}.") for execution in EXECUTION):
            continue
        found = now.get(key, "(absent)")
        assert (type(found), found) == (type(value), value), f"{name}: {key}"


def before(part: str, name: str) -> dict[str, Any]:
    indices = map(int, BEFORE[part][name].split())
    return {key: deepcopy(BEFORE["variants"][key][i]) for key, i in zip(BEFORE["keys"], indices, strict=True)}


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
