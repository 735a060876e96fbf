"""Sphinx configuration: Markdown pages, API pages from docstrings, and reference tables from the code itself.

Nothing is fetched while building: no intersphinx inventory, no fonts, no scripts.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import partnerml

project = "partnerml"
author = "The partnerml developers"
copyright = "The partnerml developers, Apache-2.0"
version = release = partnerml.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "from_code"]
exclude_patterns = ["_build", "_ext"]
root_doc = "index"
language = "en_GB"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# types are told in words in the docstrings; annotations would name modules that are no part of the public surface
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    # scikit-learn's own; their docstrings refer to pages of its site
    "exclude-members": "set_fit_request, set_score_request, set_predict_request, get_metadata_routing",
}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# single backticks in docstrings are names of things, some of which have no page
default_role = "literal"

html_theme = "furo"
html_title = f"partnerml {release}"
html_static_path = ["_static"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
# tables of columns and keys read like a terminal; these need no lexer that guesses
highlight_language = "text"
