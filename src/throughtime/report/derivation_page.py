"""The page of a derived cell: both passes, and each line of the backward one beside a number."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping

from throughtime.cells import CellDerivation
from throughtime.equations import TEXT, LineCheck, Writer
from throughtime.report.pages import PageSection, Table, write_page

HOW = (
    "Three steps of one sequence, with numbers drawn at random. The value of each line is its "
    "largest entry; beside it stands a numerical derivative that knows no derivation: that entry "
    "is moved where it is computed, and the run goes on from there. The difference is that of all "
    "entries, relative to their size."
)
HEADINGS = ("line", "from", "value", "numerical", "difference", "verdict")


def derivation_page(
    derivation: CellDerivation,
    path: str | os.PathLike[str],
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes a cell's derivation as a page of its own; `about` says what it was made by.

    Raises:
        ImportError: without matplotlib and Jinja2, with the command that installs them.
    """
    write_page(path, f"The backward pass of {derivation.name}", [*_sections(derivation)], about)


def _sections(derivation: CellDerivation) -> Iterator[PageSection]:
    forward, _, backward = derivation.text.partition("\n\n")
    notes = [derivation.note] if derivation.note else []
    for part in (forward, backward):
        title, _, lines = part.strip("\n").partition("\n")
        yield PageSection(title, preformatted=lines, notes=notes)
        notes = []
    seen = {_verdict(check) for check in derivation.checks}
    status = next(word for word in ("disagree", "agree", "unresolved") if word in seen)
    yield PageSection("Each line beside its number", HOW, status, [_table(derivation)])
    yield PageSection("As NumPy functions, which run", preformatted=derivation.numpy)


def _table(derivation: CellDerivation) -> Table:
    writer = Writer(derivation.backward, TEXT)
    right = {written.node.number: written.right for written in writer.lines()}
    rows = []
    for check in derivation.checks:
        number = check.line.delta.number
        entry = f" [{', '.join(map(str, check.entry))}]" if check.entry else ""
        known = not math.isnan(check.numerical)
        rows.append(
            (
                writer.names[number] + entry,
                right[number],
                f"{check.value:.9f}",
                f"{check.numerical:.9f}" if known else "none, since a slope is set",
                f"{check.difference:.0e}" if known else "",
                _verdict(check),
            )
        )
    return Table(HEADINGS, rows, verdict=len(HEADINGS) - 1)


def _verdict(check: LineCheck) -> str:
    if math.isnan(check.numerical):
        return "unresolved"
    return "agree" if check.agrees else "disagree"
