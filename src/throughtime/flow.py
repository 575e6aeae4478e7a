"""`tt.flow`: where the gradient goes, through time."""

from __future__ import annotations

from typing import Any

from throughtime.arrays import refuse
from throughtime.gradient_flow import Flow, network_flow
from throughtime.network import Network

__all__ = ["Flow", "flow"]


def flow(what: object, *data: Any, **options: Any) -> Flow:
    """Where does the gradient go, through time, and what follows from it?

    Args:
        what: a Network, followed by its inputs and targets.
        data: inputs (T, B, I) or class indices (T, B), and targets, as its loss wants them.
        options: those of `throughtime.gradient_flow.network_flow`.

    Returns:
        a Flow: `.lag_norms`, `.carousel_share`, `.verdict`, `.advice`; print it.

    Raises:
        ValueError, TypeError: for what is no network with a recurrent layer and a loss, or for
            data that do not fit it.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
        >>> x, y = np.ones((9, 2, 2)), np.zeros((9, 2, 3))
        >>> found = tt.flow(net, x, y)
        >>> found.lag_norms.shape, found.carousel_share.shape
        ((9, 9), (9,))
        >>> found.verdict
        'healthy'
    """
    if not isinstance(what, Network):
        refuse("flow", "a Network", type(what).__name__, error=TypeError)
    if len(data) != 2:
        refuse("flow", "a Network, inputs and targets", f"{len(data)} arrays", error=TypeError)
    return network_flow(what, *data, **options)
