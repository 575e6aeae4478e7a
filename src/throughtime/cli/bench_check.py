"""`throughtime bench check`: how far the check can be trusted, what it costs, how exact it is."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from throughtime.arrays import positive, refuse
from throughtime.bench import jax_layer, torch_layer
from throughtime.bench.check import accuracy, calibration, cases, cost, growth, tables, trust
from throughtime.bench.engine import Row
from throughtime.bench.implementations import registry
from throughtime.bench.tables import table
from throughtime.storage import replace

PARTS = ("trust", "calibration", "cost", "growth", "accuracy")
OFFENDERS = 20  # cases that are listed by name
OTHERS = 80  # right and wrong cases each that the other tools look at too; they are slower
KEPT = 30  # seconds after which rows are written while more are to come


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the kind."""
    kind = kinds.add_parser("check", help="verdicts on right and wrong gradients")
    kind.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help="some of " + ", ".join(PARTS)
    )
    kind.add_argument("--quick", action="store_true", help="a few of everything, within a minute")
    kind.add_argument(
        "--cases",
        type=int,
        default=1000,
        metavar="N",
        help="trust: so many right gradients and as many wrong ones; default 1000, 0: all",
    )
    kind.add_argument("--seeds", type=int, default=1, metavar="N", help="trust: seeds; default 1")
    kind.add_argument(
        "--workers", type=int, default=1, metavar="N", help="trust: processes; default 1"
    )
    kind.add_argument("--json", metavar="FILE", help="write the rows, meanwhile too")
    kind.add_argument("--figure", metavar="FILE", help="draw the calibration (PNG, PDF, SVG)")
    kind.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the tables."""
    positive("--seeds", options.seeds)
    positive("--workers", options.workers)
    positive("--cases", options.cases, at_least=0)
    parts = options.only or PARTS
    if options.figure and "calibration" not in parts:
        refuse("--figure", "calibration among the parts", ", ".join(parts))
    print(_beside())
    rows: list[Row] = []
    shown = {
        "trust": _trust,
        "calibration": _calibration,
        "cost": _cost,
        "growth": _growth,
        "accuracy": _accuracy,
    }
    for part in (part for part in PARTS if part in parts):
        rows += shown[part](options)
        sys.stdout.flush()
    _write(rows, options.json)
    return 0


def _write(rows: Sequence[Row], path: str | None) -> None:
    if path:
        replace(path, json.dumps(rows, indent=1, ensure_ascii=False).encode())


def _kept(coming: Iterable[Row], path: str | None) -> list[Row]:
    """All of them; what there is goes to the file meanwhile: an hour's work cut short is kept."""
    rows: list[Row] = []
    written = perf_counter()
    for row in coming:
        rows.append(row)
        if perf_counter() - written > KEPT:
            _write(rows, path)
            written = perf_counter()
    return rows


def _beside() -> str:
    torch, jax = torch_layer.find(), jax_layer.find()
    there = [f"{n} {m.__version__}" for n, m in (("torch", torch), ("jax", jax)) if m]
    styles = "styles: " + ", ".join(registry.styles())
    lacking = [f"{style} left out ({why})" for style, why in registry.absent().items()]
    return "\n".join(["beside " + (", ".join(there) or "no other tool"), styles, *lacking])


def _title(words: str) -> None:
    print(f"\n{words}")


def _trust(options: argparse.Namespace) -> list[Row]:
    counts = (8, 16) if options.quick else (options.cases or 10**9,) * 2
    right = cases.sample(list(cases.right(range(options.seeds))), counts[0])
    wrong = cases.sample(list(cases.wrong(range(options.seeds))), counts[1])
    others = 4 if options.quick else OTHERS
    asked = [*cases.sample(right, others), *cases.sample(wrong, others)]
    mixed = [*right, *wrong]  # in any order, so that the bar's estimate holds
    mixed = [mixed[k] for k in np.random.default_rng(0).permutation(len(mixed))]
    rows = _kept(trust.trust(mixed, asked, options.workers), options.json)
    _title("Trust: right gradients accepted, wrong ones found")
    print(table(trust.summary(rows), tables.TRUST))
    open_share = {
        dtype: sum(r["ours"] == "unresolved" for r in rows if r["dtype"] == dtype)
        / max(1, sum(r["dtype"] == dtype for r in rows))
        for dtype in ("float64", "float32")
    }
    print("ours unresolved: " + ", ".join(f"{d} {s:.1%}" for d, s in open_share.items()))
    overclaimed = [row for row in rows if row["overclaimed"]]
    _listed("right, but accused", [r for r in rows if not r["fault"] and _accused(r)])
    _listed(
        "resolvable, but accepted", [r for r in rows if r["resolvable"] and r["ours"] == "agree"]
    )
    _listed("accepted against its own claim", overclaimed)
    return rows


def _accused(row: Row) -> bool:
    return row["ours"] in ("disagree", "refused")


def _listed(what: str, rows: Sequence[Row]) -> None:
    print(f"{what}: {len(rows)}" + ":" * bool(rows))
    for row in rows[:OFFENDERS]:
        why = f": {row['message']}" if row["message"] else ""
        off = f", off by {row['effect']:.1e}" if row["effect"] is not None else ""
        variant = ", ".join(f"{k}={v}" for k, v in row["variant"].items())
        print(
            "  " + " ".join(filter(None, [row["case"], f"seed {row['seed']}", variant])) + off + why
        )
    if len(rows) > OFFENDERS:
        print(f"  and {len(rows) - OFFENDERS} more")


def _calibration(options: argparse.Namespace) -> list[Row]:
    chosen = list(cases.right(range(1), [cases.SMALL]))
    rows, scores = calibration.calibration(cases.sample(chosen, 8 if options.quick else 10**6))
    _title("Calibration: share of right entries and directions within so many error bars")
    print(table([*map(calibration.flat, rows), calibration.nominal_row()], tables.CALIBRATION))
    if options.figure:
        calibration.draw(scores, options.figure)
    return rows


def _cost(options: argparse.Namespace) -> list[Row]:
    rows = cost.cost(8, ("right",)) if options.quick else cost.cost(64)
    if not rows:
        print("\ntorch is not installed: no cost beside it (pip install torch)")
        return rows
    _title(f"Cost: an LSTM with a head, {rows[0]['parameters']:,} parameters, T = 20, B = 4")
    print(table(rows, tables.COST))
    return rows


def _growth(options: argparse.Namespace) -> list[Row]:
    powers = range(3, 5) if options.quick else range(3, 8)
    rows = growth.growth([10**n for n in powers], range(1 if options.quick else 3))
    _title("Growth: an LSTM in float64, its gradient right, then one entry off by 1 % of the rms")
    print(table(growth.summary(rows), tables.GROWTH))
    return rows


def _accuracy(options: argparse.Namespace) -> list[Row]:
    rows: list[dict[str, Any]] = accuracy.accuracy(range(1 if options.quick else 10))
    _title("Accuracy: discrepancy of a right gradient, softmax LSTM of 5-5-5, T = 39")
    print(table(rows, tables.ACCURACY))
    return rows
