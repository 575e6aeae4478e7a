"""The notebooks run from top to bottom, and show what is stored in them; the docs show all."""

import importlib
import json
import re
from pathlib import Path

import pytest

from notebooks import notebooks, run, write

pytest.importorskip("matplotlib", reason="figures need matplotlib")
DOCS = Path(__file__).parents[1] / "docs"
NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]\d+)?")  # whole ones, too: how many losses it took
SIZE = 200_000  # bytes: they are stored with all that they show


def words(output):
    """What it shows as text, but for the digits of numbers, which rounding may change."""
    data = output.get("data", {"text/plain": output.get("text", [])})
    return {form: NUMBER.sub("#", "".join(t)) for form, t in data.items() if form != "image/png"}


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_shows_what_is_stored_in_it(path):
    assert path.stat().st_size < SIZE
    for cell, shown in run(path):
        source = "".join(cell["source"])
        assert list(map(words, shown)) == list(map(words, cell["outputs"])), source
        pictures = ["image/png" in one.get("data", {}) for one in shown]
        assert pictures == ["image/png" in one.get("data", {}) for one in cell["outputs"]], source


def test_there_are_three_and_each_has_a_page_with_all_that_it_shows(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    module = importlib.import_module("notebook_pages")
    pages = module.pages()
    assert sorted(module.ORDER) == [path.stem for path in notebooks()]
    assert len(module.ORDER) == 3
    for path in notebooks():
        book, page = json.loads(path.read_text(encoding="utf-8")), pages[f"{path.stem}.md"]
        assert all("".join(cell["source"]) in page for cell in book["cells"])
        shown = [one for cell in book["cells"] for one in cell.get("outputs", ())]
        pictures = [name for name in pages if name.startswith(f"{path.stem}-")]
        assert len(pictures) == sum("image/png" in one.get("data", {}) for one in shown) > 0
        assert all(f"]({name})" in page and pages[name][:4] == b"\x89PNG" for name in pictures)
        assert f"({path.stem}.md)" in pages["index.md"]


def test_what_cells_show_is_stored_as_jupyter_stores_it(tmp_path):
    path = tmp_path / "one.ipynb"
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {"cell_type": "code", "source": ["x = 2\n", "print(x)\n", "x + 1"], "outputs": []},
        {"cell_type": "code", "source": ["x;"], "outputs": []},
    ]
    path.write_text(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}))
    write(path)
    _, first, second = json.loads(path.read_text(encoding="utf-8"))["cells"]
    stream, value = first["outputs"]
    assert stream == {"name": "stdout", "output_type": "stream", "text": ["2\n"]}
    assert (value["output_type"], value["data"]) == ("execute_result", {"text/plain": ["3"]})
    assert (second["outputs"], second["execution_count"]) == ([], 2)
