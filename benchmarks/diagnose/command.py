"""`python -m benchmarks diagnose`: how often the right fault, a wrong one, or none is named."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic

from benchmarks.check.cases import SMALL
from benchmarks.diagnose import cases, run, strangers, strangers_run, tables
from benchmarks.diagnose import strangers_tables as of_strangers
from benchmarks.diagnose.cases import KNOWN, Case
from benchmarks.engine import Row
from benchmarks.tables import Column, table
from corpus import registry
from throughtime.arrays import positive, refuse
from throughtime.storage import replace

PARTS = ("single", "several", "right", "strangers")
OFFENDERS = 20  # how many cases are listed by name
TOLD = tuple(dict.fromkeys((*KNOWN, *strangers.KNOWN)))  # strangers' programs have their own
QUICK = {"single": 18, "several": 3, "right": 6, "strangers": 8}
KEPT = 10.0  # seconds between two writings of the rows


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this kind of benchmark to the command line."""
    kind = kinds.add_parser("diagnose", help="causes named for wrong gradients, and for right ones")
    kind.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help="some of " + ", ".join(PARTS)
    )
    kind.add_argument(
        "--known", nargs="+", choices=TOLD, metavar="KNOWN", help="some of " + ", ".join(TOLD)
    )
    kind.add_argument("--quick", action="store_true", help="a few of everything, within a minute")
    kind.add_argument(
        "--cases",
        type=int,
        default=900,
        metavar="N",
        help="so many single mistakes, a sixth as many of the others; default 900, 0: all",
    )
    kind.add_argument(
        "--strangers",
        type=int,
        default=300,
        metavar="N",
        help="strangers: so many programs; default 300",
    )
    kind.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds; default 1")
    kind.add_argument(
        "--first-seed", type=int, default=0, metavar="N", help="the first of these; default 0"
    )
    kind.add_argument("--workers", type=int, default=1, metavar="N", help="processes; default 1")
    kind.add_argument("--rows", action="store_true", help="print each case as it is done")
    kind.add_argument("--json", metavar="FILE", help="write the rows, as they come")
    kind.add_argument(
        "--read",
        nargs="+",
        metavar="FILE",
        help="run nothing: the tables of rows that --json wrote, of a run cut short too",
    )
    kind.set_defaults(run=run_bench)


def run_bench(options: argparse.Namespace) -> int:
    """Prints the tables."""
    positive("--seeds", options.seeds)
    positive("--first-seed", options.first_seed, at_least=0)
    positive("--workers", options.workers)
    positive("--cases", options.cases, at_least=0)
    positive("--strangers", options.strangers)
    if options.read:
        rows = [row for file in options.read for row in _read(file)]
        for part in PARTS:
            SHOWN[part]([row for row in rows if _part(row) == part])
        return 0
    print("styles: " + ", ".join(registry.styles()))
    for style, why in registry.absent().items():
        print(f"{style} left out ({why})")
    kept = _Kept(options)
    for part in (part for part in PARTS if part in (options.only or PARTS)):
        SHOWN[part](kept.rows_of(_diagnosed(options, part)))
    kept.write()
    return 0


def _diagnosed(options: argparse.Namespace, part: str) -> Iterable[Row]:
    """The rows of a part, as they come."""
    if part != "strangers":
        return run.diagnosed(_cases(options, part), options.workers)
    count = QUICK[part] if options.quick else options.strangers
    known = [one for one in options.known or strangers.KNOWN if one in strangers.KNOWN]
    seeds = strangers.seeds_with(known, options.first_seed, count)
    return strangers_run.strangers(seeds, options.workers)


def _cases(options: argparse.Namespace, part: str) -> list[Case]:
    """The cases of a part."""
    known, count = options.known or KNOWN, _count(options, part)
    if part == "several":
        numbers = (2, 3) if "layout" in known else ()
        made = (cases.several(n, count or 1000, options.first_seed) for n in numbers)
        return [case for some in made for case in some]
    make = {"single": cases.single, "right": cases.right}[part]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    chosen = [case for case in make(seeds) if case.known in known]
    if options.quick:
        chosen = [case for case in chosen if case.sizes["H"] == SMALL["H"]]
    return cases.sample(chosen, count or len(chosen))


