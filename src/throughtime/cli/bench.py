"""`throughtime bench`: where the benchmarks are, which a checkout has and a package has not."""

from __future__ import annotations

import argparse

from throughtime.arrays import refuse


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Refuses, with the way out."""
    what = " ".join(options.arguments) or "engine"
    expected = f"python -m benchmarks {what}, in a checkout"
    refuse("benchmarks", expected, "throughtime bench", "the package does not include them")
