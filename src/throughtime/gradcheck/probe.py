"""By how much a gradient is off over parts of a tensor, and at single entries of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from throughtime.gradcheck.areas import Area, table_of
from throughtime.gradcheck.budget import Spent
from throughtime.gradcheck.evaluation_point import Measured, Site
from throughtime.gradcheck.plan import nearest
from throughtime.gradcheck.run import Runner
from throughtime.gradcheck.search_direction import Line, entry
from throughtime.gradcheck.tolerances import (
    ANOTHER_SEED,
    MOST_STRETCHES,
    PROBE_NOISE_MARGIN,
    REJECTION_BARS,
)
from throughtime.gradcheck.verdict import accused, cautious


class Probe:
    """Measures parts of the tensor that a line accuses.

    Args:
        site: where.
        accusing: the line, over one stretch of one tensor. Its parts move as they do in it, so
            that by how much they are off adds up to by how much the line is.
        run: measures lines.
    """

    def __init__(self, site: Site, accusing: Measured, run: Runner) -> None:
        self.site, self.accusing, self.run = site, accusing, run
        self.block = accusing.line.blocks[0]
        self.name = self.block.name
        self.shape = site.parameters[self.name].shape
        self.columns = table_of(self.shape)[1]
        self.whole = Area.whole(self.shape)
        self.looked: dict[tuple[int, int], Measured] = {}
        self.few = (accusing.rungs[-1] - 4, accusing.rungs[-1] - 2, accusing.rungs[-1])

    def off(self, areas: Sequence[Area], goal: float, *, ramp: bool = False) -> tuple[float, float]:
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

    def strip(self, area: Area, goal: float, *, another: bool = False) -> Measured:
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

    def look(self, places: Sequence[tuple[int, int]], sharp: float) -> None:
        """Measures single entries (row, column), each of them once.

        Args:
            places: which.
            sharp: an error bar that is small enough, relative to the tensor's typical gradient.

        Raises:
            Spent: where the budget does not reach so far.
        """
        new = [place for place in dict.fromkeys(places) if place not in self.looked]
        typical = float(np.sqrt(np.mean(np.square(self.site.gradient[self.name], dtype=float))))
        goal = sharp * typical
        found = self.run(self.site, [self._entry(r * self.columns + c, goal) for r, c in new])
        for place, measured in zip(new, found, strict=True):
            if measured is None:
                raise Spent
            self.looked[place] = cautious(measured)

    def looked_in(self, area: Area) -> list[tuple[int, int]]:
        """The entries of an area that were looked at by themselves."""
        return [place for place in self.looked if area.holds(*place)]

    def wrong_in(self, area: Area) -> list[tuple[int, int]]:
        """Those of them that are wrong."""
        return [place for place in self.looked_in(area) if accused(self.looked[place])]

    def unexplained(self) -> bool:
        """Whether the entries that were looked at leave some of the accusing difference open."""
        residual, error = self.accusing.residual, self.accusing.error
        moves = self.block.moves(self.site.parameters[self.name].size)
        for (row, column), found in self.looked.items():
            move = float(moves[row * self.columns + column - self.block.start])
            residual, error = residual - move * found.residual, error + abs(move) * found.error
        return is_off(residual, error)

    def _measured(
        self, stretches: Sequence[tuple[int, int]], goal: float, seed: int | None, ramp: bool
    ) -> Measured:
        blocks = tuple(
            replace(self.block, start=first, stop=stop, seed=seed, ramp=ramp)
            for first, stop in stretches
        )
        unit = self.accusing.line.unit
        line = Line(
            "", blocks, unit, nearest(self.site, goal, self.few, unit, PROBE_NOISE_MARGIN), goal
        )
        (found,) = self.run(self.site, [line])
        if found is None or not np.isfinite(found.error):
            raise Spent
        return found

    def _entry(self, place: int, goal: float) -> Line:
        index = [int(i) for i in np.unravel_index(place, self.shape)]
        unit = self.site.scales[self.name]
        rungs = nearest(self.site, goal, self.few, unit, PROBE_NOISE_MARGIN)
        return Line(str(index), entry(self.name, place), unit, rungs, goal)

    def _stretches(self, areas: Sequence[Area]) -> list[tuple[int, int]]:
        return [stretch for area in areas for stretch in area.stretches(self.shape)]


def is_off(residual: float, error: float) -> bool:
    """Whether a difference is larger than its error bar explains."""
    return abs(residual) > REJECTION_BARS * error
