"""Figures of a flow. Each function takes `ax=None` and returns the Axes.

They need matplotlib: `pip install matplotlib jinja2`. Colour-blind readers can tell the colours
apart; lines differ in their dashes, too. `save` writes the figure that the Axes belong to.

Example:
    >>> import numpy as np
    >>> import throughtime as tt
    >>> net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
    >>> flow = tt.flow(net, np.ones((9, 2, 2)), np.zeros((9, 2, 3)))
    >>> ax = tt.plots.carousel(flow)
    >>> ax.get_ylabel()
    'share of ∂Eₜ/∂cₖ (%)'
"""

from throughtime.report.figures import save_figure as save
from throughtime.report.flow_figures import (
    carousel,
    gate_histogram,
    lag_heatmap,
    lag_profile,
    lyapunov,
    singular_values,
    time_constants,
    truncation_bias,
)

__all__ = [
    "carousel",
    "gate_histogram",
    "lag_heatmap",
    "lag_profile",
    "lyapunov",
    "save",
    "singular_values",
    "time_constants",
    "truncation_bias",
]
