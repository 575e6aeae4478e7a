"""How often a gradient counts each step's part, where shorter runs tell what these parts are.

Where all states are 0 and a share r of δ goes back a step past the recurrent weights, step t's own
part e_t reaches the gradient of a bias from each of the steps 1 … t: it counts 1 + r + … + r^{t−1}
times. So the numerical derivatives at the lengths 1 … T give e_1 … e_T, and a fault that counts
them otherwise is known by its counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.observed import LIMIT, Observed
from throughtime.diagnosis.simple_points import TELLING, columns

Counts = Callable[[int, float], Sequence[float]]
"""T and r to a number a step."""

NEAR, FAR = 4 * LIMIT, 8 * LIMIT  # error bars: closer is the same, further is another


def right_counts(T: int, r: float) -> list[float]:
    """1, 1 + r, 1 + r + r², …"""
    return [sum(r**k for k in range(t)) for t in range(1, T + 1)]


def fitting(
    seen: Sequence[Observed],
    weights: Sequence[float],
    r: float,
    faults: Mapping[str, Counts],
    right: Counts = right_counts,
    where: Array | None = None,
) -> list[str]:
    """Those of the names whose counts give the gradient at the longest length.

    Args:
        seen: the same entries at T = 1, 2, …
        weights: of a term in the loss at these lengths, by that at T = 1.
        r: see the module.
        faults: counts by name.
        right: the counts without a fault.
        where: which of the entries; all of them without it.
    """
    rows = [
        tuple(column if where is None else column[where] for column in columns(one)) for one in seen
    ]
    g, n, bars = rows[-1]
    parts, unsure = _own_parts(rows, weights, right(len(seen), r))
    known = np.isfinite(bars) & np.isfinite(unsure).all(axis=0)
    found: list[str] = []
    for name, counts in faults.items():
        a = weights[-1] * np.array(counts(len(seen), r))
        expected, width = a @ parts, bars + np.abs(a) @ unsure
        width = np.maximum(width, TELLING * np.abs(n).max(initial=0.0))
        fits = (np.abs(g - expected) <= NEAR * width)[known].all()
        tells = (np.abs(n - expected) > FAR * width)[known].any()
        if fits and tells:
            found.append(name)
    return found


def _own_parts(
    rows: Sequence[tuple[Array, ...]], weights: Sequence[float], counts: Sequence[float]
) -> tuple[Array, Array]:
    """e_t of every step and their error bars, (T, entries)."""
    parts, unsure = [], []
    before = further = np.zeros(len(rows[0][0]))
    for (_, n, bars), weight, count in zip(rows, weights, counts, strict=True):
        parts.append((n / weight - before) / count)
        unsure.append((bars / weight + further) / count)
        before, further = n / weight, bars / weight
    return np.array(parts), np.array(unsure)
