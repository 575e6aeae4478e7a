"""Functions for a cell's equations that NumPy does not have; of arrays as of traced values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from throughtime import functions
from throughtime.equations.tracing import Traced, apply, traced


def sigmoid(x: Any) -> Any:
    """σ(x) = 1 / (1 + exp(−x)).

    Example:
        >>> float(sigmoid(0.0))
        0.5
    """
    return apply("sigmoid", x) if traced(x) else functions.sigmoid(x)


def relu(x: Any) -> Any:
    """max(x, 0); its slope at 0 is 0.

    Example:
        >>> relu(np.array([-1.0, 2.0]))
        array([0., 2.])
    """
    return apply("relu", x) if traced(x) else functions.relu(x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), which does not overflow.

    Example:
        >>> float(softplus(1000.0))
        1000.0
    """
    return apply("softplus", x) if traced(x) else np.logaddexp(0, x)


def gelu(x: Any) -> Any:
    """The Gaussian error linear unit in its form with tanh (Hendrycks and Gimpel 2016).

    Example:
        >>> round(float(gelu(1.0)), 4)
        0.8412
    """
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x: Any) -> Any:
    """exp(x) / Σ exp(x) over the last axis.

    Example:
        >>> softmax(np.zeros(4))
        array([0.25, 0.25, 0.25, 0.25])
    """
    if traced(x):
        return apply("softmax", x)
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def logsumexp(x: Any) -> Any:
    """log Σ exp(x) over the last axis, which does not overflow.

    Example:
        >>> float(logsumexp(np.array([1000.0, 1000.0])))
        1000.6931471805599
    """
    top = np.max(x, axis=-1, keepdims=True)
    # The largest value is subtracted and added again; through it no gradient has to flow.
    top = stop_gradient(top)
    return np.log(np.sum(np.exp(x - top), axis=-1)) + np.sum(top, axis=-1)


def stop_gradient(x: Any) -> Any:
    """`x`, which the backward pass takes for a constant.

    Example:
        >>> stop_gradient(2.0)
        2.0
    """
    return apply("stop_gradient", x) if traced(x) else x


def surrogate(forward: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function whose slope in the backward pass is another function.

    A spike, which is 0 or 1, has the slope 0 everywhere; learning needs a surrogate (Neftci et al.
    2019).

    Args:
        forward: of x, the value.
        slope: of x, what stands for the derivative.

    Example:
        >>> spike = surrogate(lambda x: np.where(x > 0, 1.0, 0.0), lambda x: 1 / (1 + np.abs(x))**2)
        >>> spike(np.array([-1.0, 2.0]))
        array([0., 1.])
    """

    def applied(x: Any) -> Any:
        value = forward(x)
        return apply("surrogate", value, x, slope(x)) if isinstance(x, Traced) else value

    return applied
