"""Runs notebooks as Jupyter would: their cells in order, and what each of them shows.

    python tests/notebooks.py            # writes what the cells of examples/notebooks show now
    python tests/notebooks.py NAME.ipynb

Cells are plain Python. A cell shows what it prints, and its last value: as a picture, HTML or
LaTeX where the value has such a form, and as text.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
FORMS = {"image/png": "_repr_png_", "text/html": "_repr_html_", "text/latex": "_repr_latex_"}


def notebooks() -> list[Path]:
    """Those of the examples."""
    return sorted(FOLDER.glob("*.ipynb"))


def run(path: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yields each cell of code as it is stored, and what it shows now."""
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            count += 1
            yield cell, _outputs("".join(cell["source"]), names, f"{path.name}[{number}]", count)


def write(path: Path) -> None:
    """Stores what the cells show now."""
    book = json.loads(path.read_text(encoding="utf-8"))
    codes = iter([cell for cell in book["cells"] if cell["cell_type"] == "code"])
    for count, (_, outputs) in enumerate(run(path), start=1):
        next(codes).update(outputs=outputs, execution_count=count)
    text = json.dumps(book, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _outputs(source: str, names: dict[str, Any], where: str, count: int) -> list[dict[str, Any]]:
    tree, last, found = ast.parse(source, where), None, list[dict[str, Any]]()
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        last = ast.Expression(tree.body.pop().value)
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(tree, where, "exec"), names)
        if last is not None:
            value = eval(compile(last, where, "eval"), names)
    if printed.getvalue():
        found.append(
            {"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())}
        )
    if value is not None:
        shown = {"data": _forms(value), "execution_count": count, "metadata": {}}
        found.append({"output_type": "execute_result", **shown})
    return found


def _forms(value: object) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for form, method in FORMS.items():
        shown = getattr(value, method, lambda: None)()
        if isinstance(shown, bytes):
            found[form] = base64.b64encode(shown).decode("ascii") + "\n"
        elif shown is not None:
            found[form] = _lines(shown)
    return found | {"text/plain": _lines(repr(value))}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    for given in [Path(name) for name in sys.argv[1:]] or notebooks():
        write(given)
        print(f"{given.name}: {given.stat().st_size / 1000:.0f} kB")
