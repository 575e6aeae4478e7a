"""Which entries are wrong? A search that divides, instead of one that measures all of them.

Along a direction v the gradient is off by r·v, and so it is along each part of v: the parts add
up to the whole, so that measuring all but one gives the last. One wrong entry among N is found
after log₂ N halvings. Mostly sooner: where one entry alone is off, a direction whose moves grow
with the place tells the place, by how much smaller the difference becomes.

Where all parts are wrong again and again, everything may be. Then the search looks for the borders
of what is wrong: on one side everything measured is wrong, on the other nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from throughtime.gradcheck.areas import Area, Gates, table_of
from throughtime.gradcheck.budget import Spent
from throughtime.gradcheck.evaluation_point import (
    EvaluationPoint,
    Measurement,
    nearest_step_exponents,
)
from throughtime.gradcheck.search_direction import SearchDirection, entry
from throughtime.gradcheck.tolerances import (
    ANOTHER_SEED,
    AREA_SAMPLES,
    DENSE_DIVISIONS,
    LONE_DIVISIONS,
    LONE_ENTRY_ERROR,
    MOST_STRETCHES,
    PART_ERROR,
    PLACE_ERROR,
    PROBE_NOISE_MARGIN,
    RAMP_BARS,
    REJECTION_BARS,
    RESOLVED_ERROR,
    SAMPLE_ERROR,
    STRIP_BARS,
    STRIP_CLEAR_BARS,
)
from throughtime.gradcheck.verdict import rejects, with_kink_bound
from throughtime.gradcheck.workers import Runner


class Probe:
    """Measures parts of the tensor that a line accuses.

    Args:
        point: where.
        rejecting: the line, over one stretch of one tensor. Its parts move as they do in it, so
            that by how much they are off adds up to by how much the line is.
        run: measures lines.
    """

    def __init__(self, point: EvaluationPoint, rejecting: Measurement, run: Runner) -> None:
        self.point, self.rejecting, self.run = point, rejecting, run
        self.block = rejecting.direction.blocks[0]
        self.name = self.block.name
        self.shape = point.parameters[self.name].shape
        self.columns = table_of(self.shape)[1]
        self.whole = Area.whole(self.shape)
        self.entries: dict[tuple[int, int], Measurement] = {}
        self.few = (
            rejecting.step_exponents[-1] - 4,
            rejecting.step_exponents[-1] - 2,
            rejecting.step_exponents[-1],
        )

    def residual_over(
        self, areas: Sequence[Area], goal: float, *, ramp: bool = False
    ) -> tuple[float, float]:
        """By how much the gradient is off along a direction over some areas, ± an error bar.

        Args:
            areas: the accusing direction is confined to them.
            goal: an error bar that is small enough.
            ramp: whether later entries move farther.

        Raises:
            Spent: where the budget does not reach so far.
        """
        found = self._measured(self._stretches(areas), goal, self.block.seed, ramp)
        return found.residual, found.error

    def strip(self, area: Area, goal: float, *, another: bool = False) -> Measurement:
        """A direction over an area, or over a sample of it.

        Args:
            area: where.
            goal: an error bar that is small enough.
            another: whether a direction is taken that has nothing to do with the accusing one.

        Raises:
            Spent: where the budget does not reach so far.
        """
        stretches = self._stretches([area])
        if len(stretches) > MOST_STRETCHES:
            chosen = np.linspace(0, len(stretches) - 1, MOST_STRETCHES).astype(int)
            stretches = [stretches[k] for k in chosen]
        seed = self.block.seed
        if another and seed is not None:
            seed += ANOTHER_SEED
        return self._measured(stretches, goal, seed, ramp=False)

    def measure_entries(self, places: Sequence[tuple[int, int]], sharp: float) -> None:
        """Measures single entries (row, column), each of them once.

        Args:
            places: which.
            sharp: an error bar that is small enough, relative to the tensor's typical gradient.

        Raises:
            Spent: where the budget does not reach so far.
        """
        new = [place for place in dict.fromkeys(places) if place not in self.entries]
        typical = float(np.sqrt(np.mean(np.square(self.point.gradient[self.name], dtype=float))))
        goal = sharp * typical
        found = self.run(self.point, [self._entry(r * self.columns + c, goal) for r, c in new])
        for place, measured in zip(new, found, strict=True):
            if measured is None:
                raise Spent
            self.entries[place] = with_kink_bound(measured)

    def entries_in(self, area: Area) -> list[tuple[int, int]]:
        """The entries of an area that were looked at by themselves."""
        return [place for place in self.entries if area.holds(*place)]

    def wrong_in(self, area: Area) -> list[tuple[int, int]]:
        """Those of them that are wrong."""
        return [place for place in self.entries_in(area) if rejects(self.entries[place])]

    def unexplained(self) -> bool:
        """Whether the entries that were looked at leave some of the accusing difference open."""
        residual, error = self.rejecting.residual, self.rejecting.error
        moves = self.block.moves(self.point.parameters[self.name].size)
        for (row, column), found in self.entries.items():
            move = float(moves[row * self.columns + column - self.block.start])
            residual, error = residual - move * found.residual, error + abs(move) * found.error
        return exceeds_error(residual, error)

    def _measured(
        self, stretches: Sequence[tuple[int, int]], goal: float, seed: int | None, ramp: bool
    ) -> Measurement:
        blocks = tuple(
            replace(self.block, start=first, stop=stop, seed=seed, ramp=ramp)
            for first, stop in stretches
        )
        unit = self.rejecting.direction.unit
        direction = SearchDirection(
            "",
            blocks,
            unit,
            nearest_step_exponents(self.point, goal, self.few, unit, PROBE_NOISE_MARGIN),
            goal,
        )
        (found,) = self.run(self.point, [direction])
        if found is None or not np.isfinite(found.error):
            raise Spent
        return found

    def _entry(self, place: int, goal: float) -> SearchDirection:
        index = [int(i) for i in np.unravel_index(place, self.shape)]
        unit = self.point.scales[self.name]
        step_exponents = nearest_step_exponents(
            self.point, goal, self.few, unit, PROBE_NOISE_MARGIN
        )
        return SearchDirection(str(index), entry(self.name, place), unit, step_exponents, goal)

    def _stretches(self, areas: Sequence[Area]) -> list[tuple[int, int]]:
        return [stretch for area in areas for stretch in area.stretches(self.shape)]


def exceeds_error(residual: float, error: float) -> bool:
    """Whether a difference is larger than its error bar explains."""
    return abs(residual) > REJECTION_BARS * error


@dataclass(frozen=True)
class LocatedArea:
    """An area that is wrong.

    Attributes:
        area: it.
        measured: how many of its entries were looked at by themselves.
        wrong: how many of these are wrong.
        agreeing: strips along its borders that were measured, and agree.
        unclear: strips there that may agree or not: error bars are too wide to tell.
    """

    area: Area
    measured: int
    wrong: int
    agreeing: tuple[Area, ...] = ()
    unclear: tuple[Area, ...] = ()


def find_borders(probe: Probe, area: Area) -> LocatedArea | None:
    """What is wrong of an area whose parts are, or of more than that.

    Some of its entries are looked at, all over it. Then its borders are looked for, by rows and by
    columns: just inside, what was measured is wrong; just outside, it agrees along two directions.

    Returns:
        None where none of these entries is wrong, or one alone: what is must be strewn about.

    Raises:
        Spent: where the budget does not reach so far.
    """
    agreeing: list[tuple[Area, bool]] = []
    for axis in (0, 1):
        samples = _samples(area)
        probe.measure_entries(samples, SAMPLE_ERROR)
        wrong = [place for place in probe.wrong_in(area) if place in samples]
        if not wrong:
            return None
        if area.span(axis) == probe.whole.span(axis) and len(wrong) == len(samples):
            continue
        centre = wrong[len(wrong) // 2][axis]
        sides = [_Side(probe, area, axis, last) for last in (False, True)]
        (first, before), (stop, after) = (side.border(centre) for side in sides)
        area = area.with_span(axis, first, stop)
        agreeing = [(one.with_span(axis, first, stop), clear) for one, clear in agreeing]
        agreeing += [
            (area.with_span(axis, *span), side.clear)
            for side, span in zip(sides, (before, after), strict=True)
            if span is not None
        ]
    if area.size == 1:
        return None
    probe.measure_entries(_samples(area), SAMPLE_ERROR)
    measured, wrong = probe.entries_in(area), probe.wrong_in(area)
    agree = tuple(one for one, clear in agreeing if clear)
    unclear = tuple(one for one, clear in agreeing if not clear)
    return LocatedArea(area, len(measured), len(wrong), agree, unclear)


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
        residual, error = abs(probe.rejecting.residual), probe.rejecting.error
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
        places = {self._strip(place[self.axis]) for place in self.probe.entries_in(self.area)}
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
        own = self.probe.point.size_of(found.direction)
        resolved = not own or REJECTION_BARS * found.error < RESOLVED_ERROR * own
        self.clear = resolved and STRIP_CLEAR_BARS * found.error < expected
        return exceeds_error(found.residual, found.error)


def _edge(
    off: Callable[[int, bool], bool], inside: int, outside: int | None, least: int
) -> tuple[int, int | None]:
    """The outermost strip of a run that is off, and the one beyond it, which is not.

    Args:
        residual_over: whether a strip is, along a direction or along another one.
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


