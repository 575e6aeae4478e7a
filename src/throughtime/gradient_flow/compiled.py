"""The compiled twin of the walk in `batched_vjp`: arrays are made here and handed over.

What it does is in native/lags.hpp: each sequence goes back through all its steps by itself, so that
the rows of its losses and one step's matrix stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array
from throughtime.cells import Cell
from throughtime.gradient_flow.measure import Norms

PARTS = ("h", "c")  # in the order of the twin


def walk_back(
    cell: Cell,
    U: Array,
    factors: Array,
    carry: Array | None,
    through_h: Array | None,
    arriving: Array,
    counted: Array,
    lags: int,
    starts: Sequence[int],
) -> tuple[dict[str, Norms], Array]:
    """All losses of a run, back over `lags` lags.

    Args:
        cell: one with a compiled twin.
        U: (G·H, H).
        factors: (T, B, G, H), of a gradient before it passes each gate's rows of U.
        carry: (T, B, H), the factor of c (LSTM) or h (GRU) past all gates.
        through_h: (T, B, H), LSTM: δc for δh within a step.
        arriving: (T, B, H), δh of every step from its own loss.
        counted: (T, B), whether there is such a loss.
        starts: lags at which stretches of lags begin, from 0; may be empty.

    Returns:
        norms by part of the state, and the rows added up over each stretch, (S, T, B, width), δc
        before δh.
    """
    T, B, H = arriving.shape
    parts = PARTS[: len(cell.state_specs)]
    total, squares = np.zeros((2, len(parts), T, lags))
    by_sequence = np.zeros((len(parts), lags, B))
    sums = _zeros(len(starts), T, B, len(parts) * H, arriving.dtype)
    if not counted.all():
        arriving = np.where(counted[..., None], arriving, arriving.dtype.type(0))
    arrays = [factors, carry, through_h, arriving]
    contiguous = [None if array is None else np.ascontiguousarray(array) for array in arrays]
    number = cell.engine_number
    assert number is not None
    begins = np.asarray(starts, np.intp) if len(starts) else None
    _engine.lags(number, begins, U, *contiguous, total, squares, by_sequence, sums)
    count, steps = _counts(counted, lags)
    return {
        part: Norms(total[n], squares[n], count.copy(), by_sequence[n], steps.copy())
        for n, part in enumerate(parts)
    }, sums


def _zeros(stretches: int, steps: int, batch: int, width: int, dtype: np.dtype[Any]) -> Array:
    """In memory that the engine keeps from one chunk of a run to the next."""
    found = _engine.empty(stretches * steps, batch, width, dtype == np.float64)
    found[...] = 0
    return found.reshape(stretches, steps, batch, width)


def _counts(counted: Array, lags: int) -> tuple[Array, Array]:
    """(T, L): sequences with a loss at t that reach lag l; (L, B): losses that do."""
    T = len(counted)
    there = np.arange(lags) <= np.arange(T)[:, None]
    count = np.where(there, counted.sum(axis=1)[:, None], 0.0)
    later = np.cumsum(counted[::-1], axis=0, dtype=np.float64)[::-1]  # row l: losses of t ≥ l
    return count, later[:lags]
