"""Why is this gradient wrong? Signatures, experiments on the target, and mutants of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.doors import door
from throughtime.gradcheck import Cause

if TYPE_CHECKING:
    from throughtime.diagnosis import layouts
    from throughtime.diagnosis.cause_search import INTERRUPTED, diagnose
    from throughtime.diagnosis.comparison import Comparison, compare
    from throughtime.diagnosis.faults import FAULTS, Fault, Section, fault_named
    from throughtime.diagnosis.mutants import NetworkLayout, TorchLayout, detached
    from throughtime.diagnosis.observed import CandidateCause, Gradient
    from throughtime.diagnosis.tolerances import COMPARISON_ERROR
else:
    __getattr__ = door(
        __name__,
        {
            "cause_search": "INTERRUPTED diagnose",
            "comparison": "Comparison compare",
            "faults": "FAULTS Fault Section fault_named",
            "layouts": "",
            "mutants": "NetworkLayout TorchLayout detached",
            "observed": "CandidateCause Gradient",
            "tolerances": "COMPARISON_ERROR",
        },
    )

__all__ = [
    "COMPARISON_ERROR",
    "FAULTS",
    "INTERRUPTED",
    "CandidateCause",
    "Cause",
    "Comparison",
    "Fault",
    "Gradient",
    "NetworkLayout",
    "Section",
    "TorchLayout",
    "compare",
    "detached",
    "diagnose",
    "fault_named",
    "layouts",
]
