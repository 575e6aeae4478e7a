"""Checks and diagnoses strangers' programs, one row each, and sums the rows up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks import torch_layer
from benchmarks.check.trust import at_most
from benchmarks.diagnose.strangers import KNOWN, stranger
from benchmarks.diagnose.strangers_score import judged, outcome
from benchmarks.engine import Row
from benchmarks.several import each
from benchmarks.tables import Column
from corpus.notebooks import CELLS, HEADS, KINDS
from throughtime.diagnosis import INTERRUPTED
from throughtime.gradcheck import CheckError, Target
from throughtime.questions import check

STRANGERS = (
    Column("", "group", "s"),
    Column("cases", "cases", ",d"),
    Column("true first", "true", ".1%"),
    Column("or in set", "set", ".1%"),
    Column("or place", "place", ".1%"),
    Column("false first", "false", ".1%"),
    Column("at most", "at_most", ".1%"),
    Column("nothing", "nothing", ".1%"),
    Column("any false", "any", ".1%"),
    Column("losses", "losses", ",.0f"),
)
KINDS_OF = (
    Column("mistake", "kind", "s"),
    Column("cases", "cases", ",d"),
    Column("true first", "true", ".0%"),
    Column("false first", "false", ",d"),
    Column("first otherwise", "otherwise", "s"),
)


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


def summary(rows: Sequence[Row], by: Callable[[Row], str], order: Sequence[str]) -> list[Row]:
    """Shares by group, with all of them last.

    Returns:
        rows of "group", "cases"; "true", "set" and "place", shares that include those before;
        "false", the share with a false name first, and "at_most", its upper bound with 95 %
        confidence; "nothing"; "any", the share with a false name anywhere; "losses", a median.
    """
    known = [r for r in rows if r["outcome"]]
    groups = [(name, [r for r in known if by(r) == name]) for name in order]
    found = [_shares(name, own) for name, own in groups if own]
    return found + [_shares("all", known)] * bool(known)


def _shares(name: str, own: Sequence[Row]) -> Row:
    n, count = len(own), Counter(r["outcome"] for r in own)
    listed = count["true"] + count["in set"]
    return {
        "group": name,
        "cases": n,
        "true": count["true"] / n,
        "set": listed / n,
        "place": (listed + count["place"]) / n,
        "false": count["false"] / n,
        "at_most": at_most(count["false"], n),
        "nothing": count["nothing"] / n,
        "any": sum("false" in r["judged"] for r in own) / n,
        "losses": median(r["losses"] for r in own),
    }


def number(found: Row) -> str:
    """The group of a row by how many mistakes it has."""
    n = len(found["faults"])
    return str(n) if n < 3 else "3–4" if n < 5 else "5–8"


GROUPS: dict[str, tuple[Callable[[Row], str], Sequence[str]]] = {
    "known": (lambda r: str(r["known"]), KNOWN),
    "faults at once": (number, ("1", "2", "3–4", "5–8")),
    "head": (lambda r: str(r["head"]), HEADS),
    "cell": (lambda r: str(r["cell"]), CELLS),
}


def kinds(rows: Sequence[Row]) -> list[Row]:
    """Single mistakes by kind, those with a false name first at the top."""
    found = []
    for kind in KINDS:
        own = [r for r in rows if r["outcome"] and _kinds(r) == [kind]]
        others = Counter(_first(r) for r in own if r["outcome"] != "true")
        if others:
            words = ", ".join(f"{name} {n}" for name, n in others.most_common())
            true = sum(r["outcome"] == "true" for r in own) / len(own)
            false = sum(r["outcome"] == "false" for r in own)
            shares = {"true": true, "false": false, "otherwise": words}
            found.append({"kind": kind, "cases": len(own)} | shares)
    return sorted(found, key=lambda r: (-r["false"], r["kind"]))


def _kinds(found: Row) -> list[str]:
    return [mistake.partition(" ")[0] for mistake in found["faults"]]


def _first(found: Row) -> str:
    mark = "!" if found["outcome"] == "false" else ""
    return mark + found["causes"][0] if found["causes"] else "nothing"