def _count(options: argparse.Namespace, part: str) -> int:
    """How many cases of a part were requested; 0 stands for all."""
    if options.quick:
        return QUICK[part]
    share = {"single": 1, "several": 12, "right": 6}[part]
    return max(1, options.cases // share) if options.cases else 0


class _Kept:
    """All rows so far; they are also written to a file on request, so that a run may be stopped."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.rows, self.written = options, list[Row](), monotonic()

    def rows_of(self, coming: Iterable[Row]) -> list[Row]:
        """The rows of a part, kept as they come."""
        from tqdm import tqdm

        found = []
        for row in coming:
            found.append(row)
            self.rows.append(row)
            if self.options.rows:
                tqdm.write(_line(row))  # which keeps the progress bar intact
            if monotonic() - self.written > KEPT:
                self.write()
        return found

    def write(self) -> None:
        """Writes the file."""
        if self.options.json:
            text = json.dumps(self.rows, indent=1, ensure_ascii=False)
            replace(self.options.json, text.encode())
        self.written = monotonic()


def _read(file: str) -> list[Row]:
    """The rows of a file."""
    try:
        rows: list[Row] = json.loads(Path(file).read_text("utf-8"))
        return [row for row in rows if row["known"] in KNOWN or _part(row) == "strangers"]
    except (ValueError, TypeError, KeyError):
        refuse("--read", "rows that --json wrote", file)


def _part(row: Row) -> str:
    """The part to which a row belongs."""
    if row.get("part") == "strangers":
        return "strangers"
    return {0: "right", 1: "single"}.get(len(row["faults"]), "several")


def _single(rows: Sequence[Row]) -> None:
    if rows:
        _shown("One mistake", tables.single(rows), tables.SINGLE)
        print(_left_out(rows))
        for known in KNOWN:
            confused = tables.confusion(rows, known)
            if confused:
                _shown(f"Who is taken for whom: {known}", confused, tables.CONFUSION)
        _listed("named wrongly", [r for r in rows if r["outcome"] == "wrong"])


def _several(rows: Sequence[Row]) -> None:
    if rows:
        title = "Two and three mistakes at once, with a layout"
        _shown(title, tables.several(rows), tables.SEVERAL)


def _right(rows: Sequence[Row]) -> None:
    if rows:
        _shown("Right code", tables.right(rows), tables.RIGHT)
        _listed("right, but a cause was named", [r for r in rows if r["causes"]])


def _strangers(rows: Sequence[Row]) -> None:
    if rows:
        print(f"\n{of_strangers.text(rows)}", flush=True)


SHOWN = {"single": _single, "several": _several, "right": _right, "strangers": _strangers}


def _shown(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> None:
    print(f"\n{title}\n" + table(rows, columns))
    sys.stdout.flush()


def _line(row: Row) -> str:
    """A case, and its diagnosis."""
    said = " + ".join(row["causes"]) or "no cause"
    return f"{row['outcome'] or row['verdict']}: {row['case']}: {said}"


def _left_out(rows: Sequence[Row]) -> str:
    """Mentions the cases that have no diagnosis, since the check did not call them wrong."""
    counts = {v: sum(r["verdict"] == v for r in rows) for v in ("agree", "unresolved", "refused")}
    return "without a diagnosis: " + ", ".join(f"{v} {n}" for v, n in counts.items())


def _listed(what: str, rows: Sequence[Row]) -> None:
    print(f"\n{what}: {len(rows)}" + ":" * bool(rows))
    for row in rows[:OFFENDERS]:
        print(f"  {row['case']}: {' + '.join(row['causes'])}")
    if len(rows) > OFFENDERS:
        print(f"  and {len(rows) - OFFENDERS} more")
