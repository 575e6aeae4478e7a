"""Where the gradient goes, through time: lags, carousel, Jacobians, verdicts, advice; NaN too."""

from throughtime.gradient_flow.clipping import Clipping, clipping_of
from throughtime.gradient_flow.external_loss import ExternalLoss, external_targets
from throughtime.gradient_flow.flow import evenly, network_flow
from throughtime.gradient_flow.gate_history import GateHistory
from throughtime.gradient_flow.jacobians import Lyapunov
from throughtime.gradient_flow.matrix import lag_matrix
from throughtime.gradient_flow.nonfinite import NonFiniteSearch, first_in_network
from throughtime.gradient_flow.nonfinite_result import DivergedError, NonFinite
from throughtime.gradient_flow.record import FlowRecord, Look
from throughtime.gradient_flow.record_file import begin_record
from throughtime.gradient_flow.recorder import FlowRecorder
from throughtime.gradient_flow.result import Flow, LayerFlow
from throughtime.gradient_flow.text import (
    SHARES_CAPTION,
    circumstances,
    facts,
    lag_rows,
    share_rows,
    some_lags,
)
from throughtime.gradient_flow.tolerances import CLIPPING_WINDOWS, VANISHED_BELOW
from throughtime.gradient_flow.upstream import (
    Losses,
    OwnStepSource,
    UpstreamGradient,
    UpstreamSource,
)
from throughtime.gradient_flow.verdict import Gate

__all__ = [
    "CLIPPING_WINDOWS",
    "SHARES_CAPTION",
    "VANISHED_BELOW",
    "Clipping",
    "DivergedError",
    "ExternalLoss",
    "Flow",
    "FlowRecord",
    "FlowRecorder",
    "Gate",
    "GateHistory",
    "LayerFlow",
    "Look",
    "Losses",
    "Lyapunov",
    "NonFinite",
    "NonFiniteSearch",
    "OwnStepSource",
    "UpstreamGradient",
    "UpstreamSource",
    "begin_record",
    "circumstances",
    "clipping_of",
    "evenly",
    "external_targets",
    "facts",
    "first_in_network",
    "lag_matrix",
    "lag_rows",
    "network_flow",
    "share_rows",
    "some_lags",
]
