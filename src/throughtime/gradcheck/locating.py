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
    """Measures parts of a tensor that is wrong along a direction.

    Args:
        point: where.
        rejecting: the measurement along that direction, over one stretch of one tensor. Parts of
            the direction move as they do in it, so that their residuals add up to its residual.
        run: measures directions.
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
        """The residual along the rejecting direction over some areas, and its error bar.

        Args:
            areas: the direction is confined to them.
            goal: an error bar that is small enough.
            ramp: whether later entries move farther, in proportion to their index.

        Raises:
            Spent: when the budget is used up.
        """
        found = self._measured(self._stretches(areas), goal, self.block.seed, ramp)
        return found.residual, found.error

    def strip(self, area: Area, goal: float, *, another: bool = False) -> Measurement:
        """The measurement along a direction over an area, or over a sample of it.

        Args:
            area: where.
            goal: an error bar that is small enough.
            another: whether the direction is drawn independently of the rejecting one.

        Raises:
            Spent: when the budget is used up.
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
            places: the entries.
            sharp: an error bar that is small enough, relative to the tensor's typical gradient.

        Raises:
            Spent: when the budget is used up.
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
        """The entries of an area that were measured one by one."""
        return [place for place in self.entries if area.holds(*place)]

    def wrong_in(self, area: Area) -> list[tuple[int, int]]:
        """The entries of an area that were measured one by one and are wrong."""
        return [place for place in self.entries_in(area) if rejects(self.entries[place])]

    def unexplained(self) -> bool:
        """Whether the measured entries leave a part of the rejecting residual unexplained."""
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
    """Whether a residual is larger than its error bar explains."""
    return abs(residual) > REJECTION_BARS * error


@dataclass(frozen=True)
class LocatedArea:
    """An area that is wrong.

    Attributes:
        area: the rectangle.
        measured: how many of its entries were measured one by one.
        wrong: how many of these are wrong.
        agreeing: strips along its borders that were measured and agree.
        unclear: strips along its borders whose error bars are too wide to tell.
    """

    area: Area
    measured: int
    wrong: int
    agreeing: tuple[Area, ...] = ()
    unclear: tuple[Area, ...] = ()


def find_borders(probe: Probe, area: Area) -> LocatedArea | None:
    """The borders of what is wrong, beginning with an area all of whose parts are.

    Some of its entries are measured, from all over it. Then its borders are determined, by rows
    and by columns: just inside, what was measured is wrong; just outside, it agrees along two
    directions. The result may be larger or smaller than the area.

    Returns:
        None where none of these entries is wrong, or only one: then single entries are.

    Raises:
        Spent: when the budget is used up.
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
    """Entries in the first and the last row, the first and the last column, and between."""
    (top, bottom), (left, right) = area.rows, area.columns
    rows, columns = bottom - 1 - top, right - 1 - left
    places = [(top + round(rows * r / 5), left + round(columns * c / 5)) for r, c in AREA_SAMPLES]
    return list(dict.fromkeys(places))


class _Side:
    """One side of an area, and strips along it: 0 just inside, −1 just outside, and so on.

    A strip is one row or column wide, or as many as it takes to see the difference.
    """

    def __init__(self, probe: Probe, area: Area, axis: int, last: bool) -> None:
        self.probe, self.area, self.axis, self.last = probe, area, axis, last
        self.first, self.stop = area.span(axis)
        self.end = probe.whole.span(axis)[1]
        residual, error = abs(probe.rejecting.residual), probe.rejecting.error
        count = self.stop - self.first
        self.unit = int(np.clip(np.ceil(count * (STRIP_BARS * error / residual) ** 2), 1, count))
        self.goal = max(residual * float(np.sqrt(self.unit / count)) / STRIP_BARS, error)
        self.typical = residual / float(np.sqrt(area.size))  # residual of an entry
        self.clear = True
        room = self.end - self.stop if last else self.first
        self.least = -int(np.ceil(room / self.unit))

    def border(self, centre: int) -> tuple[int, tuple[int, int] | None]:
        """Where the wrong rows or columns about a central one end on this side.

        Also the rows or columns just beyond, which are right; None where the tensor ends.
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
        # The last strip that is measured lies just outside.
        expected = self.typical * float(np.sqrt(here.size))
        own = self.probe.point.size_of(found.direction)
        resolved = not own or REJECTION_BARS * found.error < RESOLVED_ERROR * own
        self.clear = resolved and STRIP_CLEAR_BARS * found.error < expected
        return exceeds_error(found.residual, found.error)


