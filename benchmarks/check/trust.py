"""Is the verdict right? Right and wrong implementations, each checked by every tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, lgamma, log, log1p
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import torch_layer
from benchmarks.check.cases import Case, effect
from benchmarks.check.rivals import rivals
from benchmarks.engine import Row
from benchmarks.several import each
from corpus import FAULTS
from throughtime.gradcheck import CheckError, Target
from throughtime.questions import check

CONFIDENCE = 0.95
TOOLS = {"ours": "ours", "torch_slow": "torch", "torch_fast": "fast", "jax": "jax"}


def trust(cases: Sequence[Case], rivals_on: Sequence[Case], workers: int = 1) -> Iterator[Row]:
    """One row per case, as soon as it is done.

    Args:
        cases: the cases for our check.
        rivals_on: those that the other tools check too; they are slower.
        workers: the number of processes that share the work.

    Returns:
        rows of "part": "trust"; the entries of `Case.to_dict`; "effect" and "resolvable", see
        `cases.effect`, which are None for right ones ("effect" also if only a second call shows
        the mistake); "ours", the verdict, or "refused" with a "message" if the check said that
        no verdict was possible; "smallest_error", None if it is infinite; "overclaimed", whether
        a wrong gradient was accepted although some tensor is further off than the error that
        the report says it would have seen; "evaluations"; "seconds"; "torch_slow", "torch_fast"
        and "jax", "agree" or "disagree", or None if the tool was not used.
    """
    asked = set(map(id, rivals_on))
    return each(_row, [(case, id(case) in asked) for case in cases], workers, "trust")


def _row(work: tuple[Case, bool]) -> Row:
    with torch_layer.one_thread():
        return row(work[0], others=work[1])


def row(case: Case, *, others: bool) -> Row:
    """See `trust`."""
    known = effect(case) if case.fault else None
    found: Row = {"part": "trust"} | case.to_dict()
    found |= {"effect": known and finite(known.relative), "resolvable": known and known.resolvable}
    found |= ours(case.target(), known.by_tensor if known else {})
    if others and not (case.fault and FAULTS[case.fault].shows_in == "harness"):
        for name, accepts in rivals().items():
            found[name] = "agree" if accepts(case.target()) else "disagree"
    return dict.fromkeys(TOOLS) | found


def ours(target: Target, off: Mapping[str, float]) -> Row:
    """Our verdict, and whether it claims too much; `off` has the true errors."""
    began = perf_counter()
    try:
        report = check(target, diagnose=False, progress=False)
    except CheckError as problem:
        seconds = perf_counter() - began
        silent: dict[str, Any] = dict.fromkeys(("smallest_error", "evaluations"))
        return silent | {
            "ours": "refused",
            "message": str(problem),
            "overclaimed": False,
            "seconds": seconds,
        }
    claims = {name: tensor.smallest_error for name, tensor in report.tensors.items()}
    return {
        "ours": report.verdict,
        "message": None,
        "smallest_error": finite(report.smallest_error),
        "overclaimed": report.verdict == "agree" and any(off[n] > claims[n] for n in off),
        "evaluations": report.evaluations,
        "seconds": perf_counter() - began,
    }


def finite(number: float) -> float | None:
    """None for infinity, which JSON does not have."""
    return float(number) if isfinite(number) else None


def at_most(count: int, of: int) -> float:
    """The upper bound on a share from a count, with 95 % confidence (Clopper and Pearson).

    Example:
        >>> round(at_most(0, 3000), 5), round(at_most(1, 3000), 5)
        (0.001, 0.00158)
    """

    def as_few(share: float) -> float:
        k = np.arange(count + 1)
        ways = lgamma(of + 1) - np.array([lgamma(n + 1) + lgamma(of - n + 1) for n in k])
        return float(np.exp(ways + k * log(share) + (of - k) * log1p(-share)).sum())

    if count == of:
        return 1.0
    low, high = count / of, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if as_few(middle) > 1 - CONFIDENCE else (low, middle)
    return high


def summary(rows: Sequence[Row]) -> list[Row]:
    """Counts by precision, initialisation and tool, as shares.

    Returns:
        rows of "group" and "tool"; "right", how many are right; "right_accepted",
        "right_accused" and "right_unresolved", shares of these; "wrong", how many resolvable
        mistakes there are; "wrong_found", "wrong_accepted" and "wrong_unresolved", shares of
        these; "faint", how many mistakes are too small to be resolved; "faint_accepted", the
        share of these that was accepted; "unresolved", the share of all; "overclaimed", how many.
    """
    found = []
    for dtype in ("float64", "float32"):
        for init in (None, 0.01):
            group = [r for r in rows if r["dtype"] == dtype and r["init"] == init]
            for tool in TOOLS:
                seen = [r for r in group if r[tool] is not None]
                if seen:
                    name = f"{dtype}, {'0.01' if init else '1/√H'}"
                    found.append({"group": name, "tool": TOOLS[tool]} | _counts(seen, tool))
    return found


def _counts(rows: Sequence[Row], tool: str) -> Row:
    right = [r for r in rows if r["fault"] is None]
    wrong = [r for r in rows if r["resolvable"]]
    faint = [r for r in rows if r["resolvable"] is False]

    def share(of: Sequence[Row], *verdicts: str) -> float | None:
        return sum(r[tool] in verdicts for r in of) / len(of) if of else None

    return {
        "right": len(right),
        "right_accepted": share(right, "agree"),
        "right_accused": share(right, "disagree", "refused"),
        "right_unresolved": share(right, "unresolved"),
        "wrong": len(wrong),
        "wrong_found": share(wrong, "disagree", "refused"),
        "wrong_accepted": share(wrong, "agree"),
        "wrong_unresolved": share(wrong, "unresolved"),
        "faint": len(faint),
        "faint_accepted": share(faint, "agree"),
        "unresolved": share(rows, "unresolved"),
        "overclaimed": sum(r["overclaimed"] for r in rows) if tool == "ours" else None,
    }
