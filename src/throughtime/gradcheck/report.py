"""What a check found: numbers, verdicts, causes; as text, as a table and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from textwrap import wrap
from typing import Any, Literal

import numpy as np

from throughtime.arrays import Array, in_a_line, visible
from throughtime.gradcheck.points import AS_GIVEN, CHARACTERISTIC
from throughtime.gradcheck.source_lines import SourceLines, line_section, sentence_width
from throughtime.storage import replace


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong with a gradient, and why this is believed.

    Attributes:
        fault: its identifier, snake_case, one that the docs list.
        statement: what is wrong and where, one sentence.
        change: what to change, one sentence.
        where: tensors, gates or steps that it concerns, in words; "": all of them.
        confidence: 0 … 1. Above 0.9: it explains every measured entry down to its error bar, and
            nothing else that was tried does; at 0.5: it is one of two things that would.
        evidence: the evidence for it, with numbers, and what experiments showed.
        alternatives: identifiers of faults that cannot be told apart from it here.
        discrepancy_before, discrepancy_after: d as it is, and with this and all causes before it
            undone; None where its effect on the gradient is not known entry by entry.
        page: the name of its page: `throughtime explain fault NAME`.
    """

    fault: str
    statement: str
    change: str
    where: str = ""
    confidence: float = 0.0
    evidence: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    discrepancy_before: float | None = None
    discrepancy_after: float | None = None
    page: str = ""


Verdict = Literal["agree", "disagree", "unresolved"]

JSON_VERSION = 2


@dataclass(frozen=True)
class Worst:
    """One entry beside its numerical derivative.

    Attributes:
        index: where in the tensor.
        gradient: the gradient under test there.
        numerical: the numerical derivative there.
        error: its error bar.
    """

    index: tuple[int, ...]
    gradient: float
    numerical: float
    error: float


@dataclass(frozen=True)
class WrongArea:
    """Rows and columns of a tensor in which something is wrong.

    Attributes:
        rows, columns: the first and the last, counted from 0; of a tensor with more than two axes
            the columns are all axes but the first, laid flat.
        words: the area in words, with its gate where that is known.
        looked: how many of its entries were measured one by one.
        wrong: how many of these are wrong.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    words: str
    looked: int
    wrong: int


@dataclass(frozen=True)
class Direction:
    """One direction in which the loss was differentiated.

    Attributes:
        label: what was moved: "all", "rows 0–4", …
        gradient: the gradient under test along it, g·v.
        numerical: the numerical derivative along it.
        error: its error bar.
    """

    label: str
    gradient: float
    numerical: float
    error: float


@dataclass(frozen=True)
class TensorReport:
    """What a check found in one tensor.

    Attributes:
        verdict: "agree", "disagree" or "unresolved".
        discrepancy: d = ‖g − n‖ / (‖g‖ + ‖n‖) over the measured entries, or estimated from
            random directions where these cover more of it; at least what the wrong entries show.
        floor: the d that the error bars alone would give.
        smallest_error: the smallest relative error of this tensor's gradient that would have
            been called wrong; infinite where none would have been.
        shape: of the tensor.
        step: the step of the difference that its numbers come from, in the parameter's units.
        order: the order of that difference: its truncation error grows as stepᵒʳᵈᵉʳ.
        indices: entries that were measured one by one, counted in C order.
        gradient, numerical, errors: at these entries.
        worst: the entry that is furthest off, in units of its error bar; None where no entry
            was measured by itself.
        wrong: entries that were located as wrong, furthest off first.
        areas: rows and columns that were located as wrong.
        all_found: whether nothing beside these entries and areas was found wrong, in a search
            that came to its end.
        directions: the directions confined to this tensor.
        remedy: what would resolve it, where it is unresolved.
    """

    verdict: Verdict
    discrepancy: float
    floor: float
    shape: tuple[int, ...]
    step: float
    indices: Array = field(repr=False)
    gradient: Array = field(repr=False)
    numerical: Array = field(repr=False)
    errors: Array = field(repr=False)
    worst: Worst | None = None
    smallest_error: float = np.inf
    order: int = 2
    wrong: tuple[Worst, ...] = ()
    areas: tuple[WrongArea, ...] = ()
    all_found: bool = False
    directions: tuple[Direction, ...] = field(default=(), repr=False)
    remedy: str = ""

    @property
    def size(self) -> int:
        """How many entries the tensor has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def measured(self) -> bool:
        """Whether there is any derivative of it; a budget may end before, or all be rounding."""
        errors = [*(direction.error for direction in self.directions), *self.errors]
        return bool(np.isfinite(errors).any()) or not self.size


