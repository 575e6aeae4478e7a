"""The squashing functions, and their derivatives in terms of the value they returned."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array


def sigmoid(z: Array) -> Array:
    """σ(z) = 1 / (1 + exp(−z)); exp overflows to infinity below −709, which gives the right 0."""
    with np.errstate(over="ignore"):
        s: Array = 1 / (1 + np.exp(-z))
    return s


def sigmoid_slope(s: Array) -> Array:
    """dσ/dz = s(1 − s) for s = σ(z)."""
    slope: Array = s * (1 - s)
    return slope


def tanh_slope(a: Array) -> Array:
    """d tanh/dz = 1 − a² for a = tanh z."""
    return 1 - a * a


def relu(z: Array) -> Array:
    """max(z, 0)."""
    s: Array = np.maximum(z, 0)
    return s


def relu_slope(s: Array) -> Array:
    """1 where s = relu(z) is above 0, else 0: at the kink itself, the slope from the left."""
    return (s > 0).astype(s.dtype)
