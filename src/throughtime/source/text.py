"""The text of a user's file: a Python file, or the cells of a notebook one after another."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.source.newer import as_it_is_meant
from throughtime.source.vintage import as_python_3, has_print_statements
from throughtime.storage import read_bytes

LARGEST = 50_000_000  # bytes; notebooks hold pictures
# Of Python, for which the parser takes some hundred times as much memory. A file of 10,000
# long lines has less.
MOST_PYTHON = 1_000_000  # characters


@dataclass(frozen=True)
class SourceText:
    """What a file holds as Python.

    Args:
        path: of the file.
        text: its Python, of all code cells where it is a notebook.
        cells: for a notebook, for each line of `text` the number of its cell, from 0, and of the
            line in it, from 1; empty for a Python file.
        old: whether it is Python 2 by its print statements, which are calls in `text`.
    """

    path: Path
    text: str
    cells: tuple[tuple[int, int], ...] = ()
    old: bool = False

    def place(self, line: int) -> str:
        """A line as a user finds it: `lstm.py:86`, or `net.ipynb, cell 7, line 3`."""
        if not self.cells:
            return f"{self.path.name}:{line}"
        cell, inner = self.cells[line - 1]
        return f"{self.path.name}, cell {cell}, line {inner}"


def read_source(path: Path) -> SourceText:
    """The text of a .py or .ipynb file; lines of a notebook that are no Python become comments.

    Raises:
        CheckError: where there is no such file, or it holds no Python.
    """
    if not path.is_file():
        refuse("file", "an existing Python file or notebook", str(path), error=CheckError)
    try:
        data = read_bytes(path, LARGEST)
    except (ValueError, OSError) as problem:
        raise CheckError(str(problem)) from problem
    if path.suffix == ".ipynb":
        return _notebook(path, data)
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        text = data.decode(encoding).replace("\r\n", "\n")
    except (SyntaxError, ValueError, LookupError) as problem:
        refuse(str(path), "Python text", str(problem), error=CheckError)
    python, old = _python(path, text)
    return SourceText(path, python, old=old)


def parsed(source: SourceText, text: str | None = None) -> ast.Module:
    """The syntax tree of what a file holds, or of another text that stands in its place.

    Raises:
        CheckError: where it is no Python; it says in which line.
    """
    try:
        return ast.parse(source.text if text is None else text)
    except SyntaxError as problem:
        line = problem.lineno or 1
        place = f"{source.path.name}, line {line}"
        if source.cells:
            place = source.place(min(line, len(source.cells)))
        raise CheckError(f"{place}: syntax error: {problem.msg}") from None


def _python(path: Path, text: str) -> tuple[str, bool]:
    """Python that can be parsed in little time, and whether it was Python 2.

    No parser takes null characters.
    """
    if len(text) > MOST_PYTHON:
        way_out = "take what is to be checked into a file of its own"
        expected = f"at most {MOST_PYTHON:,} characters of Python"
        refuse(str(path), expected, f"{len(text):,}", way_out, error=CheckError)
    if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
        refuse(str(path), "Python text", "characters that are none", error=CheckError)
    try:
        text = as_it_is_meant(text)
        return as_python_3(text), has_print_statements(text)
    except (RecursionError, MemoryError):  # of the parser
        refuse(str(path), "Python text", "one that is nested too deeply", error=CheckError)


def _notebook(path: Path, data: bytes) -> SourceText:
    try:
        cells = json.loads(data)["cells"]
        sources = [
            (n, cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"]))
            for n, cell in enumerate(cells)
            if cell["cell_type"] == "code"
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        refuse(str(path), "a notebook", f"{type(problem).__name__}: {problem}", error=CheckError)
    lines, places = [], []
    for number, text in sources:
        magic = text.lstrip().startswith("%%")
        for inner, line in enumerate(text.split("\n"), start=1):
            lines.append(f"# {line}" if magic or _is_magic(line) else line)
            places.append((number, inner))
    python, old = _python(path, "\n".join(lines) + "\n")
    return SourceText(path, python, tuple(places), old=old)


def _is_magic(line: str) -> bool:
    """Whether a line is for the notebook and not for Python, as `%matplotlib inline`, `!pip`."""
    return line.lstrip()[:1] in ("%", "!", "?")


@lru_cache(maxsize=64)
def tree_of(text: str) -> ast.Module:
    """The syntax tree of a text that is looked at again and again; nobody may change it."""
    return ast.parse(text)
