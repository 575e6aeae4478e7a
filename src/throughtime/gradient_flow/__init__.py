"""Where the gradient goes, through time: lags, carousel, Jacobians, verdicts, advice; NaN too."""

from throughtime.gradient_flow.clipping import WINDOWS, Clipping, clipping_of
from throughtime.gradient_flow.flow import network_flow
from throughtime.gradient_flow.gate_history import GateHistory
from throughtime.gradient_flow.given import Given, given_targets
from throughtime.gradient_flow.handed import Handed, Losses, OwnSteps, Source
from throughtime.gradient_flow.jacobians import Lyapunov
from throughtime.gradient_flow.matrix import lag_matrix
from throughtime.gradient_flow.nonfinite import Search, first_in_network
from throughtime.gradient_flow.nonfinite_result import DivergedError, NonFinite
from throughtime.gradient_flow.record import FlowRecord, Look
from throughtime.gradient_flow.record_file import begin
from throughtime.gradient_flow.recorder import FlowRecorder
from throughtime.gradient_flow.result import Flow, LayerFlow
from throughtime.gradient_flow.text import (
    SHARES,
    circumstances,
    facts,
    lag_rows,
    share_rows,
    some_lags,
)
from throughtime.gradient_flow.verdict import FALLEN, Gate

__all__ = [
    "FALLEN",
    "SHARES",
    "WINDOWS",
    "Clipping",
    "DivergedError",
    "Flow",
    "FlowRecord",
    "FlowRecorder",
    "Gate",
    "GateHistory",
    "Given",
    "Handed",
    "LayerFlow",
    "Look",
    "Losses",
    "Lyapunov",
    "NonFinite",
    "OwnSteps",
    "Search",
    "Source",
    "begin",
    "circumstances",
    "clipping_of",
    "facts",
    "first_in_network",
    "given_targets",
    "lag_matrix",
    "lag_rows",
    "network_flow",
    "share_rows",
    "some_lags",
]
