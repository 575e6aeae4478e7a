"""The pages say what the derivations say, and quote what the code says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import throughtime
from test_house import FLOORS
from throughtime.cli import COMMANDS
from throughtime.explain import DERIVATIONS

DOCS = Path(__file__).parent.parent / "docs"
PACKAGE = Path(throughtime.__file__).parent
PAGES = {
    "rnn": "cells/rnn.md",
    "lstm": "cells/lstm.md",
    "gru": "cells/gru.md",
    "bptt": "bptt.md",
    "tbptt": "bptt.md",
}


def page(name):
    text = (DOCS / PAGES[name]).read_text(encoding="utf-8")
    return " ".join(text.replace("\\|", "|").split())


def source(*names):
    return "\n".join((PACKAGE / name).read_text(encoding="utf-8") for name in names)


@pytest.mark.parametrize("name", PAGES)
def test_every_equation_stands_on_its_page(name):
    text = page(name)
    for section in DERIVATIONS[name].sections:
        for line in section.lines:
            for equation in line.equation.split("   "):
                assert equation.strip(" ,") in text


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_every_quoted_line_stands_in_the_source(name):
    code = source(f"cells/{name}.py", "cells/recurrence.py", "functions.py")
    rows = [r for r in (DOCS / PAGES[name]).read_text("utf-8").splitlines() if r.startswith("| `")]
    quotes = [q for row in rows for q in re.findall(r"`([^`]+)`", row.rsplit(" | ", 1)[1])]
    quotes = [q.replace("\\|", "|") for q in quotes if not q.endswith(".py")]
    assert len(quotes) >= len(rows) > 8
    for quote in quotes:
        assert quote in code


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_every_derived_line_is_quoted_on_its_page(name):
    text = page(name)
    for section in DERIVATIONS[name].sections:
        for line in section.lines:
            assert any(quote.split("  #")[0] in text for quote in line.code), line.equation


def test_the_pictures_are_those_that_the_script_draws(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    pictures = importlib.import_module("pictures")
    for name, graph in pictures.PICTURES.items():
        assert (DOCS / "pictures" / f"{name}.svg").read_text("utf-8") == graph().svg()


def test_every_public_name_has_a_page_of_the_reference(monkeypatch):
    pytest.importorskip("sphinx", reason="Sphinx is part of the tools for the docs")
    monkeypatch.syspath_prepend(str(DOCS))
    pages = importlib.import_module("api_pages").pages()
    directive = r"^\.\. auto(?:class|function|exception):: throughtime\.(\w+)$"
    named = {n for text in pages.values() for n in re.findall(directive, text, re.MULTILINE)}
    modules = {"layouts", "plots"}
    assert named == set(throughtime.__all__) - modules
    assert all(any(page.startswith(f"{name}.") for page in pages) for name in modules)
    assert len({page.lower() for page in pages}) == len(pages)  # some file systems ignore case


def test_every_command_is_in_the_reference_of_the_command_line(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    text = importlib.import_module("cli_pages").page()
    for name in COMMANDS:
        assert f"## throughtime {name}\n" in text
    assert "--effort {quick,normal,exhaustive}" in text
    assert max(map(len, text.splitlines())) < 120


@pytest.mark.parametrize("number", range(len(FLOORS)))
def test_the_guide_and_its_picture_show_every_room_on_its_floor(number):
    rooms = FLOORS[number] - {"__init__", "__main__"}
    names = {"native" if room == "_engine" else room for room in rooms}
    house = (DOCS / "figures" / "house.svg").read_text(encoding="utf-8")
    (drawn,) = re.findall(rf">{number}  ([\w, ]+)<", house)
    assert set(drawn.split(", ")) == names
    guide = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = guide.partition("| floor | room |")[2].partition("\n\n")[0]
    below, floor = table.partition(f"\n| {number + 1} |")[0], f"\n| {number} |"
    listed = re.findall(r"\| `(\w+)(?:\.py|/)` \|", floor + below.partition(floor)[2])
    assert set(listed) == names
