"""`python -m benchmarks flow`: the lag matrix beside PyTorch's, and whether the advice holds."""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import torch_layer
from benchmarks.engine import Row
from benchmarks.flow import lags, memory, overhead, stream, truncation
from benchmarks.tables import CASE, THREE_DIGITS, Column, table
from throughtime.arrays import positive
from throughtime.storage import replace

LAGS = (
    Column("ours", "what", "s"),
    Column("s", "seconds", THREE_DIGITS),
    Column("torch, T calls", "torch_seconds", THREE_DIGITS),
    Column("ratio", "ratio", ".1f"),
    Column("differs by", "error", ".1e"),
    Column("GF/s", "gflops", ".0f"),
    Column("peak", "peak_share", ".0%"),
)
MEMORY = (
    CASE,
    Column("matrix MB", "matrix_mb", ".0f"),
    Column("bytes / T·B·H", "matrix_per_tbh", ".0f"),
    Column("flow MB", "flow_mb", ".0f"),
    Column("keep=True", "kept_mb", ".0f"),
    Column("torch, one call", "torch_mb", ".0f"),
)
STREAM = (
    CASE,
    Column("ours", "what", "s"),
    Column("s", "seconds", THREE_DIGITS),
    Column("pass in windows", "windows_seconds", THREE_DIGITS),
    Column("whole pass", "whole_seconds", THREE_DIGITS),
    Column("passes", "ratio", ".2f"),
)
OVERHEAD = (
    CASE,
    Column("updates", "updates", ",d"),
    Column("s", "plain_seconds", THREE_DIGITS),
    Column("watched", "seconds", THREE_DIGITS),
    Column("overhead", "overhead", "+.1%"),
    Column("looks", "looks", ",d"),
    Column("took", "taken", ".1%"),
)
TRUNCATION = (
    Column("task and lag, network", "name", "s"),
    Column("runs", "runs", ",d"),
    Column("held", "held", ".1%"),
    Column("where seen", "seen_held", ".1%"),
    Column("K at 0.1", "K", ".0f"),
    Column("of T", "share", ".0%"),
    Column("worst / bound", "excess", ".2f"),
)


PARTS = ("lags", "memory", "stream", "overhead", "truncation")
WORST = 10  # how many runs are listed


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this kind of benchmark to the command line."""
    kind = kinds.add_parser("flow", help="the flow of gradients beside T backward passes")
    kind.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help="some of " + ", ".join(PARTS)
    )
    kind.add_argument("--quick", action="store_true", help="a few of everything, within a minute")
    kind.add_argument(
        "--seeds", type=int, metavar="N", help="truncation: seeds; default 10, if --quick 1"
    )
    kind.add_argument("--json", metavar="FILE", help="write the rows")
    kind.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the tables."""
    seeds = options.seeds if options.seeds is not None else (1 if options.quick else 10)
    positive("--seeds", seeds)
    parts = options.only or PARTS
    torch = torch_layer.find()
    print(f"beside torch {torch.__version__}" if torch else "torch is not installed")
    rows: list[Row] = []
    for part in (part for part in PARTS if part in parts):
        found = {
            "lags": lambda: _lags(options.quick),
            "memory": lambda: _memory(options.quick),
            "stream": lambda: _stream(options.quick),
            "overhead": lambda: _overhead(options.quick),
            "truncation": lambda: _truncation(options.quick, seeds),
        }[part]()
        rows += found
        sys.stdout.flush()
    if options.json:
        replace(options.json, json.dumps(rows, indent=1, ensure_ascii=False).encode())
    return 0


def _lags(quick: bool) -> list[Row]:
    rows = lags.lag_rows(quick)
    print(f"\nThe gradients of all losses by all states before them, {rows[0]['case']}")
    print(table(rows, LAGS))
    return rows


def _memory(quick: bool) -> list[Row]:
    rows = memory.memory_rows(quick)
    if not rows:
        print("\nPeak memory is known on Linux only")
        return rows
    print("\nPeak memory beyond parameters and data")
    print(table(rows, MEMORY))
    return rows


def _stream(quick: bool) -> list[Row]:
    rows = stream.stream_rows(quick)
    print("\nA long stream, beside one training pass over it")
    print(table(rows, STREAM))
    return rows


def _overhead(quick: bool) -> list[Row]:
    rows = overhead.overhead_rows(quick)
    print("\nTraining while the flow is watched")
    print(table(rows, OVERHEAD))
    return rows


def _truncation(quick: bool, seeds: int) -> list[Row]:
    rows = truncation.truncation_rows(quick, seeds)
    print("\nThe advised truncation on other data of the kind: the bias within the bound")
    print(table(truncation.summary(rows), TRUNCATION))
    worst = sorted((r for r in rows if not r["held"]), key=lambda r: -r["bias"] / r["bound"])
    for row in worst[:WORST]:
        print(
            f"  {row['task']}, {row['cell']} {row['state']}, seed {row['seed']}: K = {row['K']} "
            f"of {row['T']}, bias {row['bias']:.3g} where {row['bound']:g} was asked"
        )
    return rows
