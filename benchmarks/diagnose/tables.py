"""The tables of the diagnosis: shares by what was known, and which mistakes are confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import median
from typing import Any

from benchmarks.diagnose.cases import DTYPES, KNOWN
from benchmarks.engine import Row
from benchmarks.tables import Column
from throughtime.diagnosis import FAULTS

SINGLE = (
    Column("known", "known", "s"),
    Column("precision", "dtype", "s"),
    Column("cases", "cases", ",d"),
    Column("top-1", "right", ".1%"),
    Column("in list", "listed", ".1%"),
    Column("place", "place", ".1%"),
    Column("wrong", "wrong", ".1%"),
    Column("unknown", "unknown", ".1%"),
    Column("× check", "times", ".1f"),
)
SEVERAL = (
    Column("faults at once", "number", "s"),
    Column("cases", "cases", ",d"),
    Column("all named", "all", ".1%"),
    Column("all but one", "all_but_one", ".1%"),
    Column("a wrong one", "wrong", ".1%"),
    Column("unknown", "unknown", ".1%"),
    Column("× check", "times", ".1f"),
)
RIGHT = (
    Column("known", "known", "s"),
    Column("precision", "dtype", "s"),
    Column("right code", "cases", ",d"),
    Column("a cause named", "accused", ",d"),
)
CONFUSION = (
    Column("mistake", "fault", "s"),
    Column("cases", "cases", ",d"),
    Column("top-1", "right", ".0%"),
    Column("otherwise", "taken_for", "s"),
)


def single(rows: Sequence[Row]) -> list[Row]:
    """Single mistakes by what was known, and by precision."""
    found = []
    for known, dtype in product(KNOWN, DTYPES):
        group = [r for r in rows if r["outcome"] and (r["known"], r["dtype"]) == (known, dtype)]
        if group:
            found.append({"known": known, "dtype": dtype} | _shares(group))
    return found


def _shares(group: Sequence[Row]) -> dict[str, Any]:
    count = Counter(r["outcome"] for r in group)
    shares = {name: count[name] / len(group) for name in ("right", "place", "wrong", "unknown")}
    listed = (count["right"] + count["listed"]) / len(group)
    return {"cases": len(group), "listed": listed, "times": times(group)} | shares


def several(rows: Sequence[Row]) -> list[Row]:
    """Several mistakes at once, by their number."""
    found = []
    for number in (2, 3):
        group = [r for r in rows if len(r["faults"]) == number and r["verdict"] == "disagree"]
        if group:
            shares = {
                "all": sum(r["named"] == number for r in group),
                "all_but_one": sum(r["named"] >= number - 1 for r in group),
                "wrong": sum(r["false"] > 0 for r in group),
                "unknown": sum(not r["causes"] for r in group),
            }
            row = {name: count / len(group) for name, count in shares.items()}
            words = {"number": str(number), "cases": len(group), "times": times(group)}
            found.append(words | row)
    return found


def right(rows: Sequence[Row]) -> list[Row]:
    """The causes named for right code, by what was known and by precision."""
    found = []
    for known, dtype in product(KNOWN, DTYPES):
        group = [r for r in rows if not r["faults"] and (r["known"], r["dtype"]) == (known, dtype)]
        if group:
            accused = sum(bool(r["causes"]) for r in group)
            row = {"known": known, "dtype": dtype, "cases": len(group), "accused": accused}
            found.append(row)
    return found


def confusion(rows: Sequence[Row], known: str) -> list[Row]:
    """One row per mistake that is not always named first: what was named instead, and how often."""
    by_fault: dict[str, list[Row]] = {}
    for r in rows:
        if r["outcome"] and r["known"] == known:
            by_fault.setdefault(r["faults"][0], []).append(r)
    found = []
    for fault, group in by_fault.items():
        count = sum(r["outcome"] == "right" for r in group)
        if count < len(group):
            row = {"fault": fault, "cases": len(group), "right": count / len(group)}
            found.append(row | {"taken_for": _taken_for(group)})
    order = list(FAULTS)
    return sorted(found, key=lambda r: order.index(str(r["fault"])))


def _taken_for(group: Sequence[Row]) -> str:
    said = Counter(_words(r) for r in group if r["outcome"] != "right")
    return ", ".join(f"{words} {count}" for words, count in said.most_common())


def _words(row: Mapping[str, Any]) -> str:
    if not row["causes"]:
        return "unknown"
    mark = "!" if row["outcome"] == "wrong" else ""
    return mark + " + ".join(row["causes"])


def times(rows: Sequence[Row]) -> float | None:
    """The median of the time of a diagnosis over that of its check."""
    ratios = [
        r["diagnosis_seconds"] / r["check_seconds"]
        for r in rows
        if r["diagnosis_seconds"] is not None
    ]
    return median(ratios) if ratios else None
