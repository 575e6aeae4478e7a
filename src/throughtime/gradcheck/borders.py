"""The borders of what is wrong: on one side everything measured is, on the other nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from throughtime.gradcheck.areas import Area
from throughtime.gradcheck.probe import Probe, is_off
from throughtime.gradcheck.tolerances import (
    AREA_SAMPLES,
    REJECTION_BARS,
    RESOLVED_ERROR,
    SAMPLE_ERROR,
    STRIP_BARS,
    STRIP_CLEAR_BARS,
)


@dataclass(frozen=True)
class Wrong:
    """An area that is wrong.

    Attributes:
        area: it.
        looked: how many of its entries were looked at by themselves.
        wrong: how many of these are wrong.
        beside: strips along its borders that were measured, and agree.
        unclear: strips there that may agree or not: error bars are too wide to tell.
    """

    area: Area
    looked: int
    wrong: int
    beside: tuple[Area, ...] = ()
    unclear: tuple[Area, ...] = ()


def bordered(probe: Probe, area: Area) -> Wrong | None:
    """What is wrong of an area whose parts are, or of more than that.

    Some of its entries are looked at, all over it. Then its borders are looked for, by rows and by
    columns: just inside, what was measured is wrong; just outside, it agrees along two directions.

    Returns:
        None where none of these entries is wrong, or one alone: what is must be strewn about.

    Raises:
        Spent: where the budget does not reach so far.
    """
    beside: list[tuple[Area, bool]] = []
    for axis in (0, 1):
        samples = _samples(area)
        probe.look(samples, SAMPLE_ERROR)
        wrong = [place for place in probe.wrong_in(area) if place in samples]
        if not wrong:
            return None
        if area.span(axis) == probe.whole.span(axis) and len(wrong) == len(samples):
            continue
        centre = wrong[len(wrong) // 2][axis]
        sides = [_Side(probe, area, axis, last) for last in (False, True)]
        (first, before), (stop, after) = (side.border(centre) for side in sides)
        area = area.with_span(axis, first, stop)
        beside = [(one.with_span(axis, first, stop), clear) for one, clear in beside]
        beside += [
            (area.with_span(axis, *span), side.clear)
            for side, span in zip(sides, (before, after), strict=True)
            if span is not None
        ]
    if area.size == 1:
        return None
    probe.look(_samples(area), SAMPLE_ERROR)
    looked, wrong = probe.looked_in(area), probe.wrong_in(area)
    agree = tuple(one for one, clear in beside if clear)
    unclear = tuple(one for one, clear in beside if not clear)
    return Wrong(area, len(looked), len(wrong), agree, unclear)


def _samples(area: Area) -> list[tuple[int, int]]:
    """Entries in the first row and the last, the first column and the last, and between."""
    (top, bottom), (left, right) = area.rows, area.columns
    rows, columns = bottom - 1 - top, right - 1 - left
    places = [(top + round(rows * r / 5), left + round(columns * c / 5)) for r, c in AREA_SAMPLES]
    return list(dict.fromkeys(places))


class _Side:
    """One side of an area, and strips along it: 0 just inside, −1 just outside, and so on.

    Strips are one row or column wide, or as many as it takes to see the difference.
    """

    def __init__(self, probe: Probe, area: Area, axis: int, last: bool) -> None:
        self.probe, self.area, self.axis, self.last = probe, area, axis, last
        self.first, self.stop = area.span(axis)
        self.end = probe.whole.span(axis)[1]
        residual, error = abs(probe.accusing.residual), probe.accusing.error
        count = self.stop - self.first
        self.unit = int(np.clip(np.ceil(count * (STRIP_BARS * error / residual) ** 2), 1, count))
        self.goal = max(residual * float(np.sqrt(self.unit / count)) / STRIP_BARS, error)
        self.typical = residual / float(np.sqrt(area.size))  # by so much an entry is off
        self.clear = True
        room = self.end - self.stop if last else self.first
        self.least = -int(np.ceil(room / self.unit))

    def border(self, centre: int) -> tuple[int, tuple[int, int] | None]:
        """Where what is wrong about a row or column ends on this side.

        And the rows or columns beyond that are right; None where the tensor ends.
        """
        places = {self._strip(place[self.axis]) for place in self.probe.looked_in(self.area)}
        inside, outside = self._strip(centre), None
        for strip in sorted((p for p in places if p < inside), reverse=True):
            if not self._off(strip):
                outside = strip
                break
            inside = strip
        inside, outside = _edge(self._off, inside, outside, self.least)
        first, stop = self._span(inside)
        return (stop if self.last else first), None if outside is None else self._span(outside)

    def _strip(self, place: int) -> int:
        """The strip that holds a row or column."""
        return (self.stop - 1 - place if self.last else place - self.first) // self.unit

    def _span(self, strip: int) -> tuple[int, int]:
        near = self.first + strip * self.unit
        if self.last:
            near = self.stop - (strip + 1) * self.unit
        return max(near, 0), min(near + self.unit, self.end)

    def _off(self, strip: int, another: bool = False) -> bool:
        here = self.area.with_span(self.axis, *self._span(strip))
        if self.probe.wrong_in(here):
            return True
        found = self.probe.strip(here, self.goal, another=another)
        # Whatever is looked at last lies just outside.
        expected = self.typical * float(np.sqrt(here.size))
        own = self.probe.site.size_of(found.line)
        resolved = not own or REJECTION_BARS * found.error < RESOLVED_ERROR * own
        self.clear = resolved and STRIP_CLEAR_BARS * found.error < expected
        return is_off(found.residual, found.error)


def _edge(
    off: Callable[[int, bool], bool], inside: int, outside: int | None, least: int
) -> tuple[int, int | None]:
    """The outermost strip of a run that is off, and the one beyond it, which is not.

    Args:
        off: whether a strip is, along a direction or along another one.
        inside: one that is.
        outside: one further out that is not; None where none is known.
        least: the outermost that there is; beyond it the tensor ends.

    Example:
        >>> _edge(lambda strip, another: strip >= -3, 2, None, -8)
        (-3, -4)
        >>> _edge(lambda strip, another: True, 2, None, -8)
        (-8, None)
        >>> _edge(lambda strip, another: strip >= 2, 4, 0, -8)
        (2, 1)
    """
    while True:
        reach = 1
        while outside is None:
            if inside == least:
                return inside, None
            further = max(inside - reach, least)
            if off(further, False):
                inside, reach = further, 2 * reach
            else:
                outside = further
        while inside - outside > 1:
            middle = (inside + outside) // 2
            if off(middle, False):
                inside = middle
            else:
                outside = middle
        if not off(outside, True):
            return inside, outside
        inside, outside = outside, None
