"""`throughtime bench`: where the benchmarks are, which a checkout has and a package has not."""

from __future__ import annotations

import argparse

from throughtime.arrays import refuse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("bench", help="speed and trust: how to run the benchmarks")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Refuses, with the way out."""
    what = " ".join(options.arguments) or "engine"
    expected = f"python -m benchmarks {what}, in a checkout"
    refuse("benchmarks", expected, "throughtime bench", "the package does not include them")
