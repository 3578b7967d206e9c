"""Answers as one HTML file that needs nothing else: small images inside, no script, and every name is text."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from PIL import Image

from dml.data import decode
from dml.errors import UserError, user_files
from dml.index.layout import write_whole

__all__ = ["Card", "Row", "write_page"]

SIDE = 160  # of a small image, in pixels
TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff }
  h1 { font-size: 1.3rem } h2 { font-size: 1rem; margin: 1.5rem 0 .4rem } p { margin: .2rem 0; color: #555 }
  section { border-top: 1px solid #ddd } ul { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; list-style: none }
  figure { margin: 0; width: 160px } figcaption { font-size: .8rem; overflow-wrap: anywhere }
  img, .none { width: 160px; height: 160px; object-fit: contain; background: #f4f4f4; border: 2px solid #ddd }
  .none { display: grid; place-items: center; color: #888; box-sizing: content-box }
  .match img { border-color: #1b7f3b } .other img { border: 2px dashed #c8281e }
  @media (prefers-color-scheme: dark) { body { color: #ddd; background: #111 } p { color: #aaa }
    img, .none { background: #222; border-color: #444 } section { border-color: #333 } }
</style>
<h1>{{ title }}</h1>
{% for line in notes %}<p>{{ line }}</p>
{% endfor %}
{% for row in rows %}<section><h2>{{ row.title }}</h2><ul>
{% for card in row.cards %}<li class="{{ card.kind }}"><figure>
{%- if images[card.path] %}<img src="{{ images[card.path] }}" alt="{{ card.path | name }}">
{%- else %}<div class="none">cannot be shown</div>{% endif -%}
<figcaption title="{{ card.path }}">{{ card.text }}<br>{{ card.path | name }}</figcaption></figure></li>
{% endfor %}</ul></section>
{% endfor %}
"""


@dataclass(frozen=True)
class Card:
    """An image with a line below it; kind is ``match``, ``other`` or nothing, and gives its frame."""

    path: str
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Row:
    title: str
    cards: Sequence[Card]


def write_page(
    path: str | os.PathLike[str], *, title: str, notes: Sequence[str], rows: Sequence[Row]
) -> None:
    """Write rows of images as a page, whole or not at all.

    Raises:
        FileError: it cannot be written.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["name"] = os.path.basename
    images = _small_images([card.path for row in rows for card in row.cards])
    text = environment.from_string(TEMPLATE).render(title=title, notes=notes, rows=rows, images=images)
    with user_files(f"writing {path}"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), text.encode("utf-8", "backslashreplace"))


def _small_images(paths: Sequence[str]) -> Mapping[str, str]:
    """Each image once, as a data URI; empty for one that cannot be read any more."""
    return {path: _small_image(path) for path in dict.fromkeys(paths)}


def _small_image(path: str) -> str:
    try:
        image = Image.fromarray(decode(path))
    except UserError:
        return ""
    image.thumbnail((SIDE * 2, SIDE * 2))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
