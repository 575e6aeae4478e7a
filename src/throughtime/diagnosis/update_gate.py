"""A GRU's update gate: its δ is δh times the difference of the two values that it mixes.

Where h_{t−1} is missing, and recurrent weights are 0, that gate's bias alone shows it. With
everything below the output layer at 0 the candidate n is 0 too, and what is left is h_0. With every
pre-activation at β, h_1 is (1 − k) n, where k, which is σ(β) or 1 − σ(β), is the share of the state
that is kept: h_1 − n is −k n, and without h_1 it is −n, as at the first step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.factors import STEEP, Ratio, ratio_of
from throughtime.diagnosis.inside import logistic
from throughtime.diagnosis.observed import LIMIT, Observed
from throughtime.diagnosis.simple_points import BETA, SimplePoints, columns
from throughtime.diagnosis.stepwise import Counts, fitting, right_counts

CLOSE = 1e-2  # float32 tells no more; the numbers it is held against lie further apart
KEPT = (logistic(BETA), 1 - logistic(BETA))
MISSING = "update_gate_term_missing"
COUNTS: dict[str, Counts] = {
    MISSING: right_counts,  # h_{t−1} − n is the same at every step, and so it is with
    "last_cache_at_every_step": lambda T, k: [k ** (T - 1) * a for a in right_counts(T, k)],
}


def without_first_state(places: SimplePoints) -> str | None:
    """A sentence where, at T = 1, a gate's bias lacks what h_0 gives to it."""
    seen = places.biases(1) if places.gates == 3 and places.useful else None
    if seen is None:
        return None
    g, n, bars = columns(seen)
    off = np.abs(g - n) > LIMIT * bars
    silent = (np.abs(g) <= bars) & (np.abs(n) > STEEP * bars)
    if not off.any() or off.sum() > places.study.roles.units or (off & ~silent).any():
        return None
    return (
        "At T = 1, with everything below the output layer at 0, the candidate is 0, and an update "
        f"gate's δ comes from h_0 alone: {int(off.sum())} entries of the biases have no gradient "
        "where the loss reacts to them; all others agree."
    )


def without_later_state(
    places: SimplePoints, two: Observed, weights: Sequence[float | None]
) -> str | None:
    """The same beyond T = 1, with every pre-activation at β and h_0 = 0.

    Args:
        places: where biases are looked at.
        two: seen there at T = 2.
        weights: of a term in the loss at T = 2 and T = 3, by that at T = 1; None where the loss
            looks at the last step alone.
    """
    one = places.biases(1, BETA) if places.gates == 3 else None
    if one is None or one.wrong():
        return None
    g, n, bars = columns(two)
    off = np.abs(g - n) > LIMIT * bars
    if off.sum() > places.study.roles.units:
        return None
    if weights[0] is None:
        told = _last_answer(ratio_of(g[off], n[off], bars[off]))
    else:
        told = _every_answer(places, [one, two], [1.0, *weights], off)
    if told is None:
        return None
    steps, said = told
    return (
        f"With T = {steps}, no inputs, recurrent weights at 0 and every bias at {BETA}, only "
        f"{int(off.sum())} entries of the biases are wrong: {said}"
    )


Told = tuple[int, str]
"""T, and what the entries are there."""


def _last_answer(ratio: Ratio) -> Told | None:
    for k in KEPT:
        expected = (1 + k) / (2 * k)
        if ratio.fits and abs(ratio.value - expected) < CLOSE * expected:
            return 2, f"{ratio} times what they should be; without h_1 it is {expected:.4g}."
    return None


def _every_answer(
    places: SimplePoints, seen: list[Observed], weights: Sequence[float | None], off: Array
) -> Told | None:
    for k in KEPT:
        known = [weight for weight in weights[:2] if weight is not None]
        found = fitting(seen, known, k, COUNTS, _right, off)
        three = places.biases(3, BETA) if len(found) > 1 and weights[2] is not None else None
        if three is not None and weights[2] is not None:
            found = fitting([*seen, three], [*known, weights[2]], k, COUNTS, _right, off)
        if found == [MISSING]:
            return 2 + (three is not None), "they are what they would be without h_{t−1}."
    return None


def _right(T: int, k: float) -> list[float]:
    """δ goes back by k a step, and h_{t−1} − n is k^{t−1} times what it was at first."""
    return [t * k ** (t - 1) for t in range(1, T + 1)]
