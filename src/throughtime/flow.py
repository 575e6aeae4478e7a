"""`tt.flow` and `tt.first_nonfinite`: where the gradient goes, and where NaN comes from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from throughtime import checking, gradient_flow
from throughtime.arrays import positive, refuse
from throughtime.bridges.torch_flow import evenly, module_flow
from throughtime.bridges.torch_nonfinite import first_in_module
from throughtime.gradient_flow import network_flow
from throughtime.network import Network
from throughtime.nonfinite import NonFinite, first_in_network
from throughtime.report.flow_figures import lag_heatmap
from throughtime.report.flow_page import flow_page
from throughtime.targets.torch_module import is_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Flow", "NonFinite", "first_nonfinite", "flow"]


class Flow(gradient_flow.Flow):
    """What was found about a flow; `print` it, plot it, or write it as JSON or HTML."""

    __doc__ = gradient_flow.Flow.__doc__

    def plot(self, ax: Axes | None = None) -> Axes:
        """Gradients by loss and lag, as `tt.plots.lag_heatmap`; needs `throughtime[report]`."""
        return lag_heatmap(self, ax)

    def to_html(
        self, path: str | os.PathLike[str], *, check: checking.Report | None = None
    ) -> None:
        """Writes one self-contained page; needs `throughtime[report]`.

        Args:
            path: of the file.
            check: from `tt.check`, of the same network's gradient, to stand on the same page.
        """
        flow_page(self, path, check)


def flow(what: object, *data: Any, sequences: int | None = None, **options: Any) -> Flow:
    """Where does the gradient go, through time, and what follows from it?

    Args:
        what: a Network, followed by its inputs and targets; or a torch module that is or contains
            an `nn.RNN`, `nn.LSTM` or `nn.GRU`, followed by its inputs.
        data: inputs (T, B, I) or class indices (T, B), and targets, as its loss wants them; for a
            torch module what it is called with.
        sequences: look at so many of the B sequences only, evenly chosen.
        options: those of `throughtime.gradient_flow.network_flow`, for a torch module those of
            `throughtime.bridges.torch_flow.module_flow`: `loss`, which gives the loss of each
            step, and `of`, the recurrent module's name.

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
    if is_module(what):
        return Flow(**vars(module_flow(what, *data, sequences=sequences, **options)))
    if not isinstance(what, Network):
        expected = "a Network or a torch module"
        refuse("flow", expected, type(what).__name__, error=TypeError)
    if len(data) != 2:
        refuse("flow", "a Network, inputs and targets", f"{len(data)} arrays", error=TypeError)
    if sequences is not None:
        data, options = _some(positive("sequences", sequences), data, options)
    return Flow(**vars(network_flow(what, *data, **options)))


def _some(
    count: int, data: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arrays of at most `count` sequences."""
    arrays = [np.asarray(array) for array in data]
    if min(array.ndim for array in arrays) < 2:
        return data, options  # refused, with the reason, where it is looked at
    chosen = evenly(arrays[0].shape[1], count)
    rest = dict(options)
    if rest.get("state") is not None:
        rest["state"] = {n: np.asarray(part)[chosen] for n, part in rest["state"].items()}
    if rest.get("lengths") is not None:
        rest["lengths"] = np.asarray(rest["lengths"])[chosen]
    return tuple(array[:, chosen] for array in arrays), rest


def first_nonfinite(what: object, *data: Any, **options: Any) -> NonFinite | None:
    """Which value of a run became NaN or infinite first, and what was it made of?

    The run is made again and looked at in the order in which it is computed: parameters, inputs,
    of each recurrent layer step by step the pre-activations, gates, c and h, then outputs, loss,
    and the derivatives on the way back.

    Args:
        what: a Network, followed by its inputs and targets (options `state`, `lengths`,
            `dropout_seed`); or a torch module, followed by its inputs (options `loss`, a function
            of its outputs, and `of`, the name of one recurrent module).
        data: what follows it; without targets or `loss` the way back is left out.

    Returns:
        a NonFinite: `.step`, `.sequence`, `.gate`, `.value`, `.sources`; print it. None where every
        number is finite.

    Raises:
        TypeError: for what is neither.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.RNN(1, 1, "relu")], dtype="float32", seed=0)
        >>> net.parameters["0.W"], net.parameters["0.U"] = [[1.0]], [[1e13]]
        >>> print(tt.first_nonfinite(net, np.ones((9, 2, 1), np.float32)))
        layer 0 (RNN), step 3, sequence 0, gate s, unit 0: pre-activation 1e+39, beyond float32,
        from W x = 1, U h = 1e+39, b = 0
    """
    if is_module(what):
        return first_in_module(what, *data, **options)
    if not isinstance(what, Network):
        expected = "a Network or a torch module"
        refuse("first_nonfinite", expected, type(what).__name__, error=TypeError)
    if not data:
        refuse("first_nonfinite", "a Network and its inputs", "no inputs", error=TypeError)
    return first_in_network(what, *data, **options)
