"""The Python in the README and in the documentation runs as tests, each page on its own."""

from __future__ import annotations

import os
import sys
from doctest import NORMALIZE_WHITESPACE
from importlib.util import find_spec
from pathlib import Path

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

# A cell takes a second to compile, and tests have hundreds; those of compiled cells ask for it.
os.environ.setdefault("THROUGHTIME_COMPILER", "none")

# What needs torch, and what pytest would import to look for doctests.
WITH_TORCH = [
    "tests/corpus/torch_function/*",
    "src/throughtime/torch/*",
]
collect_ignore_glob = [] if find_spec("torch") else WITH_TORCH
collect_ignore = ["docs/conf.py"]  # Sphinx's, and only the documentation installs Sphinx
if not find_spec("sphinx"):
    collect_ignore += ["docs/api_pages.py", "docs/mathml.py"]

sys.path.insert(0, str(Path(__file__).parent / "examples"))  # pages import them by name

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=NORMALIZE_WHITESPACE), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    excludes=["docs/faults/*", "docs/notebooks/*"],  # generated; files in tests/ run these examples
).pytest()
