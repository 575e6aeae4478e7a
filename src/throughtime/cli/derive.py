"""`throughtime derive`: the backward pass of a cell, from its forward equations."""

from __future__ import annotations

import argparse

from throughtime.arrays import refuse
from throughtime.cells import CellDefinition, DerivedCell, derive
from throughtime.cli import say
from throughtime.targets import objects_in_file


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.description = (
        "Derives the backward pass of a cell that tt.cell made of the forward "
        "equations of one step, and prints it line by line. Exit status: 0; with --check 1 if a "
        "line differs from its numerical derivative."
    )
    parser.add_argument("cell", metavar="FILE.py[:NAME]", help="file, and name of the cell in it")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--numpy", action="store_true", help="as NumPy functions, which run")
    form.add_argument("--c", action="store_true", help="as C functions, which compile")
    form.add_argument("--latex", action="store_true", help="as LaTeX")
    parser.add_argument(
        "--html", metavar="FILE", help="write a page, with each line beside a numerical derivative"
    )
    parser.add_argument(
        "--check", action="store_true", help="each line beside a numerical derivative"
    )
    parser.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="LETTER=N",
        help="a size, such as H=8; small ones if not given",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the derivation; 1 if it was to be checked and a line differs, else 0."""
    everything, name = objects_in_file(args.cell)
    found = {
        key: value
        for key, value in everything.items()
        if isinstance(value, CellDefinition | DerivedCell)
    }
    if not found:
        refuse(args.cell, "a cell that tt.cell made", "none", "decorate the step with @tt.cell")
    if not name and len(found) > 1:
        way_out = f"name one: {args.cell}:{next(iter(found))}"
        refuse(args.cell, "one cell", ", ".join(found), way_out)
    if name and name not in found:
        refuse(args.cell, "one of " + ", ".join(found), repr(name))
    derivation = derive(found[name or next(iter(found))], **dict(map(_size, args.size)))
    chosen = next((form for form in ("numpy", "c", "latex") if getattr(args, form)), "")
    say(getattr(derivation, chosen) if chosen else str(derivation))
    if args.html:
        from throughtime.report.derivation_page import derivation_page

        derivation_page(derivation, args.html, {"command": args.command_line})
    if not args.check:
        return 0
    say("Each line beside a numerical derivative, at its largest entry:")
    say(str(derivation.checked()))
    return 0 if derivation.agrees else 1


def _size(text: str) -> tuple[str, int]:
    letter, _, number = text.partition("=")
    if not letter or not number.isdecimal():
        refuse("--size", "a letter and a number, such as H=8", repr(text))
    return letter, int(number)
