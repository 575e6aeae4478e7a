"""Why is this gradient wrong? Signatures, experiments on the target, and mutants of our own."""

from throughtime.diagnosis import layouts
from throughtime.diagnosis.cause_search import INTERRUPTED, diagnose
from throughtime.diagnosis.comparison import Comparison, compare
from throughtime.diagnosis.faults import FAULTS, Fault, Section, fault_named
from throughtime.diagnosis.mutants import NetworkLayout, TorchLayout, detached
from throughtime.diagnosis.observed import Candidate, Gradient
from throughtime.diagnosis.tolerances import COMPARISON_ERROR
from throughtime.gradcheck import Cause

__all__ = [
    "COMPARISON_ERROR",
    "FAULTS",
    "INTERRUPTED",
    "Candidate",
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
