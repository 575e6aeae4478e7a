"""How far a gradient agrees with the numerical one, tensor by tensor, also up to a factor.

A fault in all tensors alike, as a norm that is clipped, hides no other one where a tensor counts as
nearly right once it is a multiple of the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck import REJECTION_BARS, discrepancy
from throughtime.source.lines.trials import Measured
from throughtime.source.tolerances import (
    LARGEST_PART,
    NEAR,
    NOTHING,
    SAME_FACTOR,
    SMALL_PART,
)

WRONG, MULTIPLE, SIMPLE, EQUAL = 0, 1, 2, 3  # in rising order
WEIGHTS = (0.0, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Agreement:
    """How far a tensor agrees.

    Attributes:
        level: WRONG; MULTIPLE or SIMPLE: all its products are the same multiple of the right
            ones, SIMPLE a fraction of small whole numbers; EQUAL.
        ratio: the multiple; NaN where there is none.
        discrepancy: as in a report.
        apart: how far off it is, whatever its factor, from 0 to 1.
    """

    level: int
    ratio: float
    discrepancy: float
    apart: float = 1.0


def compared(
    products: Mapping[str, Array] | None, truth: Mapping[str, Measured], near: float = NEAR
) -> dict[str, Agreement]:
    """Each tensor's agreement, up to `near` of its size; all are wrong where a version failed."""
    if products is None:
        return {name: Agreement(WRONG, np.nan, 1.0) for name in truth}
    largest = max(float(np.abs(m.values).max(initial=0.0)) for m in truth.values())
    nothing = near * NOTHING / NEAR * largest
    return {name: _compared(products[name], m, near, nothing) for name, m in truth.items()}


def _compared(found: Array, truth: Measured, near: float, nothing: float) -> Agreement:
    values = truth.values
    size = float(np.abs(values).max(initial=0.0))
    margin = REJECTION_BARS * truth.errors + near * size + nothing
    d = discrepancy(found, values)
    if (np.abs(found - values) <= margin).all():
        return Agreement(EQUAL, 1.0, d)
    square = float(values @ values)
    if size <= nothing:
        return Agreement(WRONG, np.nan, d)
    ratio = float(found @ values) / square
    if len(values) < 2:  # any number is a multiple of any other, and few are so by a small one
        simple = _is_simple(ratio, SMALL_PART)
        return Agreement(SIMPLE, ratio, d) if simple else Agreement(WRONG, np.nan, d)
    if not ratio or (np.abs(found - ratio * values) > abs(ratio) * margin).any():
        size = float(np.linalg.norm(found))
        apart = float(np.linalg.norm(found - ratio * values)) / size if size else 1.0
        return Agreement(WRONG, np.nan, d, apart)
    return Agreement(SIMPLE if _is_simple(ratio) else MULTIPLE, ratio, d)


def _is_simple(ratio: float, largest: int = LARGEST_PART) -> bool:
    """Whether a number is a fraction of small whole numbers.

    Example:
        >>> _is_simple(-2 / 7), _is_simple(0.3217)
        (True, False)
    """
    size = abs(ratio)
    if not 1e-6 < size < 1e6:
        return False
    near = Fraction(min(size, 1 / size)).limit_denominator(largest)
    return near > 0 and abs(float(near) / min(size, 1 / size) - 1) < SAME_FACTOR


def score(agreements: Mapping[str, Agreement]) -> float:
    """The tensors that agree, those that do up to a factor counted in part."""
    return sum(WEIGHTS[agreement.level] for agreement in agreements.values())


def worse_somewhere(before: Mapping[str, Agreement], after: Mapping[str, Agreement]) -> bool:
    """Whether any tensor agrees less than before."""
    return any(after[name].level < before[name].level for name in before)
