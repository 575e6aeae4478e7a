"""Which derivative a value of the backward pass is, if it is one."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.source.events import Event
from throughtime.source.lines.truths import Group, Truth, Truths, base_name, directions
from throughtime.source.tolerances import ERROR_BARS, FACTOR_SPREAD, TOO_BLURRED

RANK = {"variable": 0, "whole": 1, "suffix": 2, "term": 3, "use": 4}


SEVERAL = Group("use", "several values", [])  # of a loop over gates, or parameters


@dataclass(frozen=True)
class DerivativeMatch:
    """A value is a factor times a derivative.

    Attributes:
        group, index: the derivative's.
        factor: 1 where it is the derivative itself.
        axes: the order of the value's axes in which it is that.
    """

    group: Group
    index: int
    factor: float
    axes: tuple[int, ...]


@dataclass(frozen=True)
class DerivativeReading:
    """What the values at one place of the backward pass are.

    Attributes:
        group: the derivatives that they are.
        indices: for each value the number of its derivative; None for a value of zeros.
        factor: by which all differ from theirs.
        axes: the order of axes.
        wrong: the numbers of the values that are not what the others make one expect.
    """

    group: Group
    indices: tuple[int | None, ...]
    factor: float
    axes: tuple[int, ...]
    wrong: tuple[int, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether each value is its derivative."""
        return self.factor == 1.0 and not self.wrong

    @property
    def shift(self) -> int | None:
        """How many steps before the loop's own step the derivatives are; None: they differ."""
        last = len(self.indices) - 1
        steps = [
            (self.group.truths[index].step, last - n)
            for n, index in enumerate(self.indices)
            if index is not None
        ]
        found = {own - step for step, own in steps if step is not None}
        if len(found) == 1 and len(self.indices) > 1:
            return found.pop()
        return None


@dataclass
class _OfSize:
    """All derivatives with so many entries."""

    truths: list[Truth] = field(default_factory=list)
    groups: list[list[tuple[Group, int]]] = field(default_factory=list)
    along: Array = field(default_factory=lambda: np.zeros((0, 0)))
    allowed: Array = field(default_factory=lambda: np.zeros((0, 0)))
    square: Array = field(default_factory=lambda: np.zeros(0))


