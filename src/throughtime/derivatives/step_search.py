"""The slope at 0 of a function along a line, from steps that a search chooses.

The search starts with a few steps. It adds larger ones where noise dominates and smaller ones where
truncation does, until neither improves the error bar. Where noise is what remains, the gaps between
the steps are filled in.
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
from throughtime.derivatives.values import LineFunction


@dataclass
class StepSearch:
    """The values of a function along a line, and the best slope that they give.

    Args:
        function: gives the value at a step.
        value_at_0: its value at 0.
        noise: the noise of its values.
        unit: the length of the step with exponent 0; that with exponent k is unit · 2^(k/2).
    """

    function: LineFunction
    value_at_0: float
    noise: Noise
    unit: float
    pairs: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    raw: dict[float, float] = field(default_factory=dict)  # values as they came, by their step
    without_value: set[int] = field(default_factory=set)  # steps without two finite values

    def evaluate(self, exponents: tuple[int, ...] | list[int]) -> None:
        """Evaluates the function at some steps, on both sides of 0."""
        for exponent in exponents:
            if exponent in self.pairs or exponent in self.without_value:
                continue
            step = self.unit * 2.0 ** (exponent / 2)
            above, high, raw_high = self.function(step)
            below, low, raw_low = self.function(-step)
            self.raw |= {above: raw_high, below: raw_low}
            if np.isfinite(high) and np.isfinite(low) and below < 0 < above:
                self.pairs[exponent] = (below, above, low, high)
            else:
                self.without_value.add(exponent)

    @property
    def step_exponents(self) -> tuple[int, ...]:
        """The exponents of the steps with finite values, in growing order."""
        return tuple(sorted(self.pairs))

    def slope(self) -> Slope | None:
        """The best slope so far; None where too few steps have finite values."""
        if len(self.pairs) < FEWEST_PAIRS:
            return None
        exponents = self.step_exponents
        return stencils(exponents).best(*self.quotients(exponents))

    def quotients(self, exponents: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
        """(f(h) − f(−h)) / 2h, (f(h) + f(−h) − 2 f(0)) / 2h; the noise of f(±h), and of f(0).

        Where the two places are not quite symmetric, the slope leaks into the even part and the
        curvature into the odd part; both are corrected for.
        """
        below, above, low, high = np.array([self.pairs[exponent] for exponent in exponents]).T
        width = above - below
        odd, lean = (high - low) / width, (above + below) / width
        even = ((high - self.value_at_0) + (low - self.value_at_0)) / width
        odd, even = odd - lean * even, even - lean * odd
        values = np.array([*low, *high, self.value_at_0])
        noise = np.array([self.noise.at(value) for value in values])
        pair = np.hypot(noise[: len(exponents)], noise[len(exponents) : -1]) / width
        return odd, even, pair, 2 * noise[-1] / width

    def at_kink(self, slope: Slope) -> bool:
        """Whether a kink at 0 dominates the error bar of the slope."""
        if not _is_kinked(slope):
            return False
        exponents = self.step_exponents
        _, even, noise, shared = self.quotients(exponents)
        return stencils(exponents).at_kink(even, noise, shared)

    def hidden_kink(self, slope: Slope) -> float:
        """A bound on half the jump of the slope that kinks among its steps may cause."""
        exponents = self.step_exponents
        _, even, noise, shared = self.quotients(exponents)
        return stencils(exponents).hidden_kink(slope, even, noise, shared)

    def shared_rounding(self, slope: Slope) -> float:
        """What rounding may add to a slope where the values hardly change.

        There rounding is not random: all values may be rounded the same way, to the value at 0.
        """
        exponent = self.step_exponents[slope.last]
        moved = max(abs(value - self.value_at_0) for value in self.pairs[exponent][2:])
        place = max(self.noise.digits * self.noise.level, 3 * self.noise.deviation)
        return place / self.step(exponent) if moved < STUCK_ULPS * place else 0.0

    def levels(self) -> int:
        """How many different values there are, including that at 0."""
        return len({self.value_at_0, *self.raw.values()})

    def repeats(self) -> bool:
        """Whether the function has the same value at two neighbouring places."""
        values = [value for _, value in sorted({**self.raw, 0.0: self.value_at_0}.items())]
        return any(a == b for a, b in pairwise(values))

    def valley(self) -> tuple[Array, Array, Array]:
        """Farthest steps, and noise and truncation of the best window up to each of them."""
        exponents = self.step_exponents
        odd, _, noise, _ = self.quotients(exponents)
        steps, noises, truncations = stencils(exponents).valley(odd, noise)
        best = [
            min(np.flatnonzero(steps == step), key=lambda k: 2 * noises[k] + truncations[k])
            for step in np.unique(steps)
        ]
        return steps[best] * self.step(exponents[-1]), 2 * noises[best], truncations[best]

    def step(self, exponent: int) -> float:
        """The length of the step with this exponent."""
        return float(self.unit * 2.0 ** (exponent / 2))


def search_steps(
    search: StepSearch,
    *,
    start: tuple[int, ...] = START_EXPONENTS,
    goal: float = 0.0,
    last: int = WIDEST_EXPONENT,
) -> Slope | None:
    """The slope along the line, from as many steps as it takes.

    Args:
        search: the line; it may hold values already.
        start: the exponents of the first steps.
        goal: an error bar that is small enough.
        last: the exponent of the longest step.
    """
    search.evaluate(start)
    _descend_to_finite(search)
    best, idle = search.slope(), 0
    while (
        best is not None
        and best.error > goal
        and idle < PATIENCE
        and len(search.pairs) < MOST_STEPS
    ):
        seen = len(search.pairs)
        search.evaluate(
            [
                exponent
                for exponent in _next_exponents(search, best, stalled=idle > 0)
                if exponent <= last
            ]
        )
        found = search.slope()
        assert found is not None  # values are only added
        if len(search.pairs) == seen:
            break  # no further step moves anything, or has a finite value
        resolvable = not search.at_kink(found)  # no smaller step resolves a kink at 0
        if found.error < WORTHWHILE_PART * best.error or (_is_unknown(found) and resolvable):
            idle = 0
        elif _noise_is_negligible(found) and resolvable:
            idle = 1  # much smaller steps will lie below a kink near 0, sooner or later
        else:
            idle += 1
        best = found
    if best is None or search.at_kink(best):
        return best
    if best.error > max(goal, SHARP_ENOUGH * abs(best.value)):
        search.evaluate([exponent for exponent in _gaps(search, best) if exponent <= last])
        best = search.slope()
    return best


def _descend_to_finite(search: StepSearch) -> None:
    """Adds smaller steps until enough of them have finite values."""
    while len(search.pairs) < FEWEST_PAIRS:
        lowest = min((*search.pairs, *search.without_value))
        if lowest < NARROWEST_EXPONENT:
            return
        search.evaluate([lowest - 4])


def _next_exponents(search: StepSearch, best: Slope, *, stalled: bool) -> list[int]:
    """Steps that may improve the best slope: smaller where truncation dominates, else larger.

    Where nothing is known of the slope yet, a new cluster of much smaller steps is tried; likewise
    where steps just below have not helped although noise would allow it, as with a kink there.
    """
    low, high = search.step_exponents[0], search.step_exponents[-1]
    curved = best.truncation > CURVED_RATIO * 2 * best.noise
    if curved and best.truncation > UNKNOWN_PART * abs(best.value):
        return [low - 6, low - 8, low - 10]
    if _is_kinked(best):  # at 0 or near it: steps below its distance tell which
        return [low - 12, low - 14, low - 16]
    if curved and stalled and _noise_is_negligible(best):
        return [low - 6, low - 8, low - 10]
    missing = _first_hole(search, best)
    if missing:
        return missing
    if curved:
        return [low - 2]
    if high >= (
        WIDEST_EXPONENT if _has_moved(search) else WIDEST_UNSEEN_EXPONENT
    ) or _moved_far_beyond_noise(search, best):
        return []
    return [high + 2, high + 4] if _is_unknown(best) else [high + 2]


def _has_moved(search: StepSearch) -> bool:
    """Whether any step has moved the function beyond its noise.

    Where none has, it may have a slope and yet bend before that can be seen: steps beyond the size
    of what is moved would then show a slope of 0 that is not there.
    """
    values = [value for pair in search.pairs.values() for value in pair[2:]]
    return any(abs(v - search.value_at_0) > SEEN_NOISES * search.noise.at(v) for v in values)


def _first_hole(search: StepSearch, best: Slope) -> list[int]:
    """Steps in the first hole above the nearest step of the best window."""
    exponents = search.step_exponents[best.first :]
    for near, far in pairwise(exponents):
        inside = [
            exponent
            for exponent in range(near + 2, far - 1, 2)
            if exponent not in search.without_value
        ]
        if inside:
            return inside[:2]
    return []


def _is_kinked(best: Slope) -> bool:
    """Whether a kink makes up most of the error bar."""
    return best.kink > best.error / 2


def _noise_is_negligible(best: Slope) -> bool:
    """Whether noise hardly contributes to the error bar, so that steps may be much smaller."""
    return 2 * best.noise < NOISE_ROOM * best.error


def _is_unknown(best: Slope) -> bool:
    return best.error > UNKNOWN_PART * abs(best.value)


def _moved_far_beyond_noise(search: StepSearch, best: Slope) -> bool:
    """Whether f moves so far beyond its noise that a slope still unknown is 0 in comparison."""
    values = search.pairs[search.step_exponents[best.last]][2:]
    moved = max(abs(value - search.value_at_0) for value in values)
    return _is_unknown(best) and moved > VARIED_NOISES * search.noise.deviation


def _gaps(search: StepSearch, best: Slope) -> list[int]:
    """Steps between those of the best window."""
    window = search.step_exponents[best.first : best.last + 1]
    return [
        exponent
        for exponent in range(window[0] - 2, window[-1] + 2)
        if exponent not in search.pairs
    ]
