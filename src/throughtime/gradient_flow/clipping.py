"""Clipping: whether a threshold binds, and one from the distribution of the gradient's norms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.tolerances import (
    CLIPPING_WINDOWS,
    FEW_CLIPPING_WINDOWS,
    USUAL_NORM_QUANTILE,
)
from throughtime.network import Network, differentiate_window
from throughtime.parameters import Parameters


@dataclass(frozen=True)
class Clipping:
    """Norms of the gradients that training in windows of this length would see.

    Attributes:
        window: steps of a window; None where they are the caller's own.
        norms: (n,), ‖∇‖₂ of each, at the parameters as they are.
        threshold: the norm that nine of ten stay below: it leaves the ordinary update alone and
            stops the rare large one.
        given: the threshold that was asked about, or None.
        binds: the share of windows that it would clip; NaN without one.
        ratio: largest norm over the median: how heavy the tail is.
    """

    window: int | None
    norms: Array = field(repr=False)
    threshold: float
    given: float | None
    binds: float
    ratio: float

    @property
    def few(self) -> bool:
        """Whether there are too few windows to speak of a distribution."""
        return len(self.norms) < FEW_CLIPPING_WINDOWS


def advise_clipping(
    network: Network, inputs: Array, targets: Array, window: int, given: float | None
) -> Clipping | None:
    """Differentiates windows one after another, as TBPTT would, without updating anything.

    None where no gradient is left, or one overflows: then there is nothing to clip at.
    """
    state: Parameters | None = None
    norms: list[float] = []
    for begin in range(0, len(inputs), window)[:CLIPPING_WINDOWS]:
        part = slice(begin, begin + window)
        if len(inputs[part]) < window and norms:
            break  # a shorter last one is of another kind
        _, gradient, tape = differentiate_window(network, inputs[part], targets[part], state=state)
        state = network.state_after(tape, len(inputs[part]))
        norms.append(gradient.norm())
    return clipping_of(norms, window, given)


def clipping_of(norms: list[float], window: int | None, given: float | None) -> Clipping | None:
    """From the norms of some windows' gradients; None as above."""
    found = np.array(norms)
    if not (found.any() and np.isfinite(found).all()):
        return None
    binds = float((found > given).mean()) if given is not None else np.nan
    median = float(np.median(found))
    ratio = float(found.max() / median) if median > 0 else np.inf  # most are 0
    usual = float(np.quantile(found, USUAL_NORM_QUANTILE))
    return Clipping(window, found, usual, given, binds, ratio)
