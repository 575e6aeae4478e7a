"""Whether PyTorch is faster for any shape: each is timed briefly, and again if it is close."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from statistics import median

from benchmarks.cases import Case
from benchmarks.engine import Row, row, shown

CLOSE = 1.05  # a case whose ratio is below this is timed again
PATIENCE = 6  # how many times as long the case is then timed


def sweep(cases: Sequence[Case], seconds: float) -> list[Row]:
    """One row per case as in `engine.row`, timed again if the ratio is close to 1 or below.

    The second timing follows at once. If the ratio is still below 1, a third one follows after all
    other cases, because a disturbance of the machine may last longer than a case. The smallest
    time of each side counts.

    Args:
        cases: what to time.
        seconds: how long each case may take at first; every contestant has at least one turn.
    """

    def again(case: Case, found: Row) -> Row:
        return _smallest(found, row(case, PATIENCE * seconds, 3))

    rows = []
    for case in shown(cases):
        found = row(case, seconds, 1)
        rows.append(again(case, found) if _below(found, CLOSE) else found)
    for place, case in enumerate(cases):
        if _below(rows[place], 1):
            rows[place] = again(case, rows[place])
    return rows


def _below(found: Row, ratio: float) -> bool:
    return bool(found["ratio"]) and found["ratio"] < ratio


def _smallest(one: Row, other: Row) -> Row:
    """The faster of our two timings, with the faster of PyTorch's two."""
    ours = min(one, other, key=lambda found: float(found["ours_ms"]))
    torch = min(one, other, key=lambda found: float(found["torch_ms"]))
    theirs = {name: torch[name] for name in ("torch_ms", "torch_threads_ms") if name in torch}
    return ours | theirs | {"ratio": torch["torch_ms"] / ours["ours_ms"]}


def summary(rows: Sequence[Row]) -> str:
    """The smallest and the median ratio of every cell and dtype, then all ratios below 1."""
    compared = [found for found in rows if found["ratio"]]
    if not compared:
        return "nothing to compare with"
    lines = [f"{'':13} shapes  median  smallest ratio"]
    for kind, group in groupby(sorted(compared, key=_kind), key=_kind):
        members = list(group)
        least = min(members, key=lambda found: float(found["ratio"]))
        middle = median(found["ratio"] for found in members)
        where = f"{least['ratio']:.2f} at {least['case']}"
        lines.append(f"{kind:13} {len(members):6} {middle:7.2f}  {where}")
    below = sorted((f for f in compared if f["ratio"] < 1), key=lambda f: float(f["ratio"]))
    lines.append(f"{len(below)} of {len(compared)} below 1.00" + ":" * bool(below))
    for found in below:
        times = f"{found['ours_ms']:.3f} ms, torch {found['torch_ms']:.3f} ms"
        lines.append(f"  {found['ratio']:.2f}  {found['case']}: {times}")
    return "\n".join(lines)


def _kind(found: Row) -> str:
    cell, _, dtype = str(found["case"]).split()[:3]
    return f"{cell} {dtype}"
