"""`throughtime bench diagnose`: how often the fault is named, a wrong one, or none."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from throughtime.arrays import positive
from throughtime.bench.diagnose import cases, run, tables
from throughtime.bench.diagnose.cases import KNOWN, Case
from throughtime.bench.engine import Row
from throughtime.bench.implementations import registry
from throughtime.bench.tables import Column, table
from throughtime.storage import replace

PARTS = ("single", "several", "right")
OFFENDERS = 20  # cases that are listed by name


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the kind."""
    kind = kinds.add_parser("diagnose", help="causes named for wrong gradients, and for right ones")
    kind.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help="some of " + ", ".join(PARTS)
    )
    kind.add_argument(
        "--known", nargs="+", choices=KNOWN, metavar="KNOWN", help="some of " + ", ".join(KNOWN)
    )
    kind.add_argument("--quick", action="store_true", help="a few of everything")
    kind.add_argument(
        "--cases",
        type=int,
        default=1200,
        metavar="N",
        help="so many single mistakes, a sixth as many of the others; default 1200, 0: all",
    )
    kind.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds; default 1")
    kind.add_argument("--workers", type=int, default=1, metavar="N", help="processes; default 1")
    kind.add_argument("--json", metavar="FILE", help="write the rows")
    kind.set_defaults(run=run_bench)


def run_bench(options: argparse.Namespace) -> int:
    """Prints the tables."""
    positive("--seeds", options.seeds)
    positive("--workers", options.workers)
    positive("--cases", options.cases, at_least=0)
    print("styles: " + ", ".join(registry.styles()))
    for style, why in registry.absent().items():
        print(f"{style} left out ({why})")
    rows = [*_single(options), *_several(options), *_right(options)]
    if options.json:
        replace(options.json, json.dumps(rows, indent=1, ensure_ascii=False).encode())
    return 0


def _single(options: argparse.Namespace) -> list[Row]:
    everything = list(cases.single(range(options.seeds)))
    rows = _rows(options, "single", everything, 24 if options.quick else options.cases)
    if rows:
        _shown("One mistake", tables.single(rows), tables.SINGLE)
        print(_left_out(rows))
        for known in KNOWN:
            confused = tables.confusion(rows, known)
            if confused:
                _shown(f"Who is taken for whom: {known}", confused, tables.CONFUSION)
        _listed("named wrongly", [r for r in rows if r["outcome"] == "wrong"])
    return rows


def _several(options: argparse.Namespace) -> list[Row]:
    count = 4 if options.quick else _part_of(options, 12) or 1000
    everything = []
    if _asked(options, "several") and "layout" in (options.known or KNOWN):
        everything = [*cases.several(2, count), *cases.several(3, count)]
    rows = run.diagnosed(everything, options.workers)
    if rows:
        _shown(
            "Two and three mistakes at once, with a layout", tables.several(rows), tables.SEVERAL
        )
    return rows


def _right(options: argparse.Namespace) -> list[Row]:
    everything = list(cases.right(range(options.seeds)))
    rows = _rows(options, "right", everything, 12 if options.quick else _part_of(options, 6))
    if rows:
        _shown("Right code", tables.right(rows), tables.RIGHT)
        _listed("right, but a cause was named", [r for r in rows if r["causes"]])
    return rows


def _rows(
    options: argparse.Namespace, part: str, everything: Sequence[Case], count: int
) -> list[Row]:
    known = options.known or KNOWN
    if not _asked(options, part):
        return []
    chosen = [case for case in everything if case.known in known]
    return run.diagnosed(cases.sample(chosen, count or len(chosen)), options.workers)


def _part_of(options: argparse.Namespace, divisor: int) -> int:
    """A share of the cases that were asked for; 0 where all were."""
    return max(1, options.cases // divisor) if options.cases else 0


def _asked(options: argparse.Namespace, part: str) -> bool:
    return part in (options.only or PARTS)


def _shown(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> None:
    print(f"\n{title}\n" + table(rows, columns))
    sys.stdout.flush()


def _left_out(rows: Sequence[Row]) -> str:
    """What the check did not call wrong has no diagnosis."""
    counts = {v: sum(r["verdict"] == v for r in rows) for v in ("agree", "unresolved", "refused")}
    return "without a diagnosis: " + ", ".join(f"{v} {n}" for v, n in counts.items())


def _listed(what: str, rows: Sequence[Row]) -> None:
    print(f"\n{what}: {len(rows)}" + ":" * bool(rows))
    for row in rows[:OFFENDERS]:
        print(f"  {row['case']}: {' + '.join(row['causes'])}")
    if len(rows) > OFFENDERS:
        print(f"  and {len(rows) - OFFENDERS} more")
