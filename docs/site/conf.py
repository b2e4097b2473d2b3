"""Settings of Sphinx for the site. `build.py` makes the folder of pages that they apply to, and starts Sphinx."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from api import linkcode_resolve as linkcode_resolve  # noqa: E402

import minivit  # noqa: E402

project = "minivit"
author = "The minivit developers"
copyright = "the minivit developers, MIT licence"
version = release = minivit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.linkcode", "numpydoc", "chapters", "sources", "api",
              "latex"]
root_doc = "index"
myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
myst_url_schemes = ("http", "https", "mailto", "source")
suppress_warnings = ["myst.header"]                                   # a page of docs/ may begin below level 1
highlight_language = "text"

autodoc_typehints = "none"                                            # numpydoc states the types, with shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
toc_object_entries = False
add_module_names = False
python_display_short_literal_types = True

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"minivit {version}"
templates_path = ["templates"]
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_css_files = ["site.css"]
html_js_files = [("search-from-files.js", {"priority": 800})]
html_copy_source = False
html_show_sphinx = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#8a3b12", "color-brand-content": "#8a3b12",
                            "color-brand-visited": "#8a3b12"},
    "dark_css_variables": {"color-brand-primary": "#f0a878", "color-brand-content": "#f0a878",
                           "color-brand-visited": "#f0a878"},
    "top_of_page_buttons": [],
}
