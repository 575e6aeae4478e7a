"""Clipping by global norm (Pascanu, Mikolov and Bengio 2013)."""

from __future__ import annotations

import math
from typing import NamedTuple

from throughtime.arrays import refuse
from throughtime.parameters import Parameters


class Norms(NamedTuple):
    """‖g‖₂ of a gradient before and after clipping."""

    before: float
    after: float


def clip(gradient: Parameters, largest: float | None, norm: float | None = None) -> Norms:
    """Scales the whole gradient, in place, so that its norm is at most `largest`.

    Args:
        gradient: finite; it keeps its direction.
        largest: the largest norm allowed, above 0; None clips nothing.
        norm: ‖g‖₂, where it is known already.

    Returns:
        the norm before and after.

    Example:
        >>> import throughtime as tt
        >>> from throughtime.training import clip
        >>> g = tt.Parameters({"W": (2,)}, dtype="float64")
        >>> g["W"] = [3.0, 4.0]
        >>> clip(g, 1.0)
        Norms(before=5.0, after=1.0)
        >>> g["W"]
        array([0.6, 0.8])
    """
    if largest is not None and not largest > 0:
        refuse("clip", "a norm above 0, or None", largest)
    before = gradient.norm() if norm is None else norm
    if not math.isfinite(before):
        refuse("gradient", "a finite norm", before)
    if largest is None or before <= largest:
        return Norms(before, before)
    gradient *= largest / before
    return Norms(before, gradient.norm())
