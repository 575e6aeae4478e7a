"""Why is this gradient wrong? Signatures, experiments on the target, and mutants of our own."""

from throughtime.diagnosis.candidate import Candidate, Gradient
from throughtime.diagnosis.compare import ERROR, Comparison, compare
from throughtime.diagnosis.diagnose import INTERRUPTED, diagnose
from throughtime.diagnosis.faults import FAULTS, Fault, Section, fault_named
from throughtime.gradcheck import Cause

__all__ = [
    "ERROR",
    "FAULTS",
    "INTERRUPTED",
    "Candidate",
    "Cause",
    "Comparison",
    "Fault",
    "Gradient",
    "Section",
    "compare",
    "diagnose",
    "fault_named",
]
