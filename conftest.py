"""The Python in the README and in the documentation runs as tests, each page on its own."""

from __future__ import annotations

import sys
from doctest import NORMALIZE_WHITESPACE
from pathlib import Path

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

sys.path.insert(0, str(Path(__file__).parent / "examples"))  # pages import them by name

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=NORMALIZE_WHITESPACE)],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
).pytest()
