"""What a shell offers for groups, choices and keys of a configuration: Hydra's own answer, without its wrapper."""

from __future__ import annotations

from collections.abc import Sequence

import typer

__all__ = ["complete_overrides"]


def complete_overrides(ctx: typer.Context, incomplete: str) -> list[str]:
    """What can stand for the word under the cursor.

    bash takes ``=`` for the end of a word, so ``pooling=g`` arrives as three and only what follows is to be answered.
    """
    typed = [str(word) for word in ctx.params.get("overrides") or ()]
    before = ""
    if incomplete == "=" or (typed and typed[-1] == "="):
        parts = typed if incomplete == "=" else typed[:-1]
        before = f"{parts.pop() if parts else ''}="
        typed, incomplete = parts, "" if incomplete == "=" else incomplete
    line = " ".join([*_joined(typed), before + incomplete])
    return [found.removeprefix(before) for found in _answers(line)]


def _joined(words: Sequence[str]) -> list[str]:
    """``pooling``, ``=``, ``gsp`` as one word again."""
    joined: list[str] = []
    for word in words:
        if joined and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _answers(line: str) -> list[str]:
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.object_type import ObjectType
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    from dml.config import register_schema
    from dml.installation import CONFIGS

    register_schema()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        answers = DefaultCompletionPlugin(loader)._query("train", line)
        group, _, value = line.rpartition(" ")[2].partition("=")
        folders = loader.get_group_options(group, ObjectType.GROUP) if not answers else []
        return answers + [
            f"{group}={folder}/{option}"
            for folder in folders
            for option in loader.get_group_options(f"{group}/{folder}")
            if f"{folder}/{option}".startswith(value)
        ]