def _edge(
    off: Callable[[int, bool], bool], inside: int, outside: int | None, least: int
) -> tuple[int, int | None]:
    """The outermost strip that is off, and the next one, which is not.

    Args:
        off: whether a strip is off, along the usual direction or along another one.
        inside: a strip that is.
        outside: a strip further out that is not; None where none is known.
        least: the outermost strip; beyond it the tensor ends.

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
        entries: the entries that were measured one by one, by their index in C order.
        areas: areas that are wrong, everywhere or in many entries.
        left: areas with something wrong that were not searched further.
        ended: whether nothing was left to search, so that the rest of the tensor is right.
    """

    entries: dict[int, Measurement] = field(default_factory=dict)
    areas: list[LocatedArea] = field(default_factory=list)
    left: list[Area] = field(default_factory=list)
    ended: bool = False


@dataclass(frozen=True)
class _Part:
    """An area with its residual along a direction, and the error bar of that.

    Attributes:
        axis: 0 where it is divided into rows first, 1 where into columns.
        full: how many divisions in a row, up to here, found all parts wrong …
        origin: … and the part they began with; None for the part itself.
        lone: how many divisions in a row found exactly one part wrong.
        scattered: whether single entries of it are wrong, and not all of them.
    """

    area: Area
    residual: float
    error: float
    axis: int = 0
    full: int = 0
    origin: _Part | None = None
    lone: int = 0
    scattered: bool = False

    @property
    def wrong(self) -> bool:
        return exceeds_error(self.residual, self.error)

    @property
    def dense(self) -> bool:
        """Whether everything in the part it began with may be wrong."""
        return not self.scattered and self.full >= (
            DENSE_DIVISIONS if self.area.size > 1 else DENSE_DIVISIONS - 1
        )


def locate(
    point: EvaluationPoint,
    rejecting: Measurement,
    run: Runner,
    count: int,
    gates: Gates | None = None,
) -> SearchResult:
    """Searches for up to `count` wrong entries of a tensor that is wrong along a direction.

    Args:
        point: where.
        rejecting: the measurement along that direction, over one stretch of one tensor.
        run: measures directions.
        count: how many entries to find.
        gates: the gates that the tensor may consist of; they are measured separately first.
    """
    return _DividingSearch(Probe(point, rejecting, run), gates).up_to(count)


class _DividingSearch:
    """Divides the part with the largest residual, down to single entries or a bordered area."""

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
            if not parts:  # off together, but each by less than its error bar
                self.found.left.append(part.area)

    def _divided(self, part: _Part) -> list[_Part]:
        """The wrong ones among the gates of the whole tensor, or among the halves of a part."""
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
        if self.gates is not None and part.area == self.probe.whole and not part.scattered:
            return 0, part.area.divided(self.gates.axis, self.gates.count)
        first, stop = part.area.span(part.axis)
        return part.axis, part.area.divided(part.axis if stop - first > 1 else 1 - part.axis)

    def _narrowed(self, part: _Part) -> list[_Part]:
        """The place of a part's only wrong entry, if it is the only one; else the part itself."""
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
        window = self._holding(start + low, start + high, part.area)
        if 2 * window.size >= part.area.size:
            return again
        residual, error = self.probe.residual_over([window], goal)
        if exceeds_error(part.residual - residual, part.error + error):
            return again
        return [replace(part, area=window, residual=residual, error=error)]

    def _holding(self, first: int, stop: int, area: Area) -> Area:
        """The smallest part of an area that holds a stretch of entries."""
        columns = self.probe.columns
        top, bottom = first // columns, -(-stop // columns)
        if bottom - top > 1:
            return Area((top, bottom), area.columns)
        return Area((top, top + 1), (first - top * columns, stop - top * columns))

    def _found_everywhere(self, part: _Part) -> None:
        """Determines the borders of what is wrong everywhere, and what else is wrong."""
        origin = part.origin or part
        inside = [one for one in (*self.queue, part) if one.area.within(origin.area)]
        found = find_borders(self.probe, origin.area)
        if found is not None:
            self.found.areas.append(found)
            self.queue = self._outside_all_areas()
            return
        self.queue = [one for one in self.queue if one not in inside]
        across = self._across(origin)
        self.queue += [across] if across else [replace(one, scattered=True) for one in inside]

    def _across(self, origin: _Part) -> _Part | None:
        """The half of the columns that is wrong, where only one is."""
        if origin.axis == 1 or min(origin.area.height, origin.area.width) == 1:
            return None
        halves = self._divided(replace(origin, axis=1, full=0, origin=None, scattered=True))
        return replace(halves[0], scattered=False) if len(halves) == 1 else None

    def _outside_all_areas(self) -> list[_Part]:
        """The wrong parts of the rest of the tensor."""
        rest = [self.probe.whole]
        for found in self.found.areas:
            rest = [part for one in rest for part in one.without(found.area)]
        goal = max(PLACE_ERROR * abs(self.probe.rejecting.residual), self.probe.rejecting.error)
        if not rest or (len(rest) > 1 and not exceeds_error(*self.probe.residual_over(rest, goal))):
            return []
        parts = [_Part(one, *self.probe.residual_over([one], goal)) for one in rest]
        return [part for part in parts if part.wrong]
