"""Sphinx configuration. Nothing in the built site is loaded from elsewhere."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path

from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature

sys.path.insert(0, str(Path(__file__).parent))
import api_pages
import cli_pages
import fault_pages
import gallery_pages
import mathml
import notebook_pages

project = "throughtime"
author = "the throughtime authors"
version = release = installed_version("throughtime")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["build", "_build", "faults.md"]  # the index of faults is made from faults.md
nitpicky = False
default_role = "code"  # `x` in docstrings is code
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "throughtime"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
autodoc_mock_imports = [] if find_spec("torch") else ["torch"]  # its pages are made without it too
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def _whole_property(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]
    """Napoleon reads "a: b" in a property's docstring as "type: text"; here it is a sentence."""
    if what == "property" and obj.__doc__:
        lines[:] = inspect.cleandoc(obj.__doc__).splitlines()


def _own_signature(app, what, name, obj, options, signature, returned):  # type: ignore[no-untyped-def]
    """Of a class whose base is mocked, which would hide it; without what takes unknown options."""
    if signature and "**unknown: Never" in signature:
        return signature.replace(", **unknown: Never", ""), returned
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    own = signature_of(obj.__init__, bound_method=True)
    return stringify_signature(own, show_annotation=False), returned


def _written_pages(app):  # type: ignore[no-untyped-def]
    """Writes the pages that are made from the code before Sphinx looks for its sources."""
    api_pages.write()
    cli_pages.write()
    fault_pages.write()
    gallery_pages.write()
    notebook_pages.write()


def setup(app):  # type: ignore[no-untyped-def]
    """Docstrings are processed after Napoleon, whose priority is 500."""
    mathml.setup(app)
    app.connect("builder-inited", _written_pages)
    app.connect("autodoc-process-signature", _own_signature)
    app.connect("autodoc-process-docstring", _whole_property, priority=600)
