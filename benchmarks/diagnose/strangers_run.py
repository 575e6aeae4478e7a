"""Checks and diagnoses strangers' programs, one row each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import torch_layer
from benchmarks.diagnose.strangers import stranger
from benchmarks.diagnose.strangers_score import judged, outcome
from benchmarks.engine import Row
from benchmarks.several import each
from throughtime.diagnosis import INTERRUPTED
from throughtime.gradcheck import CheckError, Target
from throughtime.questions import check


def strangers(seeds: Sequence[int], workers: int = 1) -> Iterator[Row]:
    """One row per seed, as soon as it is done.

    Yields:
        rows of the entries of `Stranger.to_dict`; "verdict", that of the check, "refused", or
        "failed" if the diagnosis raised an error, both with a "message"; "causes", with "where",
        "confidences" and "alternatives"; "outcome", see `strangers_score.outcome`, None without a
        diagnosis; "judged", the outcome of each cause; "losses", how often the check and the
        diagnosis together evaluated the loss; "check_seconds", "diagnosis_seconds" and "notes".
    """
    yield from each(row, seeds, workers, "strangers")


def row(seed: int) -> Row:
    """See `strangers`."""
    with torch_layer.one_thread():
        case = stranger(seed)
        counter = Counted()
        found: Row = case.to_dict() | {"part": "strangers", "causes": [], "outcome": None}
        found |= {"judged": [], "message": None, "losses": None, "where": [], "notes": []}
        try:
            report = check(counter.target(case.target()), progress=False)
        except CheckError as problem:
            return found | {"verdict": "refused", "message": str(problem)}
        except Exception as problem:  # a run of hours must not be lost
            return found | {"verdict": "failed", "message": f"{type(problem).__name__}: {problem}"}
        if INTERRUPTED in report.notes:
            raise KeyboardInterrupt  # Ctrl-C was meant for the benchmark
        causes = report.causes
        return found | {
            "verdict": report.verdict,
            "causes": [cause.fault for cause in causes],
            "where": [cause.where for cause in causes],
            "confidences": [cause.confidence for cause in causes],
            "alternatives": [list(cause.alternatives) for cause in causes],
            "outcome": outcome(case, causes) if report.verdict == "disagree" else None,
            "judged": [judged(case, cause) for cause in causes],
            "losses": counter.losses,
            "check_seconds": report.seconds,
            "notes": list(report.notes),
        }


class Counted:
    """Counts the losses of a target, at every length."""

    def __init__(self) -> None:
        self.losses = 0

    def target(self, own: Target) -> Target:
        """The target that counts."""

        def loss() -> Any:
            self.losses += 1
            return own.loss()

        def at_length(T: int) -> Target:
            assert own.at_length is not None
            return self.target(own.at_length(T))

        return replace(own, loss=loss, at_length=at_length if own.at_length else None)
