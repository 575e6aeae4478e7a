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
from throughtime.derivatives.values import LineFunction


@dataclass
class StepSearch:
    """The values of a function along a line, and the best slope that they give.

    Args:
        function: the function.
        value_at_0: its value at 0.
        noise: of its values.
        unit: the length of step 0.
    """

    function: LineFunction
    value_at_0: float
    noise: Noise
    unit: float
    pairs: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    raw: dict[float, float] = field(default_factory=dict)  # values as they came, by their place
    without_value: set[int] = field(default_factory=set)  # rungs without two finite values

    def evaluate(self, step_exponents: tuple[int, ...] | list[int]) -> None:
        """Evaluates the function at some rungs, on both sides."""
        for step_exponent in step_exponents:
            if step_exponent in self.pairs or step_exponent in self.without_value:
                continue
            step = self.unit * 2.0 ** (step_exponent / 2)
            above, high, raw_high = self.function(step)
            below, low, raw_low = self.function(-step)
            self.raw |= {above: raw_high, below: raw_low}
            if np.isfinite(high) and np.isfinite(low) and below < 0 < above:
                self.pairs[step_exponent] = (below, above, low, high)
            else:
                self.without_value.add(step_exponent)

    @property
    def step_exponents(self) -> tuple[int, ...]:
        """Those with finite values, by growing step."""
        return tuple(sorted(self.pairs))

    def slope(self) -> Slope | None:
        """The best slope so far; None where too few steps have finite values."""
        if len(self.pairs) < FEWEST_PAIRS:
            return None
        step_exponents = self.step_exponents
        return stencils(step_exponents).best(*self.quotients(step_exponents))

    def quotients(self, step_exponents: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
        """(f(h) − f(−h)) / 2h, (f(h) + f(−h) − 2 f(0)) / 2h; noise of f(±h), and of f(0).

        Where the two places are not quite symmetric, the slope leaks into the even part and the
        curvature into the odd one; both are taken out.
        """
        below, above, low, high = np.array(
            [self.pairs[step_exponent] for step_exponent in step_exponents]
        ).T
        width = above - below
        odd, lean = (high - low) / width, (above + below) / width
        even = ((high - self.value_at_0) + (low - self.value_at_0)) / width
        odd, even = odd - lean * even, even - lean * odd
        values = np.array([*low, *high, self.value_at_0])
        noise = np.array([self.noise.at(value) for value in values])
        pair = np.hypot(noise[: len(step_exponents)], noise[len(step_exponents) : -1]) / width
        return odd, even, pair, 2 * noise[-1] / width

    def at_kink(self, slope: Slope) -> bool:
        """Whether a kink at 0 makes the error bar of the slope what it is."""
        if not _is_kinked(slope):
            return False
        step_exponents = self.step_exponents
        _, even, noise, shared = self.quotients(step_exponents)
        return stencils(step_exponents).at_kink(even, noise, shared)

    def hidden_kink(self, slope: Slope) -> float:
        """Half the jump of the slope that may hide among the steps that gave it, at most."""
        step_exponents = self.step_exponents
        _, even, noise, shared = self.quotients(step_exponents)
        return stencils(step_exponents).hidden_kink(slope, even, noise, shared)

    def shared_rounding(self, slope: Slope) -> float:
        """What rounding may add to a slope where the values hardly move.

        There it is no chance: all of them may be rounded the same way, to the value at 0.
        """
        step_exponent = self.step_exponents[slope.last]
        moved = max(abs(value - self.value_at_0) for value in self.pairs[step_exponent][2:])
        place = max(self.noise.digits * self.noise.level, 3 * self.noise.deviation)
        return place / self.step(step_exponent) if moved < STUCK_ULPS * place else 0.0

    def levels(self) -> int:
        """How many different values came, that at 0 included."""
        return len({self.value_at_0, *self.raw.values()})

    def repeats(self) -> bool:
        """Whether the function came out the same at two neighbouring places."""
        values = [value for _, value in sorted({**self.raw, 0.0: self.value_at_0}.items())]
        return any(a == b for a, b in pairwise(values))

    def valley(self) -> tuple[Array, Array, Array]:
        """Farthest steps, and noise and truncation of the best window up to each of them."""
        step_exponents = self.step_exponents
        odd, _, noise, _ = self.quotients(step_exponents)
        steps, noises, truncations = stencils(step_exponents).valley(odd, noise)
        best = [
            min(np.flatnonzero(steps == step), key=lambda k: 2 * noises[k] + truncations[k])
            for step in np.unique(steps)
        ]
        return steps[best] * self.step(step_exponents[-1]), 2 * noises[best], truncations[best]

    def step(self, step_exponent: int) -> float:
        """The length of a rung's step."""
        return float(self.unit * 2.0 ** (step_exponent / 2))


def search_steps(
    search: StepSearch,
    *,
    start: tuple[int, ...] = START_EXPONENTS,
    goal: float = 0.0,
    last: int = WIDEST_EXPONENT,
) -> Slope | None:
    """The line's slope, from as many steps as it takes.

    Args:
        search: what to look at; it may hold values already.
        start: the first rungs.
        goal: an error bar that is small enough.
        last: the rung of the longest step.
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
                step_exponent
                for step_exponent in _next_exponents(search, best, stalled=idle > 0)
                if step_exponent <= last
            ]
        )
        found = search.slope()
        assert found is not None  # values are only added
        if len(search.pairs) == seen:
            break  # beyond the last step that moves anything, or has a finite value
        resolvable = not search.at_kink(found)  # no smaller step resolves a kink at 0
        if found.error < WORTHWHILE_PART * best.error or (_is_unknown(found) and resolvable):
            idle = 0
        elif _noise_is_negligible(found) and resolvable:
            idle = 1  # a kink near 0 is behind much smaller steps, sooner or later
        else:
            idle += 1
        best = found
    if best is None or search.at_kink(best):
        return best
    if best.error > max(goal, SHARP_ENOUGH * abs(best.value)):
        search.evaluate(
            [step_exponent for step_exponent in _gaps(search, best) if step_exponent <= last]
        )
        best = search.slope()
    return best


def _descend_to_finite(search: StepSearch) -> None:
    """Smaller steps until enough of them have finite values."""
    while len(search.pairs) < FEWEST_PAIRS:
        lowest = min((*search.pairs, *search.without_value))
        if lowest < NARROWEST_EXPONENT:
            return
        search.evaluate([lowest - 4])


def _next_exponents(search: StepSearch, best: Slope, *, stalled: bool) -> list[int]:
    """The rungs that may improve on the best slope: below where the curve rules, else above.

    Where nothing is known of the slope yet, or where steps just below have not helped though noise
    leaves room, which is what a kink between them does, a new cluster stands further off.
    """
    low, high = search.step_exponents[0], search.step_exponents[-1]
    curved = best.truncation > CURVED_RATIO * 2 * best.noise
    if curved and best.truncation > UNKNOWN_PART * abs(best.value):
        return [low - 6, low - 8, low - 10]
    if _is_kinked(best):  # at 0 or near it: steps below its distance tell
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

    Where none has, it may as well have a slope, and have bent before it could be seen: steps
    beyond the size of what is moved would show a slope of 0 that is not there.
    """
    values = [value for pair in search.pairs.values() for value in pair[2:]]
    return any(abs(v - search.value_at_0) > SEEN_NOISES * search.noise.at(v) for v in values)


def _first_hole(search: StepSearch, best: Slope) -> list[int]:
    """Rungs in the first hole above the best window's nearest one."""
    step_exponents = search.step_exponents[best.first :]
    for near, far in pairwise(step_exponents):
        inside = [
            step_exponent
            for step_exponent in range(near + 2, far - 1, 2)
            if step_exponent not in search.without_value
        ]
        if inside:
            return inside[:2]
    return []


def _is_kinked(best: Slope) -> bool:
    """Whether what looks like a kink makes most of the error bar."""
    return best.kink > best.error / 2


def _noise_is_negligible(best: Slope) -> bool:
    """Whether noise has next to no part in the error bar: much smaller steps can be taken."""
    return 2 * best.noise < NOISE_ROOM * best.error


def _is_unknown(best: Slope) -> bool:
    return best.error > UNKNOWN_PART * abs(best.value)


def _moved_far_beyond_noise(search: StepSearch, best: Slope) -> bool:
    """Whether f moves so far beyond its noise that a slope still hidden is 0 beside that."""
    values = search.pairs[search.step_exponents[best.last]][2:]
    moved = max(abs(value - search.value_at_0) for value in values)
    return _is_unknown(best) and moved > VARIED_NOISES * search.noise.deviation


def _gaps(search: StepSearch, best: Slope) -> list[int]:
    """Rungs between those of the best window."""
    window = search.step_exponents[best.first : best.last + 1]
    return [
        step_exponent
        for step_exponent in range(window[0] - 2, window[-1] + 2)
        if step_exponent not in search.pairs
    ]
