"""`tt.flow`: where the gradient goes, through time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from throughtime import checking, gradient_flow
from throughtime.arrays import refuse
from throughtime.bridges.torch_flow import module_flow
from throughtime.gradient_flow import network_flow
from throughtime.network import Network
from throughtime.report.flow_figures import lag_heatmap
from throughtime.report.flow_page import flow_page
from throughtime.targets.torch_module import is_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Flow", "flow"]


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


def flow(what: object, *data: Any, **options: Any) -> Flow:
    """Where does the gradient go, through time, and what follows from it?

    Args:
        what: a Network, followed by its inputs and targets; or a torch module that is or contains
            an `nn.RNN`, `nn.LSTM` or `nn.GRU`, followed by its inputs.
        data: inputs (T, B, I) or class indices (T, B), and targets, as its loss wants them; for a
            torch module what it is called with.
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
        return Flow(**vars(module_flow(what, *data, **options)))
    if not isinstance(what, Network):
        expected = "a Network or a torch module"
        refuse("flow", expected, type(what).__name__, error=TypeError)
    if len(data) != 2:
        refuse("flow", "a Network, inputs and targets", f"{len(data)} arrays", error=TypeError)
    return Flow(**vars(network_flow(what, *data, **options)))
