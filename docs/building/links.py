"""Links that a page has in the repository, made to lead somewhere on the site.

A file of the program leads to its source here. Other files of the repository have no page, so their names stand without
a link. Inline code that is the full name of something in the reference leads there, and a name that the reference
lacks ends the build. In a table, where room is short, only its last part is shown.
"""

import importlib
import posixpath
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

SCHEME = "repository:"
UPWARDS = re.compile(r"\]\((\.\./[^)#]+)(#[^)]*)?\)")
FULL_NAME = re.compile(r"dml(\.[A-Za-z]\w*)+")
FORMER = "changelog"  # the page that may name what there is no more

log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", mark_links_to_the_repository)
    app.connect("doctree-resolved", resolve_links_to_the_repository)
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mark_links_to_the_repository(app: Sphinx, page: str, source: list[str]) -> None:
    def marked(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link[1]))
        return f"]({SCHEME}{target.removeprefix('../')})" if target.startswith("../") else link[0]

    source[0] = UPWARDS.sub(marked, source[0])


def resolve_links_to_the_repository(app: Sphinx, document: nodes.document, page: str) -> None:
    for link in list(document.findall(nodes.reference)):
        if not link.get("refuri", "").startswith(SCHEME):
            continue
        path = PurePosixPath(link["refuri"].removeprefix(SCHEME))
        module = ".".join(path.with_suffix("").parts)
        if path.suffix == ".py" and getattr(app.env, "_viewcode_modules", {}).get(module):
            source = "_modules/" + module.replace(".", "/")
            link["refuri"] = app.builder.get_relative_uri(page, source)
        else:
            link.replace_self(link.children)


class LinkNames(SphinxPostTransform):
    """Inline code that is a full name becomes a link to the reference."""

    default_priority = 20

    def run(self, **kwargs: object) -> None:
        python = self.env.domains.python_domain
        for literal in list(self.document.findall(nodes.literal)):
            name = literal.astext()
            if not FULL_NAME.fullmatch(name) or isinstance(literal.parent, nodes.reference | nodes.title):
                continue
            found = python.find_obj(self.env, None, None, name, None)
            if not found and (other := home(name, python.objects)):
                found = python.find_obj(self.env, None, None, other, None)
            if not found:
                if self.env.docname != FORMER:
                    log.warning("the reference has no %s", name, location=literal)
                continue
            (_, entry) = found[0]
            anchor = make_refnode(self.app.builder, self.env.docname, entry.docname, entry.node_id, [], name)
            anchor.children = []
            literal.replace_self(anchor)
            short = name.rpartition(".")[2] if isinstance(anchor.parent.parent, nodes.entry) else name
            anchor += nodes.literal("", short, classes=literal["classes"])


def home(name: str, described: Iterable[str]) -> str | None:
    """The name under which the reference describes what a package exports by another, too."""
    attribute = name.rpartition(".")[2]
    thing = resolved(name)
    others = (other for other in described if other.rpartition(".")[2] == attribute)
    return next((other for other in others if thing is not None and resolved(other) is thing), None)


def resolved(name: str) -> object:
    """What a full name of something in a module stands for, or None."""
    package, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(package), attribute, None)
    except ImportError:
        return None