@dataclass(frozen=True)
class Point:
    """One point of the parameters, and one length, at which the gradient was checked.

    Attributes:
        name: "as given", "characteristic", "T = 1", …
        steps: T there, where the target says so.
        verdict, discrepancy, floor, tensors: as in the report, for this point alone.
    """

    name: str
    steps: int | None
    verdict: Verdict
    discrepancy: float
    floor: float
    tensors: dict[str, TensorReport] = field(repr=False)


@dataclass(frozen=True)
class Valley:
    """The error bar of one direction over the step: noise falls with it, truncation grows.

    Attributes:
        steps: how far the differences reach, in units of the direction.
        noise: what the rounding of the loss may add to the best difference that reaches so far.
        truncation: what the higher derivatives of the loss may add to it.
        chosen: the step that was chosen.
        order: the order of the chosen difference: its truncation grows as stepᵒʳᵈᵉʳ.
    """

    steps: Array
    noise: Array
    truncation: Array
    chosen: float
    order: int = 2


@dataclass(frozen=True, repr=False)
class Report:
    """What a check found.

    Attributes:
        verdict: "agree": no difference beyond the error bars, which are narrow enough in every
            tensor; "disagree": some tensor differs by more than its error bars; "unresolved":
            nothing differs, but the error bars are too wide to say more. Over all points.
        discrepancy: d = ‖g − n‖ / (‖g‖ + ‖n‖) at the point as given. Where the gradient is wrong
            at another point alone, `decisive` has the d that the headline gives.
        floor: the d that the error bars alone would give.
        smallest_error: the smallest relative error that this check would have found in every
            tensor, those left out whose gradient is next to nothing beside the others.
        tensors: by name, at the point as given, with verdicts over all points.
        points: every point that was examined.
        causes: what explains a disagreement, best first; empty: unknown.
        evaluations: how many losses were evaluated.
        seconds: how long the check took.
        noise: standard deviation of the loss's rounding error.
        loss: at the point as given.
        dtype: of the parameters.
        steps: T, where the target says so.
        effort: "quick", "normal" or "exhaustive".
        remedy: what would resolve what is unresolved.
        notes: what else is worth knowing, in plain sentences.
        valley: noise and truncation over the step, of one direction.
        lines: which line of a user's own file is wrong, where that was looked for.
    """

    verdict: Verdict
    discrepancy: float
    floor: float
    tensors: dict[str, TensorReport]
    evaluations: int
    noise: float
    loss: float
    dtype: str
    steps: int | None = None
    causes: tuple[Cause, ...] = ()
    smallest_error: float = np.inf
    points: tuple[Point, ...] = ()
    seconds: float = 0.0
    effort: str = "normal"
    remedy: str = ""
    notes: tuple[str, ...] = ()
    valley: Valley | None = None
    lines: SourceLines | None = None

    def __repr__(self) -> str:
        names = ", ".join(cause.fault for cause in self.causes)
        because = f", causes {names}" if names else ""
        many = f"{len(self.tensors)} tensor{'s' * (len(self.tensors) != 1)}"
        return (
            f"<{type(self).__name__}: {self.verdict}, d = {self.discrepancy:.3g}, {many}{because}>"
        )

    def __str__(self) -> str:
        return visible(text(self))

    def as_text(self, width: int) -> str:
        """What `print` shows, in lines of at most so many characters; `UNBROKEN` breaks none."""
        return visible(text(self, width))

    @property
    def decisive(self) -> Point:
        """The point that the headline is about: the one at which the gradient is furthest off.

        It is the point as given where the gradient disagrees nowhere.
        """
        given = Point(
            AS_GIVEN, self.steps, self.verdict, self.discrepancy, self.floor, self.tensors
        )
        wrong = [point for point in self.points if point.verdict == "disagree"]
        return max(wrong, key=lambda point: point.discrepancy, default=given)

    def headline(self) -> str:
        """The verdict, and how far apart the two are, in one line."""
        return headline(self)

    def circumstances(self) -> str:
        """What was done, in one line."""
        return circumstances(self)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the whole report, including every entry that was measured."""
        replace(path, (json.dumps(self.as_dict(), indent=1) + "\n").encode())

    def as_dict(self) -> dict[str, object]:
        """The report as plain data, with `"version"`; an infinite number is null."""
        point = self.decisive
        said = {
            "text": self.headline(),
            "point": point.name,
            "discrepancy": point.discrepancy,
            "floor": point.floor,
        }
        return {"version": JSON_VERSION, "headline": plain_data(said), **plain_data(self)}


def worst_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on several things together."""
    for verdict in ("disagree", "unresolved"):
        if verdict in verdicts:
            return verdict
    return "agree"


