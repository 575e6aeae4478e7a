"""`throughtime bench`: speed, side by side."""

from __future__ import annotations

import argparse
import json

from throughtime.bench.cases import CASES
from throughtime.bench.engine import measure
from throughtime.storage import replace

SECONDS, QUICK_SECONDS = 4.0, 0.5  # a case


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("bench", help="time recurrent layers beside PyTorch's")
    parser.add_argument("what", choices=["engine"], help="forward and backward of one layer")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the table."""
    rows = measure(CASES, QUICK_SECONDS if options.quick else SECONDS)
    print(f"{'B,T,I,H, forward and backward':42} {'ours ms':>9} {'torch ms':>9} {'ratio':>6} GF/s")
    for row in rows:
        torch, ratio = "—", "—"
        if row["torch_ms"]:
            torch, ratio = f"{row['torch_ms']:.2f}", f"{row['ratio']:.2f}"
        ours = f"{row['ours_ms']:9.2f}"
        print(f"{row['case']:42} {ours} {torch:>9} {ratio:>6} {row['gflops']:5.0f}")
    if any(row["torch_ms"] is None for row in rows):
        print("torch is not installed: no ratios (pip install torch)")
    if options.json:
        replace(options.json, json.dumps(rows, indent=1).encode())
    return 0
