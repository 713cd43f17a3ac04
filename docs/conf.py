"""Sphinx settings: MyST pages, furo."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "dataset-tasks"
author = "The dataset-tasks authors"
copyright = "The dataset-tasks authors, Apache-2.0"
version = release = installed_version("dataset-tasks")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "dataset-tasks"

myst_enable_extensions = ["colon_fence", "linkify"]
myst_heading_anchors = 3
#: Shown as text: drawing Mermaid would need a script from another site.
myst_fence_as_directive: list[str] = []
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
