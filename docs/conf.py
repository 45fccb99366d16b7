"""How Sphinx makes the book. `authoring/book.py` gathers the pages in docs/_build/source and calls it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from authoring.docstrings import to_rst
from authoring.manifest import read

manifest = read(ROOT)
project, author, copyright = manifest.title, "the authors of hesslab", "2026, MIT licence"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
exclude_patterns = []

nb_execution_mode = "off"  # the book shows the outputs that are committed
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_inherit_docstrings = False

mathjax_path = "tex-svg.js"  # a copy, so that formulas need no network
html_theme = "sphinx_book_theme"
html_title = manifest.title
html_static_path = [str(ROOT / "docs" / "_static")]
html_css_files = ["book.css"]
html_favicon = str(ROOT / "docs" / "_static" / "favicon.svg")
smartquotes = False  # code in a docstring is full of quotes
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the search is in the side bar
    **(
        {
            "repository_url": manifest.repository,
            "use_repository_button": True,
            "launch_buttons": {
                "binderhub_url": "https://mybinder.org",
                "colab_url": "https://colab.research.google.com",
            },
        }
        if manifest.repository
        else {}
    ),
}


def setup(app):
    """Docstrings are plain text with formulas in it; reST would take their signs for markup."""
    app.connect("autodoc-process-docstring", lambda app, kind, name, thing, options, lines: to_rst(lines))