@dataclass
class SearchResult:
    """What the search found.

    Attributes:
        entries: those that were looked at by themselves, by their place in C order.
        areas: what is wrong all over, or here and there.
        left: where something is wrong that was not searched further.
        ended: whether nothing was left to be searched, so that the rest of the tensor is right.
    """

    entries: dict[int, Measurement] = field(default_factory=dict)
    areas: list[LocatedArea] = field(default_factory=list)
    left: list[Area] = field(default_factory=list)
    ended: bool = False


@dataclass(frozen=True)
class _Part:
    """An area, by how much the gradient is off along a direction over it, ± an error bar.

    Attributes:
        axis: 0 where it is divided into rows first, 1 where into columns.
        full: divisions in a row, up to here, that found all parts wrong …
        origin: … and what they began with; None for the part itself.
        lone: divisions in a row that found one part wrong alone.
        strewn: whether single entries of it are wrong, and not all of them.
    """

    area: Area
    residual: float
    error: float
    axis: int = 0
    full: int = 0
    origin: _Part | None = None
    lone: int = 0
    strewn: bool = False

    @property
    def wrong(self) -> bool:
        return exceeds_error(self.residual, self.error)

    @property
    def dense(self) -> bool:
        """Whether all of what it is a part of may be wrong."""
        return not self.strewn and self.full >= (
            DENSE_DIVISIONS if self.area.size > 1 else DENSE_DIVISIONS - 1
        )


