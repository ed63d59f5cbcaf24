"""The documentation site: `make docs` builds it into build/docs. Sphinx reads this file."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from foveal.verbs import VERBS
from foveal.version import VERSION

project = "Foveal"
author = "Foveal contributors"
version = release = VERSION
html_title = "Foveal"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design"]
highlight_language = "none"  # a block without a language is output
nb_execution_mode = "off"  # the tutorials have stored output
nb_merge_streams = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "code"  # docstrings write `names` as Markdown does
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
maximum_signature_line_length = 100
python_maximum_signature_line_length = 80
copybutton_exclude = ".linenos, .gp, .go, .c1"  # comments behind commands are not copied

html_theme = "pydata_sphinx_theme"
html_logo = html_favicon = "../foveal/serve/static/icon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "Foveal"},
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "results": [], "start": []}
copyright = "Foveal contributors. Apache-2.0. For research use; Foveal is not a medical device"

LOADED = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(https?:)?//|<link[^>]*\shref=\"(https?:)?//")
OF_STYLES = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")


def refuse_the_network(app: Sphinx, error: Exception | None) -> None:
    """Fail if a page or a style sheet loads something from another host."""
    if error:
        return
    for pattern, ending in ((LOADED, "*.html"), (OF_STYLES, "*.css")):
        strangers = [path for path in Path(app.outdir).rglob(ending) if pattern.search(path.read_text("utf-8"))]
        if strangers:
            raise ExtensionError(f"these pages load something from the network: {strangers}")


def link_to_options(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Add a link to the options of a verb below its docstring."""
    verb = name.removeprefix("foveal.")
    if verb in VERBS:
        lines += ["", f"Options: `foveal {verb} <../options.html#{verb}>`__.", ""]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", link_to_options)
    app.connect("build-finished", refuse_the_network)
