"""Why is this gradient wrong? Signatures, experiments on the target, and mutants of our own."""

from throughtime.checking.cause import Cause
from throughtime.diagnosis.candidate import Candidate, Gradient
from throughtime.diagnosis.diagnose import diagnose
from throughtime.diagnosis.faults import FAULTS, Fault

__all__ = ["FAULTS", "Candidate", "Cause", "Fault", "Gradient", "diagnose"]