def locate(
    point: EvaluationPoint,
    rejecting: Measurement,
    run: Runner,
    count: int,
    gates: Gates | None = None,
) -> SearchResult:
    """Searches for up to `count` wrong entries along a line that accuses its tensor.

    Args:
        point: where.
        rejecting: the line, over one stretch of one tensor.
        run: measures lines.
        count: of entries.
        gates: of which the tensor may consist; they are told apart first.
    """
    return _DividingSearch(Probe(point, rejecting, run), gates).up_to(count)


class _DividingSearch:
    """Divides what is furthest off, until it is single entries, or an area with borders."""

    def __init__(self, probe: Probe, gates: Gates | None) -> None:
        self.probe, self.gates = probe, gates
        self.found = SearchResult()
        columns, block = probe.columns, probe.block
        area = Area((block.start // columns, -(-block.stop // columns)), (0, columns))
        self.queue = [_Part(area, probe.rejecting.residual, probe.rejecting.error)]

    def up_to(self, count: int) -> SearchResult:
        """Searches until so many wrong entries are found, nothing is left, or the budget ends."""
        found, probe = self.found, self.probe
        while self.queue and len(probe.wrong_in(probe.whole)) < count:
            self.queue.sort(key=lambda part: abs(part.residual))
            part = self.queue.pop()
            try:
                self._search(part)
            except Spent:
                found.left.append(part.area)
                break
        else:
            done = not self.queue and not found.left
            found.ended = done and (bool(found.areas) or not probe.unexplained())
        found.left += [part.area for part in self.queue]
        found.entries = {row * probe.columns + c: m for (row, c), m in probe.entries.items()}
        return found

    def _search(self, part: _Part) -> None:
        if part.dense:
            self._found_everywhere(part)
        elif part.area.size == 1:
            self.probe.measure_entries(
                [(part.area.rows[0], part.area.columns[0])], LONE_ENTRY_ERROR
            )
        else:
            alone = part.lone >= LONE_DIVISIONS and abs(part.residual) > RAMP_BARS * part.error
            parts = self._narrowed(part) if alone else self._divided(part)
            self.queue += parts
            if not parts:  # off together, but each by too little to be told from its error bar
                self.found.left.append(part.area)

    def _divided(self, part: _Part) -> list[_Part]:
        """What is wrong among the gates of the whole tensor, or the halves of a part."""
        axis, pieces = self._pieces(part)
        goal = max(PART_ERROR * abs(part.residual), part.error / 2)
        found, rest, error = [], part.residual, part.error
        for piece in pieces[:-1]:
            residual, own = self.probe.residual_over([piece], goal)
            found.append(replace(part, area=piece, residual=residual, error=own))
            rest, error = rest - residual, error + own
        if not exceeds_error(rest, error) and exceeds_error(rest, error / len(pieces)):
            rest, error = self.probe.residual_over(pieces[-1:], goal)
        found.append(replace(part, area=pieces[-1], residual=rest, error=error))
        wrong = [one for one in found if one.wrong]
        if len(wrong) == len(pieces):
            full = part.full + (1 if len(pieces) == 2 else 2)
            origin = part.origin or part
            return [replace(one, axis=axis, full=full, origin=origin, lone=0) for one in wrong]
        lone = part.lone + 1 if len(wrong) == 1 else 0
        return [replace(one, axis=axis, full=0, origin=None, lone=lone) for one in wrong]

    def _pieces(self, part: _Part) -> tuple[int, list[Area]]:
        if self.gates is not None and part.area == self.probe.whole and not part.strewn:
            return 0, part.area.divided(self.gates.axis, self.gates.count)
        first, stop = part.area.span(part.axis)
        return part.axis, part.area.divided(part.axis if stop - first > 1 else 1 - part.axis)

    def _narrowed(self, part: _Part) -> list[_Part]:
        """Where the one wrong entry of a part lies, if it is one; else the part, to be divided."""
        again = [replace(part, lone=-LONE_DIVISIONS)]
        stretches = part.area.stretches(self.probe.shape)
        if len(stretches) > 1:
            return again
        ((start, stop),) = stretches
        goal = max(PLACE_ERROR * abs(part.residual), part.error)
        ramp, error = self.probe.residual_over([part.area], goal, ramp=True)
        ratio, count = ramp / part.residual, stop - start
        doubt = (error + abs(ratio) * part.error) / abs(part.residual)
        low = max(int(np.floor((ratio - 2 * doubt) * count - 0.5)), 0)
        high = min(int(np.floor((ratio + 2 * doubt) * count + 0.5)), count)
        if high <= low:
            return again
        last_step_exponents = self._holding(start + low, start + high, part.area)
        if 2 * last_step_exponents.size >= part.area.size:
            return again
        residual, error = self.probe.residual_over([last_step_exponents], goal)
        if exceeds_error(part.residual - residual, part.error + error):
            return again
        return [replace(part, area=last_step_exponents, residual=residual, error=error)]

    def _holding(self, first: int, stop: int, area: Area) -> Area:
        """The smallest part of an area that holds a stretch of entries."""
        columns = self.probe.columns
        top, bottom = first // columns, -(-stop // columns)
        if bottom - top > 1:
            return Area((top, bottom), area.columns)
        return Area((top, top + 1), (first - top * columns, stop - top * columns))

    def _found_everywhere(self, part: _Part) -> None:
        """What is wrong all over, and whether anything around it is."""
        origin = part.origin or part
        inside = [one for one in (*self.queue, part) if one.area.within(origin.area)]
        found = find_borders(self.probe, origin.area)
        if found is not None:
            self.found.areas.append(found)
            self.queue = self._outside_all_areas()
            return
        self.queue = [one for one in self.queue if one not in inside]
        across = self._across(origin)
        self.queue += [across] if across else [replace(one, strewn=True) for one in inside]

    def _across(self, origin: _Part) -> _Part | None:
        """The columns that are wrong, where these are one half of them."""
        if origin.axis == 1 or min(origin.area.height, origin.area.width) == 1:
            return None
        halves = self._divided(replace(origin, axis=1, full=0, origin=None, strewn=True))
        return replace(halves[0], strewn=False) if len(halves) == 1 else None

    def _outside_all_areas(self) -> list[_Part]:
        """What is wrong in the rest of the tensor."""
        rest = [self.probe.whole]
        for found in self.found.areas:
            rest = [part for one in rest for part in one.without(found.area)]
        goal = max(PLACE_ERROR * abs(self.probe.rejecting.residual), self.probe.rejecting.error)
        if not rest or (len(rest) > 1 and not exceeds_error(*self.probe.residual_over(rest, goal))):
            return []
        parts = [_Part(one, *self.probe.residual_over([one], goal)) for one in rest]
        return [part for part in parts if part.wrong]
