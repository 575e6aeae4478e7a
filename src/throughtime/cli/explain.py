"""`throughtime explain`: a backward pass derived, or a fault of one described."""

from __future__ import annotations

import argparse
import re
from textwrap import fill

from throughtime.arrays import refuse
from throughtime.diagnosis import FAULTS, fault_named
from throughtime.explain import DERIVATIONS, explain

FAULT = "fault"
REFERENCE = re.compile(r"\[(\w+)\]")  # to another fault
WIDTH = 100


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.description = (
        "Derives a backward pass line by line beside the code and checks each line "
        "numerically on a small live example. Exit status: 0 if all lines agree, 1 if one does "
        "not. With fault NAME, as a diagnosis names it: how that fault comes about, how it shows, "
        "what looks like it and what to change; with fault alone, all of them, a line each."
    )
    parser.add_argument(
        "name",
        choices=[*DERIVATIONS, FAULT],
        help="a cell, or a sum through time; or the word fault",
    )
    parser.add_argument("fault", nargs="?", metavar="NAME", help="such as averaged_over_steps")
    parser.add_argument("--seed", type=_seed, help="random seed for the example (default 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the derivation; 0 if every line agrees with its numerical derivative, else 1."""
    if args.name == FAULT:
        if args.seed is not None:
            refuse("--seed", "a derivation, whose example is drawn", "a fault")
        print(_page(args.fault) if args.fault else _all())
        return 0
    if args.fault is not None:
        way_out = f"throughtime explain fault {args.fault}"
        refuse(f"after {args.name}", "nothing", repr(args.fault), way_out)
    explanation = explain(DERIVATIONS[args.name], args.seed or 0)
    print(explanation)
    return 0 if explanation.agrees else 1


def _page(name: str) -> str:
    """A fault's page, whose references are names alone."""
    text = fault_named(name).markdown
    return REFERENCE.sub(lambda m: m[1] if m[1] in FAULTS else m[0], text).rstrip()


def _all() -> str:
    indent = " " * 4
    return "\n".join(
        f"{name}\n" + fill(fault.summary, WIDTH, initial_indent=indent, subsequent_indent=indent)
        for name, fault in FAULTS.items()
    )


def _seed(text: str) -> int:
    """A whole number of at least 0, as NumPy's generators need it."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)
