"""Which entries are wrong? A search that divides, instead of one that looks at all.

Along a direction v the gradient is off by r·v, and so it is along each part of v: the parts add
up to the whole, so that measuring all but one gives the last. One wrong entry among N is found
after log₂ N halvings. Mostly sooner: where one entry alone is off, a direction whose moves grow
with the place tells the place, by how much smaller the difference becomes.

Where all parts are wrong again and again, everything may be. Then the borders of what is wrong are
looked for, and what lies around it is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from throughtime.gradcheck.areas import Area
from throughtime.gradcheck.borders import Wrong, bordered
from throughtime.gradcheck.budget import Spent
from throughtime.gradcheck.evaluation_point import Measured, Site
from throughtime.gradcheck.gates import Gates
from throughtime.gradcheck.probe import Probe, is_off
from throughtime.gradcheck.run import Runner
from throughtime.gradcheck.tolerances import (
    DENSE_DIVISIONS,
    LONE_DIVISIONS,
    LONE_ENTRY_ERROR,
    PART_ERROR,
    PLACE_ERROR,
    RAMP_BARS,
)


@dataclass
class Located:
    """What the search found.

    Attributes:
        entries: those that were looked at by themselves, by their place in C order.
        areas: what is wrong all over, or here and there.
        left: where something is wrong that was not searched further.
        ended: whether nothing was left to be searched, so that the rest of the tensor is right.
    """

    entries: dict[int, Measured] = field(default_factory=dict)
    areas: list[Wrong] = field(default_factory=list)
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
        return is_off(self.residual, self.error)

    @property
    def dense(self) -> bool:
        """Whether all of what it is a part of may be wrong."""
        return not self.strewn and self.full >= (
            DENSE_DIVISIONS if self.area.size > 1 else DENSE_DIVISIONS - 1
        )


def locate(
    site: Site, accusing: Measured, run: Runner, count: int, gates: Gates | None = None
) -> Located:
    """Searches for up to `count` wrong entries along a line that accuses its tensor.

    Args:
        site: where.
        accusing: the line, over one stretch of one tensor.
        run: measures lines.
        count: of entries.
        gates: of which the tensor may consist; they are told apart first.
    """
    return _Search(Probe(site, accusing, run), gates).up_to(count)


class _Search:
    """Divides what is furthest off, until it is single entries, or an area with borders."""

    def __init__(self, probe: Probe, gates: Gates | None) -> None:
        self.probe, self.gates = probe, gates
        self.found = Located()
        columns, block = probe.columns, probe.block
        area = Area((block.start // columns, -(-block.stop // columns)), (0, columns))
        self.queue = [_Part(area, probe.accusing.residual, probe.accusing.error)]

    def up_to(self, count: int) -> Located:
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
        found.entries = {row * probe.columns + c: m for (row, c), m in probe.looked.items()}
        return found

    def _search(self, part: _Part) -> None:
        if part.dense:
            self._spread(part)
        elif part.area.size == 1:
            self.probe.look([(part.area.rows[0], part.area.columns[0])], LONE_ENTRY_ERROR)
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
            residual, own = self.probe.off([piece], goal)
            found.append(replace(part, area=piece, residual=residual, error=own))
            rest, error = rest - residual, error + own
        if not is_off(rest, error) and is_off(rest, error / len(pieces)):
            rest, error = self.probe.off(pieces[-1:], goal)
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
        ramp, error = self.probe.off([part.area], goal, ramp=True)
        ratio, count = ramp / part.residual, stop - start
        doubt = (error + abs(ratio) * part.error) / abs(part.residual)
        low = max(int(np.floor((ratio - 2 * doubt) * count - 0.5)), 0)
        high = min(int(np.floor((ratio + 2 * doubt) * count + 0.5)), count)
        if high <= low:
            return again
        window = self._holding(start + low, start + high, part.area)
        if 2 * window.size >= part.area.size:
            return again
        residual, error = self.probe.off([window], goal)
        if is_off(part.residual - residual, part.error + error):
            return again
        return [replace(part, area=window, residual=residual, error=error)]

    def _holding(self, first: int, stop: int, area: Area) -> Area:
        """The smallest part of an area that holds a stretch of entries."""
        columns = self.probe.columns
        top, bottom = first // columns, -(-stop // columns)
        if bottom - top > 1:
            return Area((top, bottom), area.columns)
        return Area((top, top + 1), (first - top * columns, stop - top * columns))

    def _spread(self, part: _Part) -> None:
        """What is wrong all over, and whether anything around it is."""
        origin = part.origin or part
        inside = [one for one in (*self.queue, part) if one.area.within(origin.area)]
        found = bordered(self.probe, origin.area)
        if found is not None:
            self.found.areas.append(found)
            self.queue = self._beside_all_areas()
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

    def _beside_all_areas(self) -> list[_Part]:
        """What is wrong in the rest of the tensor."""
        rest = [self.probe.whole]
        for found in self.found.areas:
            rest = [part for one in rest for part in one.without(found.area)]
        goal = max(PLACE_ERROR * abs(self.probe.accusing.residual), self.probe.accusing.error)
        if not rest or (len(rest) > 1 and not is_off(*self.probe.off(rest, goal))):
            return []
        parts = [_Part(one, *self.probe.off([one], goal)) for one in rest]
        return [part for part in parts if part.wrong]