class Meanings:
    """Looks values up among all derivatives of a program.

    Args:
        truths: the derivatives.
        close: the part of a derivative's size by which a value may be off.
    """

    def __init__(self, truths: Truths, close: float) -> None:
        self.truths, self.close = truths, close
        self._allowed: dict[int, tuple[Truth, Array, bool]] = {}  # by the id of what it keeps
        self._sizes: dict[int, _OfSize] = defaultdict(_OfSize)
        numbers: dict[int, tuple[_OfSize, int]] = {}
        for group in truths.groups:
            for index, truth in enumerate(group.truths):
                if id(truth) not in numbers:
                    table = self._sizes[truth.size]
                    numbers[id(truth)] = (table, len(table.truths))
                    table.truths.append(truth)
                    table.groups.append([])
                table, number = numbers[id(truth)]
                table.groups[number].append((group, index))
        for table in self._sizes.values():
            table.along = np.array([truth.along for truth in table.truths])
            table.allowed = np.array([self.allowed(truth)[0] for truth in table.truths])
            blurred = np.array([self.allowed(truth)[1] for truth in table.truths])
            table.allowed[blurred] = -1.0
            table.square = np.sum(table.along**2, axis=1)

    def allowed(self, truth: Truth) -> tuple[Array, bool]:
        """(K,): how far a value may be from a derivative, and whether that says nothing."""
        if id(truth) not in self._allowed:
            self._allowed[id(truth)] = (truth, *self._how_far(truth))
        return self._allowed[id(truth)][1:]

    def _how_far(self, truth: Truth) -> tuple[Array, bool]:
        size = float(np.sqrt(np.mean(truth.along**2)))
        bars = ERROR_BARS * truth.error
        # A derivative of 0 is known by its error bar alone, and says nothing of another value.
        blurred = bool(size > 0 and bars.max() > TOO_BLURRED * size)
        return bars + self.close * size, blurred or truth.is_zero

    def is_truth(self, value: Array, truth: Truth, axes: tuple[int, ...] | None = None) -> bool:
        """Whether a value is this derivative."""
        moved = value if axes is None else np.transpose(value, axes)
        if moved.size != truth.size or not np.isfinite(moved).all():
            return False
        off = np.abs(directions(truth.size) @ moved.reshape(-1) - truth.along)
        return bool((off <= self.allowed(truth)[0]).all())

    def factor(self, value: Array, truth: Truth) -> float | None:
        """The number by which a value is a derivative; None where it is none."""
        if value.size != truth.size or not np.isfinite(value).all():
            return None
        if self.is_truth(value, truth):
            return 1.0
        if truth.is_zero or truth.size < 2 or not value.any():
            return None
        along = directions(truth.size) @ value.reshape(-1)
        factor = float(along @ truth.along / (truth.along @ truth.along))
        off = np.abs(along - factor * truth.along)
        return factor if (off <= abs(factor) * self.allowed(truth)[0]).all() and factor else None

    def matches(self, value: Array) -> list[DerivativeMatch]:
        """All derivatives that a value is, up to a factor and the order of its axes."""
        table = self._sizes.get(value.size)
        if table is None or not len(table.truths) or not np.isfinite(value).all():
            return []
        found = []
        for axes in orders(value.shape):
            along = directions(value.size) @ np.transpose(value, axes).reshape(-1)
            exact = (np.abs(along - table.along) <= table.allowed).all(axis=1)
            with np.errstate(all="ignore"):
                factors = table.along @ along / table.square
            off = np.abs(along - factors[:, None] * table.along)
            scaled = (off <= np.abs(factors)[:, None] * table.allowed).all(axis=1)
            scaled &= (np.abs(factors) > 0) & (value.size > 1)
            for number in np.flatnonzero(exact | scaled):
                factor = 1.0 if exact[number] else float(factors[number])
                found += [
                    DerivativeMatch(group, index, factor, axes)
                    for group, index in table.groups[number]
                ]
        return found

    def is_forward(self, value: Array) -> bool:
        """Whether a value is one of the forward pass."""
        return any(
            np.array_equal(value.reshape(-1), other.reshape(-1))
            for other in self.truths.values.get(value.size, ())
        )

    def is_data(self, value: Array) -> bool:
        """Whether a value is data of the forward pass."""
        return any(
            np.array_equal(value.reshape(-1), other.reshape(-1))
            for other in self.truths.data.get(value.size, ())
        )

    def readings(self, events: Sequence[Event]) -> list[DerivativeReading]:
        """What the values at one place are, all of them; the best explanation first."""
        found = [reading for reading in self._explanations(events) if not reading.wrong]
        if not found and len(events) > 1 and self._each_is_one(events):
            return [DerivativeReading(SEVERAL, (None,) * len(events), 1.0, ())]
        return sorted(found, key=lambda reading: self._rank(reading, events[0]))

    def _each_is_one(self, events: Sequence[Event]) -> bool:
        """Whether each value is a derivative, of whatever: a loop over gates, or parameters."""
        return all(
            not event.value.any()
            or any(m.factor == 1.0 and not m.group.data for m in self.matches(event.value))
            for event in events
        ) and any(event.value.any() for event in events)

    def _explanations(self, events: Sequence[Event]) -> list[DerivativeReading]:
        seen = [self.matches(event.value) if event.value.any() else None for event in events]
        known = [matches for matches in seen if matches is not None]
        if not known:
            return []
        choices: dict[tuple[int, tuple[int, ...]], list[DerivativeMatch]] = {}
        for match in known[0]:
            choices.setdefault((id(match.group), match.axes), []).append(match)
        found = []
        for (group_id, axes), first in choices.items():
            per_event: list[list[DerivativeMatch] | None] = []
            for matches in seen:
                own = matches and [m for m in matches if id(m.group) == group_id and m.axes == axes]
                per_event.append(own if matches is not None else None)
            if any(own == [] for own in per_event):
                continue
            reading = _one_by_one(first[0].group, per_event, axes)
            if reading is not None:
                found.append(reading)
        return found

    def _rank(self, reading: DerivativeReading, event: Event) -> tuple[float, ...]:
        return (
            reading.factor != 1.0,
            reading.group.data,
            -affinity(event.site.target or event.site.text, reading.group.name),
            _rank_of(reading.group, event),
            reading.group.depth,  # what a function makes of its arguments has no name outside
            reading.axes != tuple(range(len(reading.axes))),
            reading.shift is None,
            abs(reading.shift or 0),
            -len(reading.group.name) if not reading.group.name.isidentifier() else 0,
        )