TEXT_WIDTH = 100  # of a line of text
WIDE = 140  # of a line of source with what is said of it, where no width is given
HEADINGS = ("tensor", "verdict", "d", "floor", "worst entry", "gradient", "numerical")
WORST_ENTRY_COLUMN = HEADINGS.index("worst entry")


def text(report: Report, width: int | None = None) -> str:
    """The whole report; a sentence is one line where no width is given."""
    notes = [*report.notes, *([f"To resolve it: {report.remedy}."] if report.remedy else [])]
    narrow = sentence_width(width or TEXT_WIDTH)
    which = list(line_section(report.lines, width or WIDE)) if report.lines else []
    leads = report.lines is not None and report.lines.leads
    lines = [
        *_wrapped(headline(report), width),
        *_wrapped(circumstances(report), width),
        *_tables(report, width),
        *([""] if notes else []),
        *(line for note in notes for line in _wrapped(note, width)),
        *(which if leads else []),
        *explanation(report.causes, narrow),
        *([] if leads else which),
    ]
    return "\n".join(lines)


def _tables(report: Report, width: int | None) -> Iterator[str]:
    for title, tensors in shown_tensors(report):
        yield ""
        if title:
            yield f"{title}:"
        yield from table(tensors, width)


def _wrapped(sentence: str, width: int | None) -> list[str]:
    if width is None:
        return [in_a_line(sentence)]
    return wrap(sentence, width, subsequent_indent="  ")


def headline(report: Report) -> str:
    """The verdict, and how far apart gradient and numerical derivative are, in one line.

    Where they disagree, it is the largest discrepancy, with its point if not the one as given.
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


def shown_tensors(report: Report) -> Iterator[tuple[str, Mapping[str, TensorReport]]]:
    """The tensors to show: those at the worst point first, if any, then those as given.

    Each comes with its point in words, "" where there is only one.
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
        f"{report.dtype}{steps}; {looked:,} of {total:,} entries one by one, {together}; "
        f"{report.evaluations:,} loss evaluations"
    )


def table_row(name: str, tensor: TensorReport) -> tuple[str, ...]:
    """One tensor's row of the table, under HEADINGS."""
    distance = (f"{tensor.discrepancy:.2e}", f"{tensor.floor:.0e}")
    row = (in_a_line(name), tensor.verdict, *(distance if tensor.measured else ("—", "—")))
    worst = tensor.worst
    if worst is None:
        return (*row, "", "", "")
    place = "[" + ", ".join(map(str, worst.index)) + "]"
    numerical = f"{worst.numerical:+.4e} ± {worst.error:.0e}"
    return (*row, place, f"{worst.gradient:+.4e}", numerical)


def table(tensors: Mapping[str, TensorReport], width: int | None = None) -> list[str]:
    """The tensors as lines of text: two each, where they do not fit the width."""
    rows = [HEADINGS, *(table_row(name, tensor) for name, tensor in tensors.items())]
    lines = _aligned(rows)
    if width is None or max(map(len, lines)) <= width:
        return lines
    upper = _aligned([row[:WORST_ENTRY_COLUMN] for row in rows])
    lower = _aligned([("", *row[WORST_ENTRY_COLUMN:]) for row in rows])
    if not any(lower[1:]):
        return upper
    return [line for pair in zip(upper, lower, strict=True) for line in pair if line]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def explanation(causes: Sequence[Cause], width: int = TEXT_WIDTH) -> Iterator[str]:
    """What is wrong, what to change, and the evidence, as lines of text."""
    for number, cause in enumerate(causes, start=1):
        of_many = f"{number}. " if len(causes) > 1 else ""
        name = f"[{cause.fault}, confidence {cause.confidence:.0%}]"
        yield ""
        yield from wrap(f"{of_many}{cause.statement}  {name}", width, subsequent_indent="   ")
        yield from wrap(cause.change, width, initial_indent="   ", subsequent_indent="   ")
        for sentence in [*cause.evidence, *explained_part(cause, number)]:
            yield from wrap(sentence, width, initial_indent="   - ", subsequent_indent="     ")
        yield f"   More: throughtime explain fault {cause.fault}"


def explained_part(cause: Cause, number: int) -> Iterator[str]:
    """How much a cause explains, given its rank, and what would look the same."""
    before, after = cause.discrepancy_before, cause.discrepancy_after
    if before is not None and after is not None:
        undone = "this" if number == 1 else "this and those above"
        yield f"d = {before:.2g} as it is; {after:.1g} with {undone} undone."
    if cause.alternatives:
        yield f"It cannot be distinguished here from: {', '.join(cause.alternatives)}."


def plain_data(value: Any) -> Any:
    """Dataclasses, arrays and mappings as what JSON knows; what is not finite as None."""
    if is_dataclass(value):
        return {f.name: plain_data(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain_data(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain_data(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain_data(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
