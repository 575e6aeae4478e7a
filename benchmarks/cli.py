"""`python -m benchmarks`: speed and trust, measured side by side with other tools."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import bfloat16, cases, limits, torch_modules, training
from benchmarks import cells as bench_cells
from benchmarks import derive as bench_derive
from benchmarks import scale as bench_scale
from benchmarks.check import command as bench_check
from benchmarks.diagnose import command as bench_diagnose
from benchmarks.engine import Row, measure, peak
from benchmarks.flow import command as bench_flow
from benchmarks.growth import growth
from benchmarks.sweep import summary, sweep
from benchmarks.tables import GROWTH, LIMITS, MODULES, TIMES, TRAINING, Column, table
from benchmarks.torch_layer import find
from throughtime import _engine
from throughtime.arrays import real, refuse
from throughtime.cli import Parser, run
from throughtime.storage import replace
from throughtime.training import read, standard_library

PARTS = ("table", "forward", "length", "modules", "bfloat16", "limits", "sweep")
USUAL = PARTS[:4]
COLUMNS: dict[str, tuple[Column, ...]] = {
    "length": GROWTH,
    "modules": MODULES,
    "limits": LIMITS,
    "bfloat16": bfloat16.COLUMNS,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a benchmark and returns its exit status; bad input gives one line and no traceback."""
    return run(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    about = "Speed and trust, measured side by side with other tools."
    parser: argparse.ArgumentParser = Parser(prog="python -m benchmarks", description=about)
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    kinds = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    engine = kinds.add_parser("engine", help="forward and backward of one recurrent layer")
    engine.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help="some of "
        + ", ".join(PARTS)
        + "; all but the last three without it, the table if --quick",
    )
    model = kinds.add_parser("training", help="a character model: characters a second")
    model.add_argument("--text", nargs="+", metavar="FILE", help="default: the standard library")
    for kind, answer in ((engine, run_engine), (model, run_training)):
        kind.add_argument("--case", metavar="TEXT", help="only cases whose name contains it")
        kind.add_argument("--quick", action="store_true", help="fewer repeats")
        kind.add_argument("--seconds", type=float, metavar="S", help="time each case for S seconds")
        kind.add_argument("--json", metavar="FILE", help="write the rows")
        kind.set_defaults(run=answer)
    bench_check.add(kinds)
    bench_diagnose.add(kinds)
    bench_flow.add(kinds)
    bench_scale.add(kinds)
    bench_derive.add(kinds)
    bench_cells.add(kinds)
    return parser


def run_engine(options: argparse.Namespace) -> int:
    """Prints the tables of one recurrent layer."""
    quick = options.quick
    parts = options.only or (USUAL[:1] if quick else USUAL)
    seconds, rounds = _seconds(options, 5.0, 0.4), 1 if quick else 3
    shorter, shortest = _seconds(options, 2.5, 0.2), _seconds(options, 1.0, 0.08)
    lengths = cases.LENGTHS[:4] if quick else cases.LENGTHS
    print(_machine())
    rows: list[Row] = []

    def part(name: str, title: str, of: Callable[[Any], list[Row]], chosen: Sequence[Any]) -> None:
        if name not in parts:
            return
        chosen = [case for case in chosen if not options.case or options.case in str(case)]
        if not chosen:
            return
        found = of(chosen)
        if not found:  # there is nothing to compare with
            return
        rows.extend(found)
        columns = COLUMNS.get(name, TIMES)
        print(f"\n{title}\n" + (summary(found) if name == "sweep" else table(found, columns)))

    part("table", "Forward and backward", lambda c: measure(c, seconds, rounds), cases.TABLE)
    part("forward", "Forward only", lambda c: measure(c, shorter, rounds), cases.FORWARD)
    part("length", "Steps", lambda c: growth(c, shortest), lengths)
    part("length", "Hidden units", lambda c: growth(c, shortest), cases.WIDTHS)
    title = "Forward and backward through throughtime.torch's modules and torch.nn's"
    part("modules", title, lambda c: torch_modules.measure(c, seconds, rounds), cases.MODULES)
    title = "Products in bfloat16"
    part("bfloat16", title, lambda c: bfloat16.measure(c, seconds, rounds), bfloat16.CASES)
    title = "Shares of the peak: threads, one alone, as many processes"
    part("limits", title, lambda c: limits.measure(c, seconds, rounds), cases.LIMITS)
    part("sweep", "Sweep", lambda c: sweep(c, _seconds(options, 0.25, 0.05)), cases.SWEEP)
    return _finish(rows, options)


def run_training(options: argparse.Namespace) -> int:
    """Prints the characters per second, and how our time is spent."""
    text = read(options.text or standard_library())
    chosen = [m for m in training.MODELS if not options.case or options.case in str(m)]
    print(_machine())
    updates = 20 if options.quick else 200
    rows = training.measure(chosen, text, updates, _seconds(options, 12.0, 2.0))
    if rows:
        print(f"\nCharacters a second, {len(text):,} characters of text\n" + table(rows, TRAINING))
        parts = [Column(name, name, ".1%") for name in rows[0]["shares"]]
        found = [{"case": row["case"]} | row["shares"] for row in rows]
        print("\nWhere our time goes\n" + table(found, (TRAINING[0], *parts)))
    return _finish(rows, options)


def _seconds(options: argparse.Namespace, usual: float, quick: float) -> float:
    """For how many seconds a case is timed."""
    if options.seconds is None:
        return quick if options.quick else usual
    if real("--seconds", options.seconds) <= 0:
        refuse("--seconds", "a number above 0", options.seconds)
    return float(options.seconds)


def _finish(rows: list[Row], options: argparse.Namespace) -> int:
    if not rows:
        refuse("--case", "a part of a case's name", repr(options.case))
    if find() is None:
        print("torch is not installed: nothing of it to compare with (pip install torch)")
    if options.json:
        replace(options.json, json.dumps(rows, indent=1, ensure_ascii=False).encode())
    return 0


def _machine() -> str:
    threads, torch = _engine.threads(), find()
    best = f"{peak('float32'):.0f} GF/s at most in float32"
    beside = f"torch {torch.__version__}" if torch else "no torch"
    return f"{_engine.isa()}, threads: {threads}, {best}; {beside}"