def _rank_of(group: Group, event: Event) -> int:
    """What is assigned is rather the derivative by a value than a parameter's by one step."""
    if group.kind == "term" and event.site.kind == "store":
        return RANK["use"] + 1
    return RANK[group.kind]


def _one_by_one(
    group: Group, per_event: Sequence[list[DerivativeMatch] | None], axes: tuple[int, ...]
) -> DerivativeReading | None:
    """Gives each value a derivative of its own, all with one factor."""
    taken: set[int] = set()
    indices: list[int | None] = []
    factors = []
    for own in per_event:
        if own is None:
            indices.append(None)
            continue
        free = [match for match in own if match.index not in taken]
        if not free:
            return None
        match = max(free, key=lambda match: (match.factor == 1.0, match.index))
        taken.add(match.index)
        indices.append(match.index)
        factors.append(match.factor)
    factor = factors[0]
    if any(abs(other - factor) > FACTOR_SPREAD * abs(factor) for other in factors):
        return None
    return DerivativeReading(group, tuple(indices), factor, axes, _missing(group, indices))


def _missing(group: Group, indices: Sequence[int | None]) -> tuple[int, ...]:
    """The values of zeros whose derivative, as the others make one expect, is not 0."""
    known = [(n, index) for n, index in enumerate(indices) if index is not None]
    if len(known) < 2:
        return ()
    pace = (known[-1][1] - known[0][1]) / (known[-1][0] - known[0][0])
    found = []
    for n, index in enumerate(indices):
        expected = known[0][1] + pace * (n - known[0][0])
        if index is not None or not expected.is_integer():
            continue
        if 0 <= expected < len(group.truths) and not group.truths[int(expected)].is_zero:
            found.append(n)
    return tuple(found)


def orders(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The orders of axes that lay an array out differently."""
    if len(shape) > 4:
        return [tuple(range(len(shape)))]
    seen, found = set(), []
    for axes in itertools.permutations(range(len(shape))):
        layout = tuple(axis for axis in axes if shape[axis] > 1)
        if layout not in seen:
            seen.add(layout)
            found.append(axes)
    return found


AROUND = ("delta", "grad", "error", "err", "next", "prev", "temp", "tmp", "total", "d")


def plain_name(text: str) -> str:
    """A name without what says that it is a gradient: `self.dh_next` gives `h`."""
    name = re.sub(r"[^a-z]", "", base_name(text).lower())
    for part in AROUND:
        if name != part:
            name = name.removeprefix(part)
        if name != part:
            name = name.removesuffix(part)
    return name


def affinity(gradient: str, forward: str) -> int:
    """How alike the names of a gradient and of a forward value are: 0, 1 or 2."""
    one, other = plain_name(gradient), re.sub(r"[^a-z]", "", base_name(forward).lower())
    other = other.removesuffix("prev").removesuffix("next") or other
    if not one or not other:
        return 0
    if one == other or one == other.removesuffix("s"):
        return 2
    return int(one in other or other in one)
