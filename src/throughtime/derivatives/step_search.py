"""A function along a line: its slope at 0, with steps chosen by what they show.

The walk starts with a few steps and widens where noise rules, narrows where the curve rules, until
neither pays; where noise is what is left, the gaps between the steps are filled in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives.noise import Noise
from throughtime.derivatives.stencil import Slope, stencils
from throughtime.derivatives.tolerances import (
    CURVED_RATIO,
    FEWEST_PAIRS,
    MOST_STEPS,
    NARROWEST_EXPONENT,
    NOISE_ROOM,
    PATIENCE,
    SEEN_NOISES,
    SHARP_ENOUGH,
    START_EXPONENTS,
    STUCK_ULPS,
    UNKNOWN_PART,
    VARIED_NOISES,
    WIDEST_EXPONENT,
    WIDEST_UNSEEN_EXPONENT,
    WORTHWHILE_PART,
)
from throughtime.derivatives.values import Along


@dataclass
class Walk:
    """The values of a function along a line, and the best slope that they give.

    Args:
        along: the function.
        middle: its value at 0.
        noise: of its values.
        unit: the length of step 0.
    """

    along: Along
    middle: float
    noise: Noise
    unit: float
    pairs: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    raw: dict[float, float] = field(default_factory=dict)  # values as they came, by their place
    barren: set[int] = field(default_factory=set)  # rungs without two finite values

    def look(self, rungs: tuple[int, ...] | list[int]) -> None:
        """Evaluates the function at some rungs, on both sides."""
        for rung in rungs:
            if rung in self.pairs or rung in self.barren:
                continue
            step = self.unit * 2.0 ** (rung / 2)
            above, high, raw_high = self.along(step)
            below, low, raw_low = self.along(-step)
            self.raw |= {above: raw_high, below: raw_low}
            if np.isfinite(high) and np.isfinite(low) and below < 0 < above:
                self.pairs[rung] = (below, above, low, high)
            else:
                self.barren.add(rung)

    @property
    def rungs(self) -> tuple[int, ...]:
        """Those with finite values, by growing step."""
        return tuple(sorted(self.pairs))

    def slope(self) -> Slope | None:
        """The best slope so far; None where too few steps have finite values."""
        if len(self.pairs) < FEWEST_PAIRS:
            return None
        rungs = self.rungs
        return stencils(rungs).best(*self.quotients(rungs))

    def quotients(self, rungs: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
        """(f(h) − f(−h)) / 2h, (f(h) + f(−h) − 2 f(0)) / 2h; noise of f(±h), and of f(0).

        Where the two places are not quite symmetric, the slope leaks into the even part and the
        curvature into the odd one; both are taken out.
        """
        below, above, low, high = np.array([self.pairs[rung] for rung in rungs]).T
        width = above - below
        odd, lean = (high - low) / width, (above + below) / width
        even = ((high - self.middle) + (low - self.middle)) / width
        odd, even = odd - lean * even, even - lean * odd
        values = np.array([*low, *high, self.middle])
        noise = np.array([self.noise.at(value) for value in values])
        pair = np.hypot(noise[: len(rungs)], noise[len(rungs) : -1]) / width
        return odd, even, pair, 2 * noise[-1] / width

    def broken(self, slope: Slope) -> bool:
        """Whether a kink at 0 makes the error bar of the slope what it is."""
        if not _kinked(slope):
            return False
        rungs = self.rungs
        _, even, noise, shared = self.quotients(rungs)
        return stencils(rungs).broken(even, noise, shared)

    def jump(self, slope: Slope) -> float:
        """Half the jump of the slope that may hide among the steps that gave it, at most."""
        rungs = self.rungs
        _, even, noise, shared = self.quotients(rungs)
        return stencils(rungs).jump(slope, even, noise, shared)

    def stuck(self, slope: Slope) -> float:
        """What rounding may add to a slope where the values hardly move.

        There it is no chance: all of them may be rounded the same way, to the value at 0.
        """
        rung = self.rungs[slope.last]
        moved = max(abs(value - self.middle) for value in self.pairs[rung][2:])
        place = max(self.noise.digits * self.noise.level, 3 * self.noise.deviation)
        return place / self.step(rung) if moved < STUCK_ULPS * place else 0.0

    def levels(self) -> int:
        """How many different values came, that at 0 included."""
        return len({self.middle, *self.raw.values()})

    def repeats(self) -> bool:
        """Whether the function came out the same at two neighbouring places."""
        values = [value for _, value in sorted({**self.raw, 0.0: self.middle}.items())]
        return any(a == b for a, b in pairwise(values))

    def valley(self) -> tuple[Array, Array, Array]:
        """Farthest steps, and noise and truncation of the best window up to each of them."""
        rungs = self.rungs
        odd, _, noise, _ = self.quotients(rungs)
        steps, noises, truncations = stencils(rungs).valley(odd, noise)
        best = [
            min(np.flatnonzero(steps == step), key=lambda k: 2 * noises[k] + truncations[k])
            for step in np.unique(steps)
        ]
        return steps[best] * self.step(rungs[-1]), 2 * noises[best], truncations[best]

    def step(self, rung: int) -> float:
        """The length of a rung's step."""
        return float(self.unit * 2.0 ** (rung / 2))


