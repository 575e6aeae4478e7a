"""The functions that cells are made of: activations, and products with the inputs of all steps.

The derivatives of activations are in terms of the value that the activation returned.

Inputs are numbers (T, B, I), or class indices (T, B) that stand for one-hot vectors: then
W x is a column of W, and no one-hot array is built.
"""

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


def is_indices(inputs: Array) -> bool:
    """Whether `inputs` holds class indices rather than numbers."""
    return inputs.dtype.kind in "iu"


def rows(array: Array) -> Array:
    """(T, B, N) as (T·B, N)."""
    return array.reshape(-1, array.shape[-1])


def outer_sum(left: Array, right: Array) -> Array:
    """Σ over steps and sequences of left_t right_tᵀ: (T, B, M), (T, B, N) -> (M, N)."""
    return rows(left).T @ rows(right)


def product(W: Array, inputs: Array) -> Array:
    """W x_t for every step: (N, I), (T, B, I) or indices (T, B) -> (T, B, N)."""
    if is_indices(inputs):
        columns: Array = np.ascontiguousarray(W.T)[inputs]
        return columns
    return (rows(inputs) @ W.T).reshape(*inputs.shape[:-1], W.shape[0])


def weight_gradient(dz: Array, inputs: Array, classes: int) -> Array:
    """δW = Σ_t δz_t x_tᵀ: one matrix serves all steps, so its gradient sums over them.

    (T, B, N), inputs -> (N, I). For indices the sum goes to the column of each class.
    """
    if not is_indices(inputs):
        return outer_sum(dz, inputs)
    order = np.argsort(inputs, axis=None, kind="stable")
    present, starts = np.unique(inputs.ravel()[order], return_index=True)
    dW = np.zeros((classes, dz.shape[-1]), dz.dtype)
    dW[present] = np.add.reduceat(rows(dz)[order], starts, axis=0)
    return dW.T


def input_gradient(dz: Array, W: Array) -> Array:
    """δx_t = Wᵀ δz_t for every step: (T, B, N), (N, I) -> (T, B, I)."""
    return (rows(dz) @ W).reshape(*dz.shape[:-1], W.shape[1])
