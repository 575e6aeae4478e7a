"""Is this gradient right? The checker sees a target, arrays and two functions, and no network."""

from throughtime.checking.check import check_target
from throughtime.checking.derivative import Derivative, derivative
from throughtime.checking.discrepancy import discrepancy
from throughtime.checking.frozen import frozen
from throughtime.checking.report import (
    Direction,
    Point,
    Report,
    TensorReport,
    Valley,
    Verdict,
    Worst,
    WrongArea,
)
from throughtime.checking.sweep import Sweep, sweep_target
from throughtime.checking.target import CheckError, Target

__all__ = [
    "CheckError",
    "Derivative",
    "Direction",
    "Point",
    "Report",
    "Sweep",
    "Target",
    "TensorReport",
    "Valley",
    "Verdict",
    "Worst",
    "WrongArea",
    "check_target",
    "derivative",
    "discrepancy",
    "frozen",
    "sweep_target",
]
