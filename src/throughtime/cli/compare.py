"""`throughtime compare`: two gradients as numbers, and what they say about each other."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.diagnosis import COMPARISON_ERROR, compare
from throughtime.gradcheck import CheckError

STATUS = {"agree": 0, "disagree": 1, "unresolved": 2}
SEPARATORS = re.compile(r"[,;|\s]+")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")

DESCRIPTION = """Compares a gradient with a numerical one, from the numbers alone.

  a.npz b.npz     named arrays; also a.npy b.npy
  pairs.csv       two columns, gradient and numerical; what stands before them names the entry
  -               the same on standard input, as pasted from a terminal"""

EPILOG = """exit status:
  0  agree        1  disagree        2  unresolved        3  they could not be compared

examples:
  throughtime compare gradient.npz numerical.npz --steps 39
  printf 'W[0,0] 0.025 0.05\\nW[0,1] 0.5 1.0\\nb[0] 0.1 0.2\\n' | throughtime compare -"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "compare",
        help="compare two gradients that are given as numbers",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gradient", metavar="FILE", help="the gradient, or pairs of numbers")
    parser.add_argument("numerical", metavar="FILE", nargs="?", help="the numerical gradient")
    parser.add_argument("--parameters", metavar="FILE", help="where both were taken")
    parser.add_argument("--steps", type=int, metavar="T", help="number of steps")
    parser.add_argument("--batch", type=int, metavar="B", help="number of sequences")
    parser.add_argument("--outputs", type=int, metavar="N", help="number of outputs or classes")
    parser.add_argument(
        "--error",
        type=float,
        default=COMPARISON_ERROR,
        metavar="E",
        help="how far either may be off, relative to a tensor's largest entry "
        f"(default {COMPARISON_ERROR:g})",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the report; returns the verdict's exit status."""
    if options.numerical is None:
        gradient, numerical = pairs(_lines(options.gradient), options.gradient)
    else:
        gradient, numerical = arrays(options.gradient), arrays(options.numerical)
    parameters = arrays(options.parameters) if options.parameters else None
    report = compare(
        gradient,
        numerical,
        parameters,
        steps=options.steps,
        batch=options.batch,
        outputs=options.outputs,
        error=options.error,
    )
    if not options.quiet:
        print(report)
    if options.json:
        report.to_json(options.json)
    return STATUS[report.verdict]


def arrays(path: str) -> dict[str, Array]:
    """The named arrays of a .npz file, or the one of a .npy file."""
    try:
        found: Any = np.load(path, allow_pickle=False)
    except ValueError:
        way_out = "np.savez(path, **gradient) writes one"
        refuse(path, "a file of NumPy arrays", "something else", way_out, error=CheckError)
    return {"all": found} if isinstance(found, np.ndarray) else dict(found)


def pairs(lines: Iterable[str], what: str = "pairs") -> tuple[dict[str, Array], dict[str, Array]]:
    """Two columns of numbers, and what stands before them as the tensor's name.

    Lines without two numbers are passed over, as headings are; the numbers of one tensor need
    not stand together.

    Raises:
        CheckError: where no line has two numbers.

    Example:
        >>> g, n = pairs(["entry, gradient, numerical", '"W[0, 1]", 0.5, 1.0', "b[0]  2.0  4.0"])
        >>> g["W"], n["b"]
        (array([0.5]), array([4.]))
    """
    columns: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        *label, one, other = ["", "", *filter(None, SEPARATORS.split(line.strip()))]
        both = _number(one), _number(other)
        if both[0] is None or both[1] is None:
            continue
        name = NAME.search(" ".join(label))
        columns.setdefault(name.group() if name else "all", []).append((both[0], both[1]))
    if not columns:
        refuse(what, "lines with two numbers, gradient and numerical", "none", error=CheckError)
    tables = {name: np.array(rows) for name, rows in columns.items()}
    return (
        {name: table[:, 0] for name, table in tables.items()},
        {name: table[:, 1] for name, table in tables.items()},
    )


def _lines(path: str) -> list[str]:
    if path == "-":
        return sys.stdin.read().splitlines()
    if path.endswith((".npz", ".npy")):
        refuse(path, "a second file beside it", "none", error=CheckError)
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        refuse(path, "text", "something else", error=CheckError)


def _number(word: str) -> float | None:
    try:
        return float(word.replace("−", "-"))
    except ValueError:
        return None
