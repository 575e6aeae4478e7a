"""Is this gradient right? The checker sees a target, arrays and two functions, and no network."""

from throughtime.derivatives import CheckError
from throughtime.gradcheck.budget import Budget, Spent
from throughtime.gradcheck.cause import Cause
from throughtime.gradcheck.check import check_target
from throughtime.gradcheck.evaluation_point import Measured, Site
from throughtime.gradcheck.frozen_states import frozen
from throughtime.gradcheck.gates import Gates
from throughtime.gradcheck.points import (
    AS_GIVEN,
    CHARACTERISTIC,
    at_characteristic_point,
    at_length,
)
from throughtime.gradcheck.relative_error import discrepancy, floor
from throughtime.gradcheck.report import (
    Direction,
    Point,
    Report,
    TensorReport,
    Valley,
    Verdict,
    Worst,
    WrongArea,
    worst_verdict,
)
from throughtime.gradcheck.run import in_turn, measured_twice
from throughtime.gradcheck.search_direction import Line, entry
from throughtime.gradcheck.starting_point import Origin
from throughtime.gradcheck.sweep import Sweep, sweep_target
from throughtime.gradcheck.target import Evaluator, Target
from throughtime.gradcheck.text import HEADINGS, cells, limits, plain, shown, table
from throughtime.gradcheck.tolerances import REJECTION_BARS, SHIFTED_UNIT
from throughtime.gradcheck.workers import in_processes

__all__ = [
    "AS_GIVEN",
    "CHARACTERISTIC",
    "HEADINGS",
    "REJECTION_BARS",
    "SHIFTED_UNIT",
    "Budget",
    "Cause",
    "CheckError",
    "Direction",
    "Evaluator",
    "Gates",
    "Line",
    "Measured",
    "Origin",
    "Point",
    "Report",
    "Site",
    "Spent",
    "Sweep",
    "Target",
    "TensorReport",
    "Valley",
    "Verdict",
    "Worst",
    "WrongArea",
    "at_characteristic_point",
    "at_length",
    "cells",
    "check_target",
    "discrepancy",
    "entry",
    "floor",
    "frozen",
    "in_processes",
    "in_turn",
    "limits",
    "measured_twice",
    "plain",
    "shown",
    "sweep_target",
    "table",
    "worst_verdict",
]
