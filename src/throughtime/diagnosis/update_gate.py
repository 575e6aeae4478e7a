"""A GRU's update gate: its δ is δh times the difference of the two values that it mixes.

Where h_{t−1} is missing, and recurrent weights are 0, that gate's bias alone shows it. With
everything below the output layer at 0 the candidate n is 0 too, and what is left is h_0. With every
pre-activation at β, h_1 is (1 − k) n, where k, which is σ(β) or 1 − σ(β), is the share of the state
that is kept: the second step's δ is proportional to k, and without h_1 to 1.
"""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.factors import STEEP, ratio_of
from throughtime.diagnosis.inside import logistic
from throughtime.diagnosis.observed import LIMIT, Observed
from throughtime.diagnosis.places import BETA, Places, columns, parts

CLOSE = 1e-2  # float32 tells no more; the numbers it is held against lie further apart


def without_first_state(places: Places) -> str | None:
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


def without_later_state(places: Places, two: Observed, weight: float | None) -> str | None:
    """The same at T = 2, with every pre-activation at β and h_0 = 0.

    Args:
        places: where biases are looked at.
        two: seen there.
        weight: of the first step's term in the loss at T = 2, by that at T = 1; None where the
            loss looks at the last step alone.
    """
    one = places.biases(1, BETA) if places.gates == 3 else None
    if one is None or one.wrong():
        return None
    g, n, bars = columns(two)
    off = np.abs(g - n) > LIMIT * bars
    if off.sum() > places.study.roles.units:
        return None
    first = None
    if weight is not None:
        _, own, further = columns(one)
        first, bars = weight * own[off], bars + weight * further
    found = _share(g[off], n[off], bars[off], first)
    for kept in (logistic(BETA), 1 - logistic(BETA)):
        expected = (1 + kept) / (2 * kept)
        if found is not None and abs(found - expected) < CLOSE * expected:
            return (
                f"With T = 2, no inputs, recurrent weights at 0 and every bias at {BETA}, only "
                f"{int(off.sum())} entries of the biases are wrong: they are {found:.4g} times "
                f"what the second step gives, and without h_1 it is {expected:.4g}."
            )
    return None


def _share(g: Array, n: Array, bars: Array, first: Array | None) -> float | None:
    """How much of what the second step gives there is, where the first one's part is right."""
    if first is None:
        ratio = ratio_of(g, n, bars)
        return ratio.value if ratio.fits else None
    fitted = parts(g, first, n - first, bars)
    if fitted is None or abs(fitted[0] - 1) > CLOSE:
        return None
    return fitted[1]
