"""What a check found: numbers, verdicts, a table, JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck.cause import Cause
from throughtime.gradcheck.points import AS_GIVEN
from throughtime.gradcheck.text import circumstances, headline, text
from throughtime.gradcheck.text import plain as _plain
from throughtime.storage import replace

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
        words: it in words, with the gate that it is where that is known.
        looked: how many of its entries were looked at by themselves.
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
        label: what moved: "all", "rows 0–4", …
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
    """One tensor.

    Attributes:
        verdict: "agree", "disagree" or "unresolved".
        discrepancy: d = ‖g − n‖ / (‖g‖ + ‖n‖) over the entries looked at, or estimated from
            random directions where they saw more of it.
        floor: the d that the error bars alone would give.
        smallest_error: the smallest relative error of this tensor's gradient that would have
            been accused; infinite where none would have been.
        shape: of the tensor.
        step: of the difference that its numbers come from, in the parameter's units.
        order: of that difference: its truncation error grows as stepᵒʳᵈᵉʳ.
        indices: entries that were looked at one by one, counted in C order.
        gradient, numerical, errors: at these entries.
        worst: the entry that is furthest off, in units of its error bar; None where no entry
            was looked at by itself.
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
        """Whether there is any derivative of it; a budget may end before."""
        return bool(self.directions) or self.indices.size > 0 or not self.size


@dataclass(frozen=True)
class Point:
    """One point of the parameters, and one length, at which the gradient was checked.

    Attributes:
        name: "as given", "characteristic", "T = 1", …
        steps: T there, where the target says so.
        verdict, discrepancy, floor, tensors: as in the report, of this point alone.
    """

    name: str
    steps: int | None
    verdict: Verdict
    discrepancy: float
    floor: float
    tensors: dict[str, TensorReport] = field(repr=False)


@dataclass(frozen=True)
class Valley:
    """How one direction's error bar came about: noise falls with the step, truncation grows.

    Attributes:
        steps: how far the differences reach, in units of the direction.
        noise: what the loss's rounding may add to the best of those that reach so far.
        truncation: what the loss's higher derivatives may add to it.
        chosen: the step that was taken.
        order: of the difference that was taken: its truncation grows as stepᵒʳᵈᵉʳ.
    """

    steps: Array
    noise: Array
    truncation: Array
    chosen: float
    order: int = 2


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        verdict: "agree": no difference beyond the error bars, which are narrow enough in every
            tensor; "disagree": some tensor differs by more than its error bars; "unresolved":
            nothing differs, but the error bars are too wide to say more. Over all points.
        discrepancy: d = ‖g − n‖ / (‖g‖ + ‖n‖) at the point as given. Where the gradient is wrong
            at another point alone, `decisive` has the d that the headline gives.
        floor: the d that the error bars alone would give.
        smallest_error: the smallest relative error that this check would have seen, of the
            tensor in which it saw least.
        tensors: by name, at the point as given, with verdicts over all points.
        points: every point that was looked at.
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

    def __str__(self) -> str:
        return text(self)

    def as_text(self, width: int) -> str:
        """What `print` shows, in lines of at most so many characters, as for a narrow terminal."""
        return text(self, width)

    @property
    def decisive(self) -> Point:
        """The point that the headline speaks of: where the gradient is furthest off.

        The point as given, where it disagrees nowhere.
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
        """Writes the whole report, every entry looked at included."""
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
        return {"version": JSON_VERSION, "headline": _plain(said), **_plain(self)}


def worst_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on several things together."""
    for verdict in ("disagree", "unresolved"):
        if verdict in verdicts:
            return verdict
    return "agree"
