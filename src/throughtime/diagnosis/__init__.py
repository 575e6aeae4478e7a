"""Why is this gradient wrong? Signatures, experiments on the target, and mutants of our own."""

from throughtime.checking.cause import Cause
from throughtime.diagnosis.candidate import Candidate, Gradient
from throughtime.diagnosis.diagnose import INTERRUPTED, diagnose
from throughtime.diagnosis.faults import FAULTS, Fault

__all__ = ["FAULTS", "INTERRUPTED", "Candidate", "Cause", "Fault", "Gradient", "diagnose"]
