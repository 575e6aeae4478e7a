"""`throughtime mend`: what would be right in a user's own file, as a diff."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from throughtime.arrays import refuse
from throughtime.cli import say
from throughtime.cli.check import termination_as_exit
from throughtime.cli.colour import edits
from throughtime.cli.outputs import writable
from throughtime.cli.places import look_at, split_place
from throughtime.gradcheck import CheckError
from throughtime.progress import waiting
from throughtime.source import Found, apart, find
from throughtime.source.mending.mend import mend

NOT_MENDED = 1
TASK = "throughtime.cli.mend:found_in"
PYTHON = (".py", ".ipynb")

DESCRIPTION = """Searches for the small edits of your own source after which its gradient is right.

The numerical gradient of the loss is measured once; then edits of the backward pass are tried one
by one, each in a process of its own, within limits of time and memory. An edit is believed only
where the gradient agrees with other data, at another point and with other lengths as well. What
comes out is a diff: your file is not changed without --write."""

EPILOG = """exit status:
  0  mended, or nothing to mend      1  not mended, or in part      3  it could not run

examples:
  throughtime mend lstm.py
  throughtime mend lstm.py:LSTM --write
  throughtime mend net.ipynb
  throughtime mend lstm.py --with "LSTM(input_size=3, hidden_size=4)"
  throughtime mend lstm.py:120-184
NumPy in Python files and notebooks; not C or C++, whose source is not read."""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "target", metavar="FILE[:NAME]",
        help="your file or notebook, and what in it: a class, a function, or lines as 120-184",
    )  # fmt: skip
    parser.add_argument(
        "--with", dest="made", metavar="CODE",
        help="how an object of your file is made, or a whole training step that sets loss, where "
        "that cannot be guessed",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="write it; keeps FILE.orig")
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON")
    parser.add_argument(
        "--effort", choices=("quick", "normal", "exhaustive"), default="normal",
        help="of the check at the end (default normal)",
    )  # fmt: skip
    parser.add_argument(
        "--processes", type=int, metavar="N", default=min(2, os.cpu_count() or 1),
        help="that try edits at the same time (default 2)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what was found; returns the exit status."""
    with termination_as_exit():  # so that processes and folders go
        return _mend(options)


def _mend(options: argparse.Namespace) -> int:
    path, name = split_place(options.target)
    if path.suffix not in PYTHON:
        expected, way_out = "a Python file or a notebook", "C and C++ are not read"
        refuse("mend", expected, str(path), way_out, error=CheckError)
    if options.processes < 1:
        refuse("--processes", "a positive number", options.processes, error=CheckError)
    if options.write:
        _can_be_rewritten(path)  # before a search that may be long
    look_at(options.target)
    bar = False if options.quiet else None
    with waiting(f"looking for what can be checked in {path.name}", bar):
        found = apart(TASK, str(path.resolve()), name, options.made or "")
    assert isinstance(found, Found)
    if not options.quiet:
        say(f"{found}\n")
    mended = mend(found.recipe, effort=options.effort, processes=options.processes, progress=bar)
    if not options.quiet:
        say(str(mended).removesuffix("\n"), paint=edits)
        for note in (note for note in found.notes if note.startswith("Not checked:")):
            say(f"\n{note}")  # what is called mended leaves these out
    if options.json:
        mended.to_json(options.json)
    if options.write and mended.diff():
        for written in mended.write():
            say(f"written: {written} (as it was: {written.name}.orig)")
    return 0 if mended.is_mended or mended.explained else NOT_MENDED


def _can_be_rewritten(path: Path) -> None:
    """Refuses a file that --write could not change, or whose copy would overwrite one."""
    copy = path.with_name(f"{path.name}.orig")
    if copy.exists():
        way_out = "move it away: it is never overwritten"
        refuse("--write", f"no {copy.name}", "one", way_out, error=CheckError)
    writable("--write", copy)


def found_in(place: str, name: str, made: str) -> Found:
    """In a process of its own: what a file holds. `TASK` names it."""
    return find(Path(place), name, setup=made)
