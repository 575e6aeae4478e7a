"""How far two gradients are apart."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array


def discrepancy(gradient: Array, numerical: Array) -> float:
    """d = ‖g − n‖₂ / (‖g‖₂ + ‖n‖₂), from 0 (equal) to 1 (opposite); 0 where both vanish.

    A gradient k times too large or too small, with every sign right, has d = |k − 1| / (k + 1):
    one that was averaged over T = 39 steps has 38 / 40.

    Example:
        >>> import numpy as np
        >>> round(discrepancy(np.array([1.0, 2.0]), np.array([39.0, 78.0])), 12)
        0.95
    """
    return _ratio(gradient - numerical, gradient, numerical)


def floor(error: Array, gradient: Array, numerical: Array) -> float:
    """The discrepancy that errors of this size alone would give."""
    return _ratio(error, gradient, numerical)


def _ratio(above: Array, gradient: Array, numerical: Array) -> float:
    below = float(np.linalg.norm(gradient) + np.linalg.norm(numerical))
    return float(np.linalg.norm(above)) / below if below else 0.0
