"""How the site is built: `make docs`, or `python -m sphinx -nW docs docs/_build`."""

from importlib.metadata import version as version_of

project = "pytest-streamperf"
release = version = version_of(project)
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
nitpicky = True
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "navbar_align": "left",
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
# There is nothing below these pages that a sidebar could show.
html_sidebars = {page: [] for page in ("index", "adopt", "walk", "verdicts", "budgets", "recipes")}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = project
html_show_sourcelink = False
html_show_copyright = False
