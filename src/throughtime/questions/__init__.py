"""What one asks of a network: is its gradient right, where does it go, whence come NaNs?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.doors import door

if TYPE_CHECKING:
    from throughtime.questions.flows import Flow, FlowRecorder, first_nonfinite, flow
    from throughtime.questions.gradients import Report, check, diagnosed, sweep
else:
    __getattr__ = door(
        __name__,
        {
            "flows": "Flow FlowRecorder first_nonfinite flow",
            "gradients": "Report check diagnosed sweep",
        },
    )

__all__ = [
    "Flow",
    "FlowRecorder",
    "Report",
    "check",
    "diagnosed",
    "first_nonfinite",
    "flow",
    "sweep",
]
