"""How Sphinx builds the documentation."""

import re
from importlib.metadata import version as installed_version

project = "xem"
author = "xem developers"
copyright = "2026, xem developers"
version = release = installed_version("xem-em")

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build", "examples/SOURCES.md"]
html_theme = "furo"
html_title = f"xem {release}"
default_role = "code"

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
autodoc_typehints = "none"
numpydoc_show_class_members = False
nitpicky = False


def escape_stars(app, what, name, obj, options, lines):
    """Keep the star of a shape such as (*batch, n) from starting emphasis, but in literals."""
    shape = re.compile(r"(`+[^`]*`+)|\*(?=\w+[,)])")
    lines[:] = [shape.sub(lambda match: match[1] or r"\*", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", escape_stars, priority=400)
