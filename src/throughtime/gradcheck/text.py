"""A report as lines of text and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from throughtime.gradcheck.points import AS_GIVEN, CHARACTERISTIC

if TYPE_CHECKING:
    from throughtime.gradcheck.cause import Cause
    from throughtime.gradcheck.report import Point, Report, TensorReport

WIDTH = 100  # of a line of text
HEADINGS = ("tensor", "verdict", "d", "floor", "worst entry", "gradient", "numerical")
ENTRY = HEADINGS.index("worst entry")


def text(report: Report, width: int | None = None) -> str:
    """The whole report; a sentence is one line where no width is given."""
    notes = [*report.notes, *([f"To resolve it: {report.remedy}."] if report.remedy else [])]
    lines = [
        *_wrapped(headline(report), width),
        *_wrapped(circumstances(report), width),
        *_tables(report, width),
        *([""] if notes else []),
        *(line for note in notes for line in _wrapped(note, width)),
        *explanation(report.causes, min(width or WIDTH, WIDTH)),
    ]
    return "\n".join(lines)


def _tables(report: Report, width: int | None) -> Iterator[str]:
    for title, tensors in shown(report):
        yield ""
        if title:
            yield f"{title}:"
        yield from table(tensors, width)


def _wrapped(sentence: str, width: int | None) -> list[str]:
    return [sentence] if width is None else wrap(sentence, width, subsequent_indent="  ")


def headline(report: Report) -> str:
    """The verdict, and how far apart gradient and numerical derivative are, in one line.

    Where they disagree: how far they are at most, and at which point, if not at the one as given.
    """
    if not any(tensor.measured for tensor in report.tensors.values()):
        return f"{report.verdict.upper()}: no derivative was measured"
    point = report.decisive
    place = where(point)
    return (
        f"{report.verdict.upper()}: the gradient and the numerical one are d = "
        f"{point.discrepancy:.3g} apart{' ' * bool(place)}{place}; "
        f"rounding alone would give {point.floor:.2g}"
    )


def where(point: Point) -> str:
    """A point in words, "" for the one as given."""
    if point.name == AS_GIVEN:
        return ""
    return "at the characteristic point" if point.name == CHARACTERISTIC else f"at {point.name}"


def shown(report: Report) -> Iterator[tuple[str, Mapping[str, TensorReport]]]:
    """The tensors that a reader should see: at the point as given, at a worse one before.

    Each with its point in words, "" where there is one alone.
    """
    point = report.decisive
    if point.name == AS_GIVEN:
        yield "", report.tensors
        return
    yield where(point).replace("at", "At", 1), point.tensors
    given = [point.tensors for point in report.points if point.name == AS_GIVEN]
    yield "As given", given[0] if given else report.tensors


def circumstances(report: Report) -> str:
    """What was done, in one line."""
    tensors = report.tensors.values()
    looked, total = sum(t.indices.size for t in tensors), sum(t.size for t in tensors)
    reached = sum(bool(t.directions) or not t.size for t in tensors)
    together = "all of them together"
    if reached < len(tensors):
        together = f"{reached} of {len(tensors)} tensors as a whole"
    steps = f", T = {report.steps}" if report.steps else ""
    return (
        f"{report.dtype}{steps}; {looked:,} of {total:,} entries alone, {together}; "
        f"{report.evaluations:,} loss evaluations"
    )


def cells(name: str, tensor: TensorReport) -> tuple[str, ...]:
    """One tensor's row, under HEADINGS."""
    distance = (f"{tensor.discrepancy:.2e}", f"{tensor.floor:.0e}")
    row = (name, tensor.verdict, *(distance if tensor.measured else ("—", "—")))
    worst = tensor.worst
    if worst is None:
        return (*row, "", "", "")
    place = "[" + ", ".join(map(str, worst.index)) + "]"
    numerical = f"{worst.numerical:+.4e} ± {worst.error:.0e}"
    return (*row, place, f"{worst.gradient:+.4e}", numerical)


def table(tensors: Mapping[str, TensorReport], width: int | None = None) -> list[str]:
    """The tensors as lines of text: two each, where they do not fit the width."""
    rows = [HEADINGS, *(cells(name, tensor) for name, tensor in tensors.items())]
    lines = _aligned(rows)
    if width is None or max(map(len, lines)) <= width:
        return lines
    upper = _aligned([row[:ENTRY] for row in rows])
    lower = _aligned([("", *row[ENTRY:]) for row in rows])
    if not any(lower[1:]):
        return upper
    return [line for pair in zip(upper, lower, strict=True) for line in pair if line]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def explanation(causes: Sequence[Cause], width: int = WIDTH) -> Iterator[str]:
    """What is wrong, what to change, and what speaks for it, as lines of text."""
    for number, cause in enumerate(causes, start=1):
        of_many = f"{number}. " if len(causes) > 1 else ""
        name = f"[{cause.fault}, confidence {cause.confidence:.0%}]"
        yield ""
        yield from wrap(f"{of_many}{cause.statement}  {name}", width, subsequent_indent="   ")
        yield from wrap(cause.change, width, initial_indent="   ", subsequent_indent="   ")
        for sentence in [*cause.evidence, *limits(cause, number)]:
            yield from wrap(sentence, width, initial_indent="   - ", subsequent_indent="     ")
        yield f"   More: throughtime explain fault {cause.fault}"


def limits(cause: Cause, number: int) -> Iterator[str]:
    """How much a cause explains, being the so-manieth, and what would look the same."""
    before, after = cause.discrepancy_before, cause.discrepancy_after
    if before is not None and after is not None:
        undone = "this" if number == 1 else "this and those above"
        yield f"d = {before:.2g} as it is; {after:.1g} with {undone} undone."
    if cause.alternatives:
        yield f"Not to be told apart from it here: {', '.join(cause.alternatives)}."


def plain(value: Any) -> Any:
    """Dataclasses, arrays and mappings as what JSON knows; what is not finite as None."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
