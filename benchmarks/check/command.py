"""`python -m benchmarks check`: how far the check can be trusted, its cost, its accuracy."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks import jax_layer, torch_layer
from benchmarks.check import accuracy, calibration, cases, cost, growth, tables, trust
from benchmarks.engine import Row
from benchmarks.strangers.run import strangers
from corpus import registry
from throughtime.arrays import positive, refuse
from throughtime.storage import replace

OTHERS = 80  # right and wrong cases each that the other tools check too; they are slower
FEW, MANY = 8, 64  # hidden units for which the cost is measured: 576 and 33,280 parameters
SIZES = tuple(10**n for n in range(3, 8))  # numbers of parameters over which growth is measured
LARGE = 10**6  # from here on one seed is enough
KEPT = 30  # seconds between two writings of the rows


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this kind of benchmark to the command line."""
    kind = kinds.add_parser("check", help="verdicts on right and wrong gradients")
    kind.add_argument(
        "--only", nargs="+", choices=MEASURED, metavar="PART", help="some of " + ", ".join(MEASURED)
    )
    kind.add_argument("--quick", action="store_true", help="a few of everything, within a minute")
    kind.add_argument(
        "--cases",
        type=int,
        nargs="+",
        default=[1000],
        metavar="N",
        help="trust, calibration: so many right gradients, and as many wrong ones, or so many as "
        "a second number says; default 1000, 0: all",
    )
    kind.add_argument(
        "--strangers",
        type=int,
        nargs="+",
        default=[300],
        metavar="N",
        help="strangers: so many right networks, and as many wrong ones, or so many as a second "
        "number says; default 300",
    )
    kind.add_argument("--seeds", type=int, default=1, metavar="N", help="trust: seeds; default 1")
    kind.add_argument(
        "--first-seed",
        type=int,
        default=0,
        metavar="N",
        help="trust, strangers: the first of them; default 0",
    )
    kind.add_argument(
        "--workers", type=int, default=1, metavar="N", help="trust, strangers: processes; default 1"
    )
    kind.add_argument(
        "--parameters",
        type=int,
        nargs="+",
        metavar="N",
        help="growth: about so many; default " + " ".join(map(str, SIZES)),
    )
    kind.add_argument("--json", metavar="FILE", help="write the rows, meanwhile too")
    kind.add_argument(
        "--rows", metavar="FILE", help="measure nothing: the tables of rows that --json wrote"
    )
    kind.add_argument("--figure", metavar="FILE", help="draw the calibration (PNG, PDF, SVG)")
    kind.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the tables."""
    positive("--seeds", options.seeds)
    positive("--first-seed", options.first_seed, at_least=0)
    positive("--workers", options.workers)
    for name, counts in (("--cases", options.cases), ("--strangers", options.strangers)):
        for count in counts:
            positive(name, count, at_least=0)
        if len(counts) > 2:
            refuse(name, "one number or two", len(counts))
    for count in options.parameters or ():
        positive("--parameters", count)
    parts = options.only or list(MEASURED)
    if options.figure and (options.rows or "calibration" not in parts):
        actual = "--rows" if options.rows else ", ".join(parts)
        refuse("--figure", "calibration among the parts that are measured", actual)
    if options.rows:
        if options.json:
            refuse("--json", "something that is measured", "--rows")
        _show(_read(options.rows), parts)
        return 0
    print(_beside())
    rows: list[Row] = []
    for part in (part for part in MEASURED if part in parts):
        found = _kept(MEASURED[part](options), options.json, rows)
        if part == "cost" and not found:
            print("\ntorch is not installed: no cost beside it (pip install torch)")
        _show(found, [part])
        rows += found
    _write(rows, options.json)
    return 0


def _show(rows: Sequence[Row], parts: Sequence[str]) -> None:
    for part in parts:
        if own := [row for row in rows if row["part"] == part]:
            print(f"\n{tables.text(part, own)}", flush=True)


def _read(path: str) -> list[Row]:
    expected = "a file that --json wrote"
    try:
        rows = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as problem:
        refuse("--rows", expected, problem)
    if not isinstance(rows, list) or any("part" not in row for row in rows):
        refuse("--rows", expected, path)
    return rows


def _write(rows: Sequence[Row], path: str | None) -> None:
    if path:
        replace(path, json.dumps(rows, indent=1, ensure_ascii=False).encode())


def _kept(coming: Iterable[Row], path: str | None, before: Sequence[Row] = ()) -> list[Row]:
    """All rows; they are also written at intervals, so that an interrupted run is not lost."""
    rows: list[Row] = []
    written = perf_counter()
    for row in coming:
        rows.append(row)
        if perf_counter() - written > KEPT:
            _write([*before, *rows], path)
            written = perf_counter()
    return rows


def _beside() -> str:
    torch, jax = torch_layer.find(), jax_layer.find()
    there = [f"{n} {m.__version__}" for n, m in (("torch", torch), ("jax", jax)) if m]
    styles = "styles: " + ", ".join(registry.styles())
    lacking = [f"{style} left out ({why})" for style, why in registry.absent().items()]
    return "\n".join(["beside " + (", ".join(there) or "no other tool"), styles, *lacking])


def _trust(options: argparse.Namespace) -> Iterable[Row]:
    counts = (8, 16) if options.quick else [n or 10**9 for n in (options.cases * 2)[:2]]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    right = cases.sample(list(cases.right(seeds)), counts[0])
    wrong = cases.sample(list(cases.wrong(seeds)), counts[1])
    others = 4 if options.quick else OTHERS
    asked = [*cases.sample(right, others), *cases.sample(wrong, others)]
    everything = [*right, *wrong]
    # In random order, so that the bar's estimate holds, and some rows represent all of them.
    order = np.random.default_rng(0).permutation(len(everything))
    return trust.trust([everything[k] for k in order], asked, options.workers)


def _strangers(options: argparse.Namespace) -> Iterable[Row]:
    right, wrong = (8, 8) if options.quick else (options.strangers * 2)[:2]
    first = options.first_seed
    return strangers(range(first, first + right), range(first, first + wrong), options.workers)


def _calibration(options: argparse.Namespace) -> Iterable[Row]:
    chosen = list(cases.right(range(1), [cases.SMALL]))
    count = 8 if options.quick else options.cases[0] or 10**9
    rows, scores = calibration.calibration(cases.sample(chosen, count))
    if options.figure:
        calibration.draw(scores, options.figure)
    return rows


def _cost(options: argparse.Namespace) -> Iterable[Row]:
    few = cost.cost(FEW, ("right",) if options.quick else tuple(cost.WRONG))
    # torch's slow mode takes minutes there, and one run is enough to show its cost.
    return few if options.quick else chain(cost.cost(MANY, ("right",)), few)


def _growth(options: argparse.Namespace) -> Iterable[Row]:
    counts = options.parameters or (SIZES[:2] if options.quick else SIZES)
    return chain.from_iterable(
        growth.growth([n], range(1 if options.quick or n >= LARGE else 3)) for n in counts
    )


def _accuracy(options: argparse.Namespace) -> Iterable[Row]:
    return accuracy.accuracy(range(1 if options.quick else 10))


MEASURED: dict[str, Callable[[argparse.Namespace], Iterable[Row]]] = {
    "trust": _trust,
    "strangers": _strangers,
    "calibration": _calibration,
    "cost": _cost,
    "growth": _growth,
    "accuracy": _accuracy,
}
