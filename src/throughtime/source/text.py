"""The text of a user's file: a Python file, or the cells of a notebook one after another."""

from __future__ import annotations

import io
import json
import tokenize
from dataclasses import dataclass
from pathlib import Path

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.source.vintage import as_python_3, has_print_statements

LARGEST = 50_000_000  # bytes; notebooks hold pictures


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
    if path.stat().st_size > LARGEST:
        refuse(str(path), f"at most {LARGEST} bytes", path.stat().st_size, error=CheckError)
    data = path.read_bytes()
    if path.suffix == ".ipynb":
        return _notebook(path, data)
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        text = data.decode(encoding).replace("\r\n", "\n")
    except (SyntaxError, UnicodeDecodeError) as problem:
        refuse(str(path), "Python text", str(problem), error=CheckError)
    return SourceText(path, as_python_3(text), old=has_print_statements(text))


def _notebook(path: Path, data: bytes) -> SourceText:
    try:
        cells = json.loads(data)["cells"]
        sources = [
            (n, cell["source"]) for n, cell in enumerate(cells) if cell["cell_type"] == "code"
        ]
    except (ValueError, KeyError, TypeError) as problem:
        refuse(str(path), "a notebook", str(problem), error=CheckError)
    lines, places = [], []
    for number, source in sources:
        text = source if isinstance(source, str) else "".join(source)
        magic = text.lstrip().startswith("%%")
        for inner, line in enumerate(text.split("\n"), start=1):
            lines.append(f"# {line}" if magic or _is_magic(line) else line)
            places.append((number, inner))
    whole = "\n".join(lines) + "\n"
    return SourceText(path, as_python_3(whole), tuple(places), old=has_print_statements(whole))


def _is_magic(line: str) -> bool:
    """Whether a line is for the notebook and not for Python, as `%matplotlib inline`, `!pip`."""
    return line.lstrip()[:1] in ("%", "!", "?")
