"""What the documentation site does beyond Sphinx, and that its reference has what is public. `make docs` builds it."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

pytest.importorskip("sphinx", reason="the site is made by the extra docs")


@pytest.fixture
def building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)


REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
MODULES = re.findall(r"^\.\. automodule:: (\S+)$", REFERENCE, re.MULTILINE)


def names(module: str) -> set[str]:
    return {f"{module}.{name}" for name in importlib.import_module(module).__all__}


def test_each_component_that_a_configuration_names_is_in_the_reference() -> None:
    described = set().union(*map(names, MODULES))
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "configs").rglob("*.yaml"))
    chosen = set(re.findall(r"_target_: (dml\.(?!reporting\.)\S+)", text))
    assert len(chosen) > 40 and chosen - described == set()


def test_what_is_exported_at_the_top_is_described_where_it_is_defined(building: None) -> None:
    from building.exports import exported
    from building.links import home

    described = set().union(*map(names, MODULES)) - names("dml")
    exports = dict(exported("dml"))
    assert {"load_model", "open_index"} <= set(exports) and all(exports.values())
    assert [name for name in exports if home(f"dml.{name}", described) is None] == []
    assert home("dml.load_model", described) == "dml.runs.load_model"
    assert home("dml.nothing", described) is None and home("nothing.at_all", described) is None


def test_each_page_is_in_the_navigation() -> None:
    listed = {
        entry
        for page in (DOCS / "index.md", DOCS / "reference" / "index.md")
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
        if line and not line.startswith(":")
        for entry in [(page.parent / line.strip()).relative_to(DOCS).as_posix()]
    }
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    assert listed == pages - {"index"}


def test_a_docstring_becomes_paragraphs_formulas_and_fields(building: None) -> None:
    from building.docstrings import as_restructured_text

    docstring = """\
Vectors of a_i * b_i, from `features`, with *emphasis* and trailing_ and |norms|.

    v = a * b

    w = |v|

features: (B, N), which is
          continued.
ratio:    in (0, 1].
dim:      D.

Args:
    first: one
        and more.
    second: two

Raises InputError if it is wrong.
Source: Somebody, 2023.""".splitlines()
    assert as_restructured_text(docstring) == [
        r"Vectors of a_i \* b_i, from `features`, with *emphasis* and trailing\_ and \|norms\|.",
        "",
        "::",
        "",
        "    v = a * b",
        "",
        "    w = |v|",
        "",
        ":features: (B, N), which is",
        "    continued.",
        ":ratio: in (0, 1].",
        r":dim: \D.",
        "",
        ":param first: one",
        "    and more.",
        ":param second: two",
        "",
        "Raises InputError if it is wrong.",
        "",
        ":Source: Somebody, 2023.",
        "",
    ]


def test_every_docstring_is_taken_without_a_loss_of_words(building: None) -> None:
    from building.docstrings import as_restructured_text

    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            thing = getattr(importlib.import_module(module), name)
            text = inspect.getdoc(thing) if inspect.isclass(thing) or inspect.isfunction(thing) else None
            if text is None:
                continue
            made = "\n".join(as_restructured_text(text.splitlines()))
            said = re.sub(r"^(Args|Raises|Returns|Yields):$", "", text, flags=re.MULTILINE)
            kept = re.sub(r"^:(param|raises|returns|yields)\b", "", made, flags=re.MULTILINE)
            assert sorted(re.findall(r"\w{3,}", said)) == sorted(re.findall(r"\w{3,}", kept)), (
                f"{module}.{name}"
            )


def test_links_out_of_the_pages_are_marked_and_others_left_alone(building: None) -> None:
    from building.links import mark_links_to_the_repository

    source = ["[a](../../dml/model.py) [b](../../tests/losses) [c](../method.md#the) [d](https://x.org/a)"]
    mark_links_to_the_repository(None, "reference/losses", source)
    assert source == [
        "[a](repository:dml/model.py) [b](repository:tests/losses) [c](../method.md#the) [d](https://x.org/a)"
    ]
    source = ["[a](../dml/model.py) [b](method.md)"]
    mark_links_to_the_repository(None, "method", source)
    assert source == ["[a](repository:dml/model.py) [b](method.md)"]


def test_each_command_has_its_help_on_the_page(building: None) -> None:
    from building.commands import dml_app, get_command, helps

    found = dict(helps(get_command(dml_app), "dml"))
    assert {"dml train", "dml index build", "dml search"} <= set(found)
    assert all(text.startswith(f"Usage: {name} ") for name, text in found.items())


def test_an_equation_becomes_mathml(building: None) -> None:
    from building.mathematics import block
    from docutils import nodes

    translator = type("Translator", (), {"body": []})()
    with pytest.raises(nodes.SkipNode):
        block(translator, nodes.math_block("", r"\frac{a}{b}"))
    assert "<mfrac>" in translator.body[0] and 'display="block"' in translator.body[0]


def test_the_workflow_builds_the_site() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert "make docs" in steps
    assert "make docs" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
