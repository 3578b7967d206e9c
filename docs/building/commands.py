"""The page of all commands, with the help that each prints itself."""

from collections.abc import Iterator

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command

from dml.commands import app as dml_app


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Commands(SphinxDirective):
    """A section for each command: its name, and what `--help` prints."""

    def run(self) -> list[nodes.Node]:
        return [self.section(name, text) for name, text in helps(get_command(dml_app), "dml")]

    def section(self, name: str, text: str) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(name)], names=[nodes.fully_normalize_name(name)])
        section += nodes.title("", "", nodes.literal("", name))
        section += nodes.literal_block(text, text, language="none")
        self.state.document.note_explicit_target(section)
        return section


def helps(command: object, name: str, parent: object = None) -> Iterator[tuple[str, str]]:
    """The name and help of each command below this one that does something itself, in their order."""
    context = typer.Context(
        command, info_name=name.split()[-1], parent=parent, max_content_width=96, terminal_width=96
    )
    below = getattr(command, "commands", {})
    for word, part in below.items():
        yield from helps(part, f"{name} {word}", context)
    if not below:
        yield name, command.get_help(context)
