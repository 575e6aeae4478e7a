"""Which lines to measure in a tensor: over all of it, over stretches of rows, rows and entries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives import START_EXPONENTS
from throughtime.gradcheck.effort import Effort
from throughtime.gradcheck.evaluation_point import Measured, Site
from throughtime.gradcheck.search_direction import Block, Line, entry
from throughtime.gradcheck.tolerances import (
    DOUBLE_PRECISION_NOISE,
    NEAREST_EXPONENT,
    NOISE_MARGIN,
    SCREEN_ERROR,
    SETTLING_MARGIN,
    SINGLE_ENTRY_ERROR,
    TIGHTEST_ERROR,
)
from throughtime.gradcheck.verdict import to_settle


class Plan:
    """Draws lines at a site.

    Args:
        site: where.
        effort: how closely is looked.
    """

    def __init__(self, site: Site, effort: Effort) -> None:
        self.site, self.effort = site, effort
        self.rng = np.random.default_rng(site.seed)

    def glance(self) -> Line:
        """A direction over all tensors, known well enough to serve each of them.

        What does not move the loss at all, by its gradient, has no say in how much is enough.
        """
        line = self.site.everything("all")
        sizes = [self.site.size_of(replace(line, blocks=(block,))) for block in line.blocks]
        goal = SCREEN_ERROR * min(size for size in (*sizes, np.inf) if size > 0)
        goal = min(max(goal, TIGHTEST_ERROR * self.site.size_of(line)), 1e300)
        return replace(line, goal=goal, rungs=nearest(self.site, goal, START_EXPONENTS))

    def over(self, name: str, number: int, rungs: tuple[int, ...]) -> Line:
        """A random direction over the whole tensor."""
        size = self.site.parameters[name].size
        block = (Block(name, 0, size, self.site.seed + 1 + number),)
        return self._confined("all", block, rungs)

    def _confined(self, label: str, blocks: tuple[Block, ...], rungs: tuple[int, ...]) -> Line:
        line = Line(label, blocks, self.site.scales[blocks[0].name], rungs)
        entries = sum(block.stop - block.start for block in blocks)
        # Few entries show as they are; one among many by 1 / √n of what a direction gives.
        goal = min(
            self.effort.enough * float(np.sqrt(entries)), to_settle(entries) / SETTLING_MARGIN
        )
        return replace(line, goal=goal * self.site.size_of(line))

    def alone(self, name: str, place: int, rungs: tuple[int, ...]) -> Line:
        """One entry."""
        goal = self.effort.enough * float(np.abs(self.site.gradient[name]).max())
        index = np.unravel_index(place, self.site.parameters[name].shape)
        label = "[" + ", ".join(map(str, index)) + "]"
        return Line(label, entry(name, place), self.site.scales[name], rungs, goal)

    def first(self, name: str, place: int, *, only: bool) -> Line:
        """One entry, as sharply as it goes where its steps serve others."""
        line = self.alone(name, place, START_EXPONENTS)
        return replace(
            line, goal=SINGLE_ENTRY_ERROR / self.effort.enough * line.goal if only else 0.0
        )

    def parts(self, name: str, rungs: tuple[int, ...]) -> Iterable[Line]:
        """Along stretches of rows, as gates are, and along single rows."""
        array = self.site.parameters[name]
        if array.ndim == 0 or not array.size:
            return
        rows, width = array.shape[0], array.size // array.shape[0]
        groups = self.site.target.gates or self.effort.groups
        if self.effort.groups > 1 and rows >= 2 * groups:
            for stretch in np.array_split(np.arange(rows), groups):
                yield self._rows(name, int(stretch[0]), int(stretch[-1]) + 1, width, rungs)
        if width > 1:
            for row in self.rng.choice(rows, min(self.effort.rows, rows), replace=False):
                yield self._rows(name, int(row), int(row) + 1, width, rungs)

    def _rows(self, name: str, first: int, last: int, width: int, rungs: tuple[int, ...]) -> Line:
        label = f"row {first}" if last == first + 1 else f"rows {first}–{last - 1}"
        block = Block(name, first * width, last * width, self.site.seed + 101)
        return self._confined(label, (block,), rungs)

    def choose(self, gradient: Array, entries: int) -> Array:
        """Which entries to look at: half where the gradient is largest, half by chance."""
        if entries == 1 and gradient.size:
            return np.array([np.abs(gradient).argmax()])
        if entries >= gradient.size:
            return np.arange(gradient.size)
        half = entries // 2
        order = np.argpartition(-np.abs(gradient), half, axis=None)
        drawn = self.rng.choice(order[half:], entries - half, replace=False)
        return np.sort(np.concatenate([order[:half], drawn])).astype(np.int64)


def nearest(
    site: Site, goal: float, start: tuple[int, ...], unit: float = 1.0, clear: float = NOISE_MARGIN
) -> tuple[int, ...]:
    """The smallest steps that noise leaves clear of the goal: there the loss curves least.

    In double precision. In a shorter one they would be no smaller than where a walk begins.

    Args:
        site: where.
        goal: an error bar that is small enough.
        start: where the walk begins otherwise, and at most.
        unit: the length of step 0.
        clear: times less than the goal: what noise may leave of it.
    """
    if site.noise.relative >= DOUBLE_PRECISION_NOISE or not goal:
        return start
    step = 2 * clear * site.noise.deviation / goal / unit
    first = int(np.clip(np.ceil(2 * np.log2(max(step, 1e-300))), NEAREST_EXPONENT, start[0]))
    return first, first + 2, first + 4


def window(found: Sequence[Measured]) -> tuple[int, ...]:
    """The steps that served the last line, every other one where they are dense."""
    for m in reversed(found):
        if len(m.rungs) > 2:
            return tuple(rung for rung in m.rungs if (rung - m.rungs[-1]) % 2 == 0)
    return START_EXPONENTS
