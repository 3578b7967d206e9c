"""What a shell offers for groups, choices and keys of a configuration: Hydra's own answer, without its wrapper."""

from __future__ import annotations

from collections.abc import Sequence

import typer

__all__ = ["complete_overrides"]


def complete_overrides(ctx: typer.Context, incomplete: str) -> list[str]:
    """What can stand for the word under the cursor; nothing if what stands before it cannot be read.

    For bash ``=`` ends a word: of ``pooling=g`` only the ``g`` is asked for, and ``pooling`` and ``=`` stand before it.
    """
    words = _joined([str(word) for word in ctx.params.get("overrides") or ()])
    open_word = words.pop() if words and words[-1].endswith("=") else ""
    if not open_word and words and "=" not in words[-1]:  # the cursor stands behind =, which is not handed on
        open_word = f"{words.pop()}="
    return [found.removeprefix(open_word) for found in _answers(words, open_word + incomplete)]


def _joined(words: Sequence[str]) -> list[str]:
    """``pooling``, ``=`` and ``gsp`` as one word again; options are left out."""
    joined: list[str] = []
    for word in words:
        if joined and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        elif not word.startswith("-"):
            joined.append(word)
    return joined


def _answers(words: Sequence[str], incomplete: str) -> list[str]:
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.object_type import ObjectType
    from hydra.errors import HydraException
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    from dml.config import register_schema
    from dml.installation import CONFIGS

    register_schema()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        try:
            answers: list[str] = DefaultCompletionPlugin(loader)._query(
                "train", " ".join([*words, incomplete])
            )
        except HydraException:
            return []
        group, equals, _ = incomplete.partition("=")
        if answers or not equals:
            return answers
        nested = [  # such as experiment=emoji/gsp, which Hydra leaves out
            f"{group}={folder}/{option}"
            for folder in loader.get_group_options(group, ObjectType.GROUP)
            for option in loader.get_group_options(f"{group}/{folder}")
        ]
        return [answer for answer in nested if answer.startswith(incomplete)]
