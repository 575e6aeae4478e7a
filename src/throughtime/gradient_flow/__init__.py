"""Where the gradient goes, through time: lags, carousel, Jacobians, verdicts, advice."""

from throughtime.gradient_flow.flow import network_flow
from throughtime.gradient_flow.matrix import lag_matrix
from throughtime.gradient_flow.result import Flow, LayerFlow

__all__ = ["Flow", "LayerFlow", "lag_matrix", "network_flow"]
