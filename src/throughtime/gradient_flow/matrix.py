"""The lag matrix alone: how much of each loss reaches each past state, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from throughtime.arrays import Array, array_of, refuse
from throughtime.gradient_flow.batched_vjp import applies, measure_batched
from throughtime.gradient_flow.measure import measure
from throughtime.gradient_flow.walk import lines
from throughtime.network import Network, one_direction


def lag_matrix(
    network: Network,
    inputs: Array,
    targets: Array,
    *,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
) -> dict[str, Array]:
    """‖∂E_t/∂s_k‖ for all pairs of steps, averaged over sequences; `tt.flow` has all the rest.

    Args:
        network: with a loss and a recurrent layer, in one direction only.
        inputs, targets, state, lengths: as in `Network.loss_and_gradient`. Nothing is dropped out.

    Returns:
        part of the state of the recurrent layer nearest to the loss, "h" and for LSTM "c", to
        (T, T): row t, column k; 0 for k > t, NaN in rows without a loss. It takes O(T·B·H + T²)
        memory.

    Raises:
        ValueError, TypeError: for a network through which nothing flows, or data that do not fit.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> from throughtime.gradient_flow import lag_matrix
        >>> net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
        >>> x, y = np.ones((9, 4, 2)), np.zeros((9, 4, 3))
        >>> found = lag_matrix(net, x, y)
        >>> found["c"].shape, bool(np.allclose(found["c"], tt.flow(net, x, y).matrix("c")))
        ((9, 9), True)
    """
    one_direction(network)
    if not network.recurrent:
        refuse("network", "a recurrent layer", "none", "nothing flows through time")
    if network.loss is None:
        refuse("loss", "a loss", "none", "build the network with loss=…")
    outputs, _, tape = network.forward(inputs, state, lengths)
    run = lines(network, tape, network.loss_of(outputs, array_of("targets", targets), lengths))
    ends = np.arange(run.steps)
    way = measure_batched if applies(run, ends) else measure
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        norms = way(run, ends, run.steps - 1, ()).norms[run.top]
    return {part: _matrix(own.total, own.count) for part, own in norms.items()}


def _matrix(total: Array, count: Array) -> Array:
    """(T, L) by lag -> (T, T) by step."""
    T = len(total)
    t, k = np.tril_indices(T)
    found = np.zeros((T, T))
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    found[t, k] = mean[t, t - k]
    return found
