"""Docstrings of this project are written to be read in the code; this makes reStructuredText of them.

An indented block is a formula or code, and stays as it is.
Lines "name:  what it is" become a list of fields, and so do "Args:", "Returns:", "Raises:" and "Source:".
What looks like markup and is not, such as the * of a formula, is escaped.
"""

import re
from collections.abc import Iterator

from sphinx.application import Sphinx

FIELD = re.compile(
    r"(?P<names>\*{0,2}[a-z_]\w*(?:, \*{0,2}[a-z_]\w*)*|Source|Returns|Raises):(?:\s+(?P<text>\S.*))?$"
)
ENDING = re.compile(r"(Source: |Raises [A-Z])")  # a paragraph of its own, though no empty line parts it
SECTION = re.compile(r"(Args|Returns|Raises|Yields):$")
ITEM = re.compile(r"(?P<name>[\w., *]+): (?P<text>.*)")
KEPT = re.compile(r"(``.+?``|`.+?`|(?<![\w*])\*\w(?:[^*]*\w)?\*(?![\w*]))")  # code and *emphasis*
LETTER = re.compile(r"^[A-Za-z](?=[.)](?: |$))")  # at the start of a line it would begin a list
KINDS = {"Args": "param", "Raises": "raises", "Returns": "returns", "Yields": "yields"}


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip_fields_of_tuples)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def process(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = as_restructured_text(lines)


def skip_fields_of_tuples(
    app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object
) -> bool | None:
    """The fields of a named tuple are described by its own docstring; each alone says only its number."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def as_restructured_text(lines: list[str]) -> list[str]:
    """One docstring, its margin removed already."""
    return [line for block in blocks(lines) for line in (*converted(block), "")]


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """Paragraphs, and indented blocks, which an empty line inside does not part."""
    block: list[str] = []
    for number, line in enumerate(lines):
        following = next((later for later in lines[number:] if later.strip()), "")
        if not line.strip() and not (block and block[0].startswith(" ") and following.startswith(" ")):
            if block:
                yield block
            block = []
        elif ENDING.match(line) and block and not block[0].startswith(" "):
            yield block
            block = [line]
        else:
            block.append(line)
    if block:
        yield block


def converted(block: list[str]) -> Iterator[str]:
    if block[0].startswith(" "):
        yield from ("::", "", *block)
    elif section := SECTION.match(block[0]):
        yield from fields_of_section(KINDS[section[1]], block[1:])
    elif FIELD.match(block[0]):
        yield from fields(block)
    else:
        yield from map(escaped, block)


def fields(block: list[str]) -> Iterator[str]:
    """Lines of "name: text", each continued by lines that are indented."""
    for line in block:
        if match := FIELD.match(line):
            yield f":{match['names'].replace('*', chr(92) + '*')}: {escaped(match['text'] or '')}"
        elif line.startswith(" "):
            yield f"    {escaped(line.strip())}"
        else:
            yield from ("", escaped(line))


def fields_of_section(kind: str, block: list[str]) -> Iterator[str]:
    """Items of "name: text" below a heading such as "Raises:"."""
    margin = len(block[0]) - len(block[0].lstrip()) if block else 0
    for line in block:
        item = ITEM.match(line.strip())
        if len(line) - len(line.lstrip()) == margin and item and kind != "returns":
            yield f":{kind} {item['name']}: {escaped(item['text'])}"
        elif line is block[0]:
            yield f":{kind}: {escaped(line.strip())}"
        else:
            yield f"    {escaped(line.strip())}"


def escaped(line: str) -> str:
    """A line whose text, outside of code, holds no markup but *emphasis*."""
    line = LETTER.sub(r"\\\g<0>", line)
    return "".join(part if number % 2 else text(part) for number, part in enumerate(KEPT.split(line)))


def text(part: str) -> str:
    return re.sub(r"[|*]|_(?!\w)", r"\\\g<0>", part)
