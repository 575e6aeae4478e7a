"""Why is this gradient wrong? Signatures, experiments on the target, and mutants of our own."""

from throughtime.diagnosis.cause_search import INTERRUPTED, diagnose
from throughtime.diagnosis.comparison import Comparison, compare
from throughtime.diagnosis.faults import FAULTS, Fault
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
    "TorchLayout",
    "compare",
    "detached",
    "diagnose",
]
