"""Why is this gradient wrong? Signatures, experiments on the target, and mutants of our own."""

from throughtime.diagnosis.candidate import Candidate, Gradient
from throughtime.diagnosis.cause import Cause
from throughtime.diagnosis.faults import FAULTS, Fault

__all__ = ["FAULTS", "Candidate", "Cause", "Fault", "Gradient"]
