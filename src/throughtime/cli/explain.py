"""`throughtime explain`: a backward pass derived, with the numbers of a small live example."""

from __future__ import annotations

import argparse
from typing import Any

from throughtime.explain import DERIVATIONS, explain


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "explain",
        help="derive a backward pass line by line, and check each line numerically",
        description="Derives a backward pass line by line beside the code and checks each line "
        "numerically on a small live example. Exit status: 0 if all lines agree, 1 if one does "
        "not.",
    )
    parser.add_argument(
        "name", choices=list(DERIVATIONS), help="a cell, or what is summed through time"
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, help="of the example's numbers (default: 0)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the derivation; 0 if every line agrees with its numerical derivative, else 1."""
    explanation = explain(DERIVATIONS[args.name], args.seed)
    print(explanation)
    return 0 if explanation.agrees else 1


def _seed(text: str) -> int:
    """A whole number of at least 0, as NumPy's generators want it."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)
