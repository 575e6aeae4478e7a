"""Is this gradient right? The checker sees a target, arrays and two functions, and no network."""

from throughtime.derivatives import CheckError
from throughtime.gradcheck.areas import Gates, listed
from throughtime.gradcheck.budget import Budget, EffortName, Spent
from throughtime.gradcheck.check import check_target
from throughtime.gradcheck.evaluation_point import EvaluationPoint, Measurement
from throughtime.gradcheck.options import (
    CheckOptions,
    FileOptions,
    FunctionOptions,
    NetworkOptions,
    ObjectOptions,
)
from throughtime.gradcheck.points import (
    AS_GIVEN,
    CHARACTERISTIC,
    POINT_KINDS,
    ParameterSnapshot,
    PointKind,
    at_characteristic_point,
    at_length,
)
from throughtime.gradcheck.remeasured import measured_twice
from throughtime.gradcheck.report import (
    HEADINGS,
    TEXT_WIDTH,
    Cause,
    Direction,
    Point,
    Report,
    TensorReport,
    Valley,
    Verdict,
    Worst,
    WrongArea,
    explained_part,
    explanation,
    plain_data,
    shown_tensors,
    table,
    table_row,
    worst_verdict,
)
from throughtime.gradcheck.search_direction import SearchDirection, entry
from throughtime.gradcheck.source_lines import (
    UNBROKEN,
    SourceLine,
    SourceLines,
    is_multiple,
    sentence_width,
)
from throughtime.gradcheck.sweep import EPSILONS, Sweep, sweep_target
from throughtime.gradcheck.target import Evaluator, Target, frozen
from throughtime.gradcheck.tolerances import REJECTION_BARS, SHIFTED_UNIT
from throughtime.gradcheck.verdict import discrepancy, floor
from throughtime.gradcheck.workers import in_processes, measure_serially

__all__ = [
    "AS_GIVEN",
    "CHARACTERISTIC",
    "EPSILONS",
    "HEADINGS",
    "POINT_KINDS",
    "REJECTION_BARS",
    "SHIFTED_UNIT",
    "TEXT_WIDTH",
    "UNBROKEN",
    "Budget",
    "Cause",
    "CheckError",
    "CheckOptions",
    "Direction",
    "EffortName",
    "EvaluationPoint",
    "Evaluator",
    "FileOptions",
    "FunctionOptions",
    "Gates",
    "Measurement",
    "NetworkOptions",
    "ObjectOptions",
    "ParameterSnapshot",
    "Point",
    "PointKind",
    "Report",
    "SearchDirection",
    "SourceLine",
    "SourceLines",
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
    "check_target",
    "discrepancy",
    "entry",
    "explained_part",
    "explanation",
    "floor",
    "frozen",
    "in_processes",
    "is_multiple",
    "listed",
    "measure_serially",
    "measured_twice",
    "plain_data",
    "sentence_width",
    "shown_tensors",
    "sweep_target",
    "table",
    "table_row",
    "worst_verdict",
]