def walk(
    line: Walk,
    *,
    start: tuple[int, ...] = START_EXPONENTS,
    goal: float = 0.0,
    last: int = WIDEST_EXPONENT,
) -> Slope | None:
    """The line's slope, from as many steps as it takes.

    Args:
        line: what to look at; it may hold values already.
        start: the first rungs.
        goal: an error bar that is small enough.
        last: the rung of the longest step.
    """
    line.look(start)
    _descend_to_finite(line)
    best, idle = line.slope(), 0
    while (
        best is not None and best.error > goal and idle < PATIENCE and len(line.pairs) < MOST_STEPS
    ):
        seen = len(line.pairs)
        line.look([rung for rung in _next(line, best, stalled=idle > 0) if rung <= last])
        found = line.slope()
        assert found is not None  # values are only added
        if len(line.pairs) == seen:
            break  # beyond the last step that moves anything, or has a finite value
        resolvable = not line.broken(found)  # no smaller step resolves a kink at 0
        if found.error < WORTHWHILE_PART * best.error or (_lost(found) and resolvable):
            idle = 0
        elif _roomy(found) and resolvable:
            idle = 1  # a kink near 0 is behind much smaller steps, sooner or later
        else:
            idle += 1
        best = found
    if best is None or line.broken(best):
        return best
    if best.error > max(goal, SHARP_ENOUGH * abs(best.value)):
        line.look([rung for rung in _gaps(line, best) if rung <= last])
        best = line.slope()
    return best


def _descend_to_finite(line: Walk) -> None:
    """Smaller steps until enough of them have finite values."""
    while len(line.pairs) < FEWEST_PAIRS:
        lowest = min((*line.pairs, *line.barren))
        if lowest < NARROWEST_EXPONENT:
            return
        line.look([lowest - 4])


def _next(line: Walk, best: Slope, *, stalled: bool) -> list[int]:
    """The rungs that may improve on the best slope: below where the curve rules, else above.

    Where nothing is known of the slope yet, or where steps just below have not helped though noise
    leaves room, which is what a kink between them does, a new cluster stands further off.
    """
    low, high = line.rungs[0], line.rungs[-1]
    curved = best.truncation > CURVED_RATIO * 2 * best.noise
    if curved and best.truncation > UNKNOWN_PART * abs(best.value):
        return [low - 6, low - 8, low - 10]
    if _kinked(best):  # at 0 or near it: steps below its distance tell
        return [low - 12, low - 14, low - 16]
    if curved and stalled and _roomy(best):
        return [low - 6, low - 8, low - 10]
    missing = _missing(line, best)
    if missing:
        return missing
    if curved:
        return [low - 2]
    if high >= (WIDEST_EXPONENT if _seen(line) else WIDEST_UNSEEN_EXPONENT) or _varied(line, best):
        return []
    return [high + 2, high + 4] if _lost(best) else [high + 2]


def _seen(line: Walk) -> bool:
    """Whether any step has moved the function beyond its noise.

    Where none has, it may as well have a slope, and have bent before it could be seen: steps
    beyond the size of what is moved would show a slope of 0 that is not there.
    """
    values = [value for pair in line.pairs.values() for value in pair[2:]]
    return any(abs(v - line.middle) > SEEN_NOISES * line.noise.at(v) for v in values)


def _missing(line: Walk, best: Slope) -> list[int]:
    """Rungs in the first hole above the best window's nearest one."""
    rungs = line.rungs[best.first :]
    for near, far in pairwise(rungs):
        inside = [rung for rung in range(near + 2, far - 1, 2) if rung not in line.barren]
        if inside:
            return inside[:2]
    return []


def _kinked(best: Slope) -> bool:
    """Whether what looks like a kink makes most of the error bar."""
    return best.kink > best.error / 2


def _roomy(best: Slope) -> bool:
    """Whether noise has next to no part in the error bar: much smaller steps can be taken."""
    return 2 * best.noise < NOISE_ROOM * best.error


def _lost(best: Slope) -> bool:
    return best.error > UNKNOWN_PART * abs(best.value)


def _varied(line: Walk, best: Slope) -> bool:
    """Whether f moves so far beyond its noise that a slope still hidden is 0 beside that."""
    values = line.pairs[line.rungs[best.last]][2:]
    moved = max(abs(value - line.middle) for value in values)
    return _lost(best) and moved > VARIED_NOISES * line.noise.deviation


def _gaps(line: Walk, best: Slope) -> list[int]:
    """Rungs between those of the best window."""
    window = line.rungs[best.first : best.last + 1]
    return [rung for rung in range(window[0] - 2, window[-1] + 2) if rung not in line.pairs]
