"""A check as a section of a page, and as a page of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

from throughtime.gradcheck import HEADINGS, Report, explained_part, shown_tensors, table_row
from throughtime.report.check_figures import error_parts, plot_check, plot_valley
from throughtime.report.page import Figure, Section, Table, write_page

SHOWN = 50  # located entries; a report in JSON holds all of them


def check_page(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes a check as a page of its own."""
    write_page(path, "Gradient check", [*check_sections(report, "Is the gradient right?")])


def check_sections(report: Report, title: str, lead: str = "") -> Iterator[Section]:
    """A check: its verdict; then why, since that is what one looks for; then all that was seen."""
    said = [lead, f"{report.headline()}.", f"{report.circumstances()}."]
    notes = [*report.notes, *([f"To resolve it: {report.remedy}."] if report.remedy else [])]
    words = " ".join(part for part in said if part)
    yield Section(title, words, report.verdict, list(_of_tensors(report)), notes=notes)
    yield from _why(report)
    points, figures = list(_points(report)), list(_figures(report))
    if points or figures:
        yield Section("What was seen", tables=points, figures=figures)
    yield from _located(report)


def _why(report: Report) -> Iterator[Section]:
    """A section for each cause: what is wrong, what to change, what speaks for it."""
    for number, cause in enumerate(report.causes, start=1):
        name = f"{cause.fault}, confidence {cause.confidence:.0%}"
        more = f"More: throughtime explain fault {cause.fault}"
        notes = [*cause.evidence, *explained_part(cause, number), more]
        yield Section(f"Why: {name}", f"{cause.statement} {cause.change}", notes=notes)


def _of_tensors(report: Report) -> Iterator[Table]:
    for title, tensors in shown_tensors(report):
        rows = [table_row(name, tensor) for name, tensor in tensors.items()]
        place = title.replace("A", "a", 1) if title else "at the point as given"
        yield Table(HEADINGS, rows, HEADINGS.index("verdict"), f"Tensors, {place}")


def _points(report: Report) -> Iterator[Table]:
    """Where was looked; who disagrees there has a column where anyone does."""
    if len(report.points) < 2:
        return
    rows = [
        [
            point.name,
            "" if point.steps is None else str(point.steps),
            point.verdict,
            f"{point.discrepancy:.2e}",
            f"{point.floor:.0e}",
            ", ".join(name for name, t in point.tensors.items() if t.verdict == "disagree"),
        ]
        for point in report.points
    ]
    headings = ("point", "T", "verdict", "d", "floor", "tensors that disagree")
    shown = len(headings) if any(row[-1] for row in rows) else len(headings) - 1
    caption = "Points at which the gradient was checked"
    yield Table(headings[:shown], [row[:shown] for row in rows], 2, caption)


def _located(report: Report) -> Iterator[Section]:
    """The wrong entries, last: there may be many."""
    wrong = [(name, entry) for name, tensor in report.tensors.items() for entry in tensor.wrong]
    if not wrong:
        return
    rows = [
        (
            name,
            str(list(entry.index)),
            f"{entry.gradient:+.6e}",
            f"{entry.numerical:+.6e} ± {entry.error:.0e}",
        )
        for name, entry in wrong[:SHOWN]
    ]
    caption = f"The first {SHOWN} of {len(wrong)}" if len(wrong) > SHOWN else ""
    table = Table(("tensor", "entry", "gradient", "numerical"), rows, None, caption)
    yield Section("Entries located as wrong", tables=[table])


def _figures(report: Report) -> Iterator[Figure]:
    looked = sum(tensor.indices.size for tensor in report.tensors.values())
    along = sum(len(tensor.directions) for tensor in report.tensors.values())
    counts = {"entry": looked, "direction": along}
    what = [_count(number, unit) for unit, number in counts.items() if number]
    verdict = report.points[0].verdict if report.points else report.verdict
    if what:
        words = (
            f"Gradient under test against numerical derivative, {' and '.join(what)} at the point "
            f"as given: {verdict}, d = {report.discrepancy:.3g}, where error bars alone "
            f"would give {report.floor:.2g}. On the line the two agree."
        )
        yield Figure(plot_check(report), words)
    valley = report.valley
    if valley is not None:
        noise, truncation = error_parts(valley)
        words = (
            "What the error bar of one derivative is made of: the loss's noise, which small "
            "steps magnify, and truncation, which grows with the step. At the step chosen, "
            f"{valley.chosen:.2g}, they are {noise:.1g} and {truncation:.1g}."
        )
        yield Figure(plot_valley(report), words)


def _count(number: int, unit: str) -> str:
    plural = unit.removesuffix("y") + "ies" if unit.endswith("y") else unit + "s"
    return f"{number:,} {unit if number == 1 else plural}"
