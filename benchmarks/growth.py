"""How time and memory grow with the number of steps and of hidden units."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import torch_layer
from benchmarks.cases import Case
from benchmarks.engine import Row, row, shown
from benchmarks.memory import megabytes

LONGEST = 10**4  # steps that others are timed with


def growth(cases: Sequence[Case], seconds: float) -> list[Row]:
    """One row a case as in `engine.row`, and beside it:

    "forward_ms" and "torch_forward_ms"; "step_us", microseconds a step, forward and backward;
    "memory_mb" and "torch_memory_mb", peak memory beyond parameters and data.

    Args:
        cases: what to time; beyond 10⁴ steps without other libraries.
        seconds: how long each pass of a case may take; everyone has one turn at least.
    """
    return [_row(case, seconds) for case in shown(cases)]


def _row(case: Case, seconds: float) -> Row:
    alone = case.T > LONGEST
    forward = row(Case(**(case.to_dict() | {"forward_only": True})), seconds, 1, alone=alone)
    both = row(case, seconds, 1, alone=alone)
    torch = not alone and torch_layer.find() is not None
    return both | {
        "forward_ms": forward["ours_ms"],
        "torch_forward_ms": forward["torch_ms"],
        "step_us": 1e3 * both["ours_ms"] / case.T,
        "memory_mb": megabytes(case, "ours"),
        "torch_memory_mb": megabytes(case, "torch") if torch else None,
    }
