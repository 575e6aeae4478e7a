"""Whether slopes from short steps account for how a function changes over a long move.

A function that is rounded on the way may have a slope from short steps that is exact to many
digits and yet not its own: what is rounded stands still within a tread, and jumps elsewhere. Over
a move it jumps all the same. So slopes from short steps, integrated over the move, miss the jumps;
of a function without stairs they miss nothing, however it bends.
"""

from __future__ import annotations

import numpy as np

from throughtime.derivatives.tolerances import NEAR_NODES, NEAR_STEP
from throughtime.derivatives.values import LineFunction


def change_beyond_slopes(
    function: LineFunction, value_at_0: float, length: float, longest_step: float = np.inf
) -> float:
    """How far a function's changes are from the integrals of its slopes, at the most.

    Each half of the move to either side is looked at by itself, so that what is even does not
    cancel.

    Args:
        function: gives the value at a step.
        value_at_0: its value at 0.
        length: the length of the move, on either side of 0.
        longest_step: of a slope; that of the slope at 0 which is in question, since longer ones may
            see across the treads in which it lies.

    Returns:
        the largest difference over the four parts, in units of the function; NaN where it has no
        value on the way.

    Example:
        >>> import numpy as np
        >>> from throughtime.derivatives.values import FunctionValue
        >>> def smooth(step):
        ...     value = np.tanh(3 * step)
        ...     return FunctionValue(step, value, value)
        >>> change_beyond_slopes(smooth, 0.0, 2.0) < 1e-4
        True
        >>> def stairs(step):
        ...     value = np.tanh(3 * step) + round(10 * step) / 10
        ...     return FunctionValue(step, value, value)
        >>> change_beyond_slopes(stairs, 0.0, 2.0) > 0.9
        True
    """
    nodes, weights = np.polynomial.legendre.leggauss(NEAR_NODES)
    step = min(NEAR_STEP * length, longest_step)
    corners = {0.0: value_at_0}
    corners |= {part: function(part * length).value for part in (-1.0, -0.5, 0.5, 1.0)}
    missing = []
    for left in (-1.0, -0.5, 0.0, 0.5):
        places = length * (left + (nodes + 1) / 4)
        pairs = [(function(place - step), function(place + step)) for place in places]
        slopes = [
            (high.value - low.value) / (high.step - low.step) if high.step > low.step else np.nan
            for low, high in pairs
        ]
        change = corners[left + 0.5] - corners[left]
        missing.append(abs(change - length / 4 * float(weights @ np.array(slopes))))
    return float(np.max(missing))
