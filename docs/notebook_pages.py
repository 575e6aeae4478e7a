"""Writes the pages of the notebooks, docs/notebooks/, from examples/notebooks; `conf.py` calls it.

A page shows what is stored in the notebook, cells and what they showed; nothing is run here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generated import write_folder

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "examples" / "notebooks"
ORDER = ("is_my_gradient_right", "where_does_the_gradient_go", "a_cell_of_my_own")
INTRODUCTION = """# Notebooks

Each of them runs from top to bottom within seconds, and needs no data and no PyTorch. They are in
`examples/notebooks`, and the tests run them.
"""


def pages() -> dict[str, str | bytes]:
    """File names and texts; pictures as bytes."""
    index, found = [INTRODUCTION], dict[str, str | bytes]()
    for name in ORDER:
        book = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
        pictures: dict[str, str | bytes] = {}
        text = "\n".join(_cells(book, name, pictures))
        file = f"{{download}}`the notebook <../../examples/notebooks/{name}.ipynb>`"
        found |= {f"{name}.md": f"{text}\n\n---\n\nDownload {file}.\n", **pictures}
        title, _, summary = "".join(book["cells"][0]["source"]).partition("\n")
        title = title.removeprefix("# ")
        shown = f"[![{title}]({next(iter(pictures))})]({name}.md)"
        index.append(f"## [{title}]({name}.md)\n\n{summary.strip()}\n\n{shown}\n")
    contents = ["```{toctree}", ":hidden:", "", *ORDER, "```", ""]
    return found | {"index.md": "\n".join([*index, *contents])}


def write(folder: Path = HERE / "notebooks") -> None:
    """Writes the pages and the pictures that have changed."""
    write_folder(folder, pages())


def _cells(book: Any, name: str, pictures: dict[str, str | bytes]) -> Iterator[str]:
    for number, cell in enumerate(book["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield f"{source}\n"
            continue
        yield f"```python\n{source}\n```\n"
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", [])})
            if "image/png" in data:
                file = f"{name}-{number}.png"
                pictures[file] = base64.b64decode(data["image/png"])
                yield f"![What the cell above shows]({file})\n"
            elif "text/html" in data:
                html = "".join(data["text/html"])
                yield f'```{{raw}} html\n<div class="cell-output">{html}</div>\n```\n'
            elif "text/latex" in data:
                yield f"```{{math}}\n{''.join(data['text/latex']).rstrip()}\n```\n"
            else:
                yield f"```text\n{''.join(data['text/plain']).rstrip()}\n```\n"
