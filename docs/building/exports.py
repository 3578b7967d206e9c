"""A list of what a package exports: the name, which links.py leads to its place in the reference, and what it is."""

import importlib
import inspect

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("exports", Exports)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Exports(SphinxDirective):
    """A list with an item for each name in `__all__` of the package that is the argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = self.arguments[0]
        items = [self.item(package, name, text) for name, text in exported(package)]
        return [nodes.bullet_list("", *items)]

    def item(self, package: str, name: str, text: str) -> nodes.list_item:
        said, _ = self.parse_inline(f": {text}")
        return nodes.list_item("", nodes.paragraph("", "", nodes.literal("", f"{package}.{name}"), *said))


def exported(package: str) -> list[tuple[str, str]]:
    """The names that a package exports but for those of its own working, and the first line that describes each."""
    module = importlib.import_module(package)
    names = [name for name in module.__all__ if not name.startswith("_")]
    return [(name, (inspect.getdoc(getattr(module, name)) or "").partition("\n")[0]) for name in names]
