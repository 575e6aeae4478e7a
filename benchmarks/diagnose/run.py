"""Checks and diagnoses every case: which faults are named, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

from benchmarks import torch_layer
from benchmarks.diagnose.cases import Case
from benchmarks.diagnose.score import outcome, true
from benchmarks.engine import Row
from benchmarks.several import each
from throughtime.diagnosis import INTERRUPTED
from throughtime.gradcheck import CheckError
from throughtime.questions import check


def diagnosed(cases: Sequence[Case], workers: int = 1) -> Iterator[Row]:
    """One row per case, as soon as it is done.

    Args:
        cases: the cases to diagnose.
        workers: the number of processes that share the work.

    Yields:
        rows of the entries of `Case.to_dict`; "verdict", that of the check, or "refused" with a
        "message"; "causes", the faults that were named, the most likely first, with
        "confidences" and "alternatives"; "outcome", for a single mistake, see `score.outcome`;
        "named", how many of several mistakes were named, and "false", how many causes are none
        of them; "check_seconds" and "diagnosis_seconds".
    """
    yield from each(row, cases, workers, "cases")


def row(case: Case) -> Row:
    """See `diagnosed`."""
    with torch_layer.one_thread():
        found: Row = case.to_dict() | _looked_at(case)
    return found


def _looked_at(case: Case) -> dict[str, Any]:
    target = case.target()
    began = perf_counter()
    try:
        report = check(target, progress=False)
    except CheckError as problem:
        return _nothing("refused", str(problem), perf_counter() - began)
    seconds = perf_counter() - began
    if INTERRUPTED in report.notes:
        raise KeyboardInterrupt  # Ctrl-C was meant for the benchmark
    if report.verdict != "disagree":
        return _nothing(report.verdict, None, seconds)
    causes = report.causes
    return {
        "verdict": report.verdict,
        "message": None,
        "causes": [cause.fault for cause in causes],
        "confidences": [cause.confidence for cause in causes],
        "alternatives": [list(cause.alternatives) for cause in causes],
        "outcome": outcome(case, causes) if len(case.faults) == 1 else None,
        "named": sum(any(name == cause.fault for cause in causes) for name in case.faults),
        "false": sum(not true(case, cause) for cause in causes),
        "check_seconds": report.seconds,
        "diagnosis_seconds": seconds - report.seconds,
    }


def _nothing(verdict: str, message: str | None, seconds: float) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "message": message,
        "causes": [],
        "confidences": [],
        "alternatives": [],
        "outcome": None,
        "named": 0,
        "false": 0,
        "check_seconds": seconds,
        "diagnosis_seconds": None,
    }
