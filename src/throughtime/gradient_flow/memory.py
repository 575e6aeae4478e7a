"""How long a memory the data ask for, as far as inputs and targets tell by themselves."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import is_indices
from throughtime.gradient_flow.tolerances import (
    MEMORY_COLUMNS,
    MEMORY_DRAWS,
    MEMORY_LAGS,
    MEMORY_STEPS,
)


def data_memory(
    inputs: Array, targets: Array, max_lag: int, rng: np.random.Generator
) -> int | None:
    """The longest lag l at which x_{t−l} tells of the target at t beyond chance, linearly.

    Compares Σ (covariance of x_{t−l} and y_t)² with what it is where inputs and targets belong to
    different sequences, or, where there is one sequence, to different times: a lag counts that
    exceeds the largest of all lags in all of 20 such draws, about 95 % confidence for the whole.
    Of longer runs the first 4096 steps are looked at.

    Returns:
        the lag; None where there is none, which does not say that there is no memory: what takes
        two inputs together to tell shows in no single covariance.
    """
    x, y = _columns(inputs[:MEMORY_STEPS]), _columns(targets[:MEMORY_STEPS])
    if not x.size or not y.size:
        return None
    lags = min(max_lag, len(x) - 2, MEMORY_LAGS)
    if lags < 1:
        return None
    found = _covariances(x, y, lags)
    chance = 0.0
    for _ in range(MEMORY_DRAWS):
        chance = max(chance, float(_covariances(_elsewhere(x, rng), y, lags).max()))
    beyond = np.flatnonzero(found > chance)
    return int(beyond[-1]) if len(beyond) else None


def _covariances(x: Array, y: Array, lags: int) -> Array:
    """n Σ cov² of x_{t−l} with y_t by lag, n the number of pairs: by chance alike at all lags.

    Of all lags at once, as a product of Fourier transforms; with so many zeros behind them that
    no lag meets the other end.
    """
    T, B = x.shape[:2]
    unit = 2 ** max(0, int(np.log2(T + lags)) - 3)  # lengths with small factors are fast
    length = -(-(T + lags) // unit) * unit
    # Chance is coarser than single precision by far. (frequencies, B, columns)
    X, Y = (np.fft.rfft(one.astype(np.float32), length, axis=0) for one in (x, y))
    products = np.fft.irfft(X.conj().transpose(0, 2, 1) @ Y, length, axis=0)[: lags + 1]
    return np.asarray((products**2).sum(axis=(1, 2)) / ((T - np.arange(lags + 1)) * B))


def _elsewhere(x: Array, rng: np.random.Generator) -> Array:
    """The inputs of other sequences, or, of a single one, of another time."""
    T, B = x.shape[:2]
    shifted = x if T < 4 else np.roll(x, int(rng.integers(T // 4, T - T // 4 + 1)), axis=0)
    return shifted[:, rng.permutation(B)]


def _columns(values: Array) -> Array:
    """(T, B, at most 16) centred columns; classes as one-hot columns of the most frequent ones."""
    if is_indices(values) and values.ndim == 2:
        classes, counts = np.unique(values, return_counts=True)
        frequent = classes[np.argsort(-counts)[:MEMORY_COLUMNS]]
        array = (values[..., None] == frequent).astype(np.float64)
    else:
        array = values.astype(np.float64)
    array = array - array.mean(axis=(0, 1))
    if array.shape[2] > MEMORY_COLUMNS:  # the directions in which they vary most
        flat = array.reshape(-1, array.shape[2])
        _, vectors = np.linalg.eigh(flat.T @ flat)
        array = array @ vectors[:, -MEMORY_COLUMNS:]
    scale = array.std(axis=(0, 1))
    return np.asarray(array[..., scale > 0] / scale[scale > 0])
