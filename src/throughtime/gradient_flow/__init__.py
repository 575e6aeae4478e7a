"""Where the gradient of a run goes, through time.

`network_flow` follows every loss back: norms by lag, the paths through the carousel and the gates,
Jacobians, what truncation gives up, a verdict and advice. `first_in_network` finds the first value
that is NaN or infinite. `FlowRecorder` watches both while a network trains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.doors import door

if TYPE_CHECKING:
    from throughtime.gradient_flow.advice import Clipping, clipping_of
    from throughtime.gradient_flow.batched_vjp import lag_matrix
    from throughtime.gradient_flow.flow import evenly, network_flow
    from throughtime.gradient_flow.gates import Gate, GateHistory
    from throughtime.gradient_flow.jacobians import Lyapunov
    from throughtime.gradient_flow.nonfinite import (
        DivergedError,
        NonFinite,
        NonFiniteSearch,
        first_entry,
        first_in_network,
    )
    from throughtime.gradient_flow.record import FlowRecord, Look, begin_record
    from throughtime.gradient_flow.recorder import FlowRecorder
    from throughtime.gradient_flow.result import (
        SHARES_CAPTION,
        Flow,
        LayerFlow,
        circumstances,
        facts,
        lag_rows,
        share_rows,
        some_lags,
    )
    from throughtime.gradient_flow.step_function import step_flow
    from throughtime.gradient_flow.tolerances import CLIPPING_WINDOWS, VANISHED_BELOW
    from throughtime.gradient_flow.upstream import (
        ExternalLoss,
        Losses,
        OwnStepSource,
        UpstreamGradient,
        UpstreamSource,
        external_targets,
    )
else:
    __getattr__ = door(
        __name__,
        {
            "advice": "Clipping clipping_of",
            "batched_vjp": "lag_matrix",
            "flow": "evenly network_flow",
            "gates": "Gate GateHistory",
            "jacobians": "Lyapunov",
            "nonfinite": "DivergedError NonFinite NonFiniteSearch first_entry first_in_network",
            "record": "FlowRecord Look begin_record",
            "recorder": "FlowRecorder",
            "result": "SHARES_CAPTION Flow LayerFlow circumstances facts lag_rows share_rows "
            "some_lags",
            "step_function": "step_flow",
            "tolerances": "CLIPPING_WINDOWS VANISHED_BELOW",
            "upstream": "ExternalLoss Losses OwnStepSource UpstreamGradient UpstreamSource "
            "external_targets",
        },
    )

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
    "first_entry",
    "first_in_network",
    "lag_matrix",
    "lag_rows",
    "network_flow",
    "share_rows",
    "some_lags",
    "step_flow",
]
