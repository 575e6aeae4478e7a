"""Writes the pages of faults, docs/faults/, from the faults themselves; `conf.py` calls it.

The text of the index is docs/faults.md, in which the line PLACEHOLDER stands for the tables.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from generated import write_folder

from throughtime.diagnosis import FAULTS, Section

HERE = Path(__file__).parent
PLACEHOLDER = "<!-- The tables of faults stand here, a row a fault. -->\n"


def pages() -> dict[str, str]:
    """File names and texts."""
    text = (HERE / "faults.md").read_text(encoding="utf-8")
    before, after = text.split(PLACEHOLDER)
    found = {fault.page: _with_links(fault.markdown) for fault in FAULTS.values()}
    contents = "\n".join(["```{toctree}", ":hidden:", "", *found, "```", ""])
    found["index"] = "\n".join([before + _tables(), after.lstrip("\n"), contents])
    return {f"{name}.md": text for name, text in found.items()} | {"corpus.txt": corpus()}


def write(folder: Path = HERE / "faults") -> None:
    """Writes the pages."""
    write_folder(folder, pages())


def corpus() -> str:
    """The table of faults that the separate implementations of tests/corpus can have."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    try:
        from corpus import CELLS
        from corpus import FAULTS as CONDITIONS
    finally:
        sys.path.pop(0)
    at_one = {True: "right", False: "wrong", None: "depends"}
    rows = ["| fault | | cells | T = 1 |", "|---|---|---|---|"]
    for name, conditions in CONDITIONS.items():
        cells = "all" if conditions.cells == CELLS else ", ".join(conditions.cells)
        shown = "—" if conditions.shows_in == "harness" else at_one[conditions.one_step]
        link = f"[{name}](faults/{FAULTS[name].page}.md)"
        rows.append(f"| {link} | {FAULTS[name].summary} | {cells} | {shown} |")
    return "\n".join(rows) + "\n"


def _tables() -> str:
    parts = []
    for section in Section:
        parts.append(f"## {section.title}\n")
        if section.text:
            parts.append(f"{section.text}\n")
        parts += ["| fault | |", "|---|---|"]
        for fault in FAULTS.values():
            if fault.section is section:
                parts.append(f"| [{fault.name}]({fault.page}.md) | {fault.summary} |")
        parts.append("")
    return "\n".join(parts)


def _with_links(text: str) -> str:
    """A page, with where its references to other faults lead."""
    named = sorted({name for name in re.findall(r"\[(\w+)\]", text) if name in FAULTS})
    return "\n".join([text, *(f"[{name}]: {FAULTS[name].page}.md" for name in named), ""])
