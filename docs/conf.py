"""The documentation site: `make docs` builds it, and any warning ends the build.

Equations become MathML, which browsers draw by themselves, so a page needs no network for them. A name in code that
the reference has, such as `dml.load_model`, becomes a link to it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the package building, beside this file

import dml

project = "dml"
author = "the dml developers"
copyright = author
version = release = dml.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "building.commands",
    "building.docstrings",
    "building.exports",
    "building.links",
    "building.mathematics",
]
exclude_patterns = ["building"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # links lead to headings by the anchors that code hosts give them
myst_url_schemes = ("http", "https", "repository")  # the last is of building/links.py

default_role = "py:obj"  # in docstrings `name` is code, and a link if the reference has the name
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # else each forward says what that of torch says
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
highlight_language = "none"  # of blocks that name none: commands, formulas and what is printed

html_math_renderer = "mathml"  # of building/mathematics.py
html_theme = "furo"
html_title = f"dml {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
