"""What the values at a place of a backward pass could be meant to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from throughtime.arrays import Array
from throughtime.source.events import Event, Place
from throughtime.source.lines.matching import RANK, DerivativeReading, affinity, orders
from throughtime.source.lines.runs import Outcome, Runs
from throughtime.source.lines.truths import PLACE, Group, Truth
from throughtime.source.tolerances import FACTOR_SPREAD


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """What the values at one place should be.

    Attributes:
        place: of the backward pass.
        group: the derivatives that they should be.
        pairs: the number of a value among those of its place, and its derivative.
        axes: the order of a value's axes in which it should be that.
        first: the sequence number of the first value that is not what it should be.
        unchanged: for a statement that changed what was right: what it was, by number.
        partial: whether the values are derivatives, as terms of what they should be.
        factor: by which they should be multiples of the derivatives, as others here are: where
            what is added up is divided at the end.
    """

    place: Place
    group: Group
    pairs: tuple[tuple[int, Truth], ...]
    axes: tuple[int, ...]
    first: int
    unchanged: Mapping[int, Array] = field(default_factory=dict)
    partial: bool = False
    factor: float = 1.0


class Hypotheses(Runs):
    """What the values at the places of one program could be meant to be."""

    @cached_property
    def scale(self) -> float | None:
        """The factor that most of the backward pass has, as that of a mean taken at its end."""
        factors = []
        for place in self.carried:
            readings = self.meanings.readings(self.start.events[place])
            if readings and readings[0].factor != 1.0 and not readings[0].group.data:
                factors.append(readings[0].factor)
        for factor in factors:
            same = [other for other in factors if abs(other / factor - 1) < FACTOR_SPREAD]
            if factor > 0 and len(same) >= max(3, len(factors) / 2):
                return factor
        return None

    def hypotheses(
        self, place: Place, events: Sequence[Event], outcome: Outcome, whatever: bool = False
    ) -> Iterator[Hypothesis]:
        """What the values at a place could be meant to be, where they are not that.

        Args:
            whatever: also where they are a derivative: it may be another than is meant.
        """
        site = self.code.probes.sites[place[0]]
        if place not in self.carried or site.kind == "value":
            # A variable that stays 0, as the error from the next step where none is passed on.
            zero = len(events) > 1 and not any(event.value.any() for event in events)
            loaded = site.kind == "value" and PLACE.fullmatch(site.text)
            if not (zero and (loaded or site.kind == "store")):
                return
        if len(events) == 1 and not events[0].value.any():
            return
        if events[0].value.ndim == 0 and not self.truths.scalars:
            return
        readings = self.meanings.readings(events)
        exact = [reading for reading in readings if reading.exact and not reading.group.data]
        if site.kind in ("changed", "whole", "store"):
            yield from self._left_alone(place, events, outcome)
        if site.operator in ("Add", "Sub") and site.kind == "changed":
            return  # a sum is as right as what is added to it
        start = next((event for event in events if event.value.any()), None)
        likely = [] if start is None else self.meanings.matches(start.value)
        begins = {
            id(match.group) for match in likely if match.factor == 1.0 and not match.group.data
        }
        # A multiple of one derivative lacks the factor, and is not meant to be another one.
        scaled = {
            id(reading.group)
            for reading in readings
            if not exact and not reading.group.data and reading.group.kind != "whole"
        }
        tried: set[object] = set()
        for group in sorted(self.truths.groups, key=lambda group: RANK[group.kind]):
            if scaled and not whatever and id(group) not in scaled:
                continue
            likely_name = exact and affinity(site.target, group.name) == 2
            free = whatever or likely_name
            if exact and not free and group.kind not in ("variable", "suffix", "whole"):
                continue
            if begins and not exact and not whatever and id(group) not in begins:
                continue  # right at first: what it is meant to be is known
            # One that begins as the derivative it is meant to be is no term, nor another one.
            partial = bool(exact or (begins and id(group) not in begins))
            for hypothesis in self._as_group(place, events, group, partial):
                if (
                    exact
                    and not free
                    and not any(_widens(hypothesis, reading) for reading in exact)
                ):
                    continue
                if (key := same_numbers(hypothesis)) not in tried:
                    tried.add(key)
                    yield hypothesis
            if self.scale and not readings and group.kind != "whole":
                yield from self._as_group(place, events, group, False, self.scale)

    def _as_group(
        self,
        place: Place,
        events: Sequence[Event],
        group: Group,
        partial: bool,
        factor: float = 1.0,
    ) -> Iterator[Hypothesis]:
        """The values as those of a group, last step first, at shifts by one step."""
        count, size = len(group.truths), len(events)
        if group.kind == "whole":
            choices = [[(0, truth)] for truth in group.truths if truth.size == events[0].value.size]
            if size > 1:
                choices = []
        elif size == 1:
            choices = [[(0, group.truths[-1])]]
            if count > 1:
                choices.append([(0, group.truths[0])])
        else:
            choices = []
            shifts: tuple[int, ...] = (0,) if group.kind == "suffix" else (0, 1, -1)
            if group.kind == "suffix" and not any(event.value.any() for event in events):
                shifts = (-1,)  # a sum that each step begins anew should be that of later ones
            for shift in shifts:
                numbers = [(n, count - 1 - n - shift) for n in range(size)]
                chosen = [(n, group.truths[m]) for n, m in numbers if 0 <= m < count]
                if len(chosen) >= max(1, size - 1):
                    choices.append(chosen)
        for pairs in choices:
            for axes in self._axes(events, pairs):
                off = [
                    events[n].sequence
                    for n, truth in pairs
                    if not self.meanings.is_truth(events[n].value / factor, truth, axes)
                ]
                if off:
                    yield Hypothesis(
                        place,
                        group,
                        tuple(pairs),
                        axes,
                        min(off),
                        partial=partial,
                        factor=factor,
                    )

    def _axes(
        self, events: Sequence[Event], pairs: Sequence[tuple[int, Truth]]
    ) -> list[tuple[int, ...]]:
        """The orders of axes in which values have the shape of their derivatives."""
        shape = events[0].value.shape
        wanted = [size for size in pairs[0][1].shape if size > 1]
        if any(
            events[n].value.size != truth.size or events[n].value.shape != shape
            for n, truth in pairs
        ):
            return []
        found = [
            axes
            for axes in orders(shape)
            if [shape[axis] for axis in axes if shape[axis] > 1] == wanted
        ]
        return found[:1]

    def _left_alone(
        self, place: Place, events: Sequence[Event], outcome: Outcome
    ) -> Iterator[Hypothesis]:
        """For values that were right until a statement changed them: what they were."""
        pairs, unchanged, off, group = [], {}, [], None
        for number, event in enumerate(events):
            before = before_of(event, outcome)
            if before is None:
                return
            match = next(
                (m for m in self.meanings.matches(before) if m.group.kind in ("whole", "suffix")),
                None,
            )
            if match is None:
                return
            truth = match.group.truths[match.index]
            pairs.append((number, truth))
            unchanged[number] = before / match.factor
            group = match.group
            if not self.meanings.is_truth(event.value, truth, match.axes):
                off.append(event.sequence)
        if group is not None and off:
            axes = tuple(range(events[0].value.ndim))
            yield Hypothesis(place, group, tuple(pairs), axes, min(off), unchanged)


def _widens(hypothesis: Hypothesis, reading: DerivativeReading) -> bool:
    """Whether it takes values that are right as one term for the whole sum.

    That is so for a variable that has the value of the one whose term it is, and for a parameter.
    """
    if reading.group.name == hypothesis.group.name and reading.group.kind in ("term", "suffix"):
        return hypothesis.group.kind in ("suffix", "whole")
    if hypothesis.group.kind == "whole":
        return reading.group.name == hypothesis.pairs[0][1].name
    seen = 0
    for number, truth in hypothesis.pairs:
        index = reading.indices[number]
        if index is None:
            continue
        one, other = reading.group.truths[index].value, truth.value
        if one is None or other is None:
            return False
        if one.size != other.size or not np.array_equal(one.reshape(-1), other.reshape(-1)):
            return False
        seen += 1
    return seen > 0


def same_numbers(hypothesis: Hypothesis) -> object:
    """The same for hypotheses that put in the same numbers."""
    digits = [
        (n, () if truth.is_zero else tuple(float(f"{value:.4g}") for value in truth.along))
        for n, truth in hypothesis.pairs
    ]
    return (hypothesis.axes, hypothesis.factor, tuple(digits))


def before_of(event: Event, outcome: Outcome) -> Array | None:
    """The value that the array of an event had at the last event before."""
    if not isinstance(event.owner, np.ndarray):
        return None
    earlier = [
        other
        for events in outcome.events.values()
        for other in events
        if other.sequence < event.sequence and other.owner is event.owner
    ]
    last = max(earlier, key=lambda other: other.sequence, default=None)
    return None if last is None else last.value
