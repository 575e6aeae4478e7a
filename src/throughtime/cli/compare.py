"""`throughtime compare`: two gradients as numbers, and what they say about each other."""

from __future__ import annotations

import argparse
import ast
import codecs
import io
import os
import re
import sys
import warnings
from typing import Any

import numpy as np

from throughtime import storage
from throughtime.arrays import Array, in_a_line, refuse
from throughtime.cli import columns, say
from throughtime.cli.colour import verdicts
from throughtime.diagnosis import COMPARISON_ERROR, compare
from throughtime.gradcheck import CheckError

DEFINITION = re.compile(r"^(def|class) \w+.*:", re.MULTILINE)
SOURCES = (".c", ".cc", ".cpp", ".cu", ".cxx", ".h", ".hpp", ".ipynb", ".jl", ".js", ".rs", ".ts")
BYTE_ORDERS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as PowerShell writes them
LONGEST_TEXT = 2**28  # bytes; what somebody printed is shorter, and a device may be endless
STATUS = {"agree": 0, "disagree": 1, "unresolved": 2}

DESCRIPTION = """Compares a gradient with a numerical one, from the numbers alone.

  a.npz b.npz     named arrays; also a.npy b.npy
  pairs.txt       both as a program printed them: a table with a heading, pairs behind words, two
                  arrays; a CSV file; what stands before the numbers names the entry
  -               the same on standard input, as pasted from a terminal"""

EPILOG = """exit status:
  0  agree        1  disagree        2  unresolved        3  they could not be compared

examples:
  throughtime compare gradient.npz numerical.npz --steps 39
  printf 'W[0,0] 0.025 0.05\\nW[0,1] 0.5 1.0\\nb[0] 0.1 0.2\\n' | throughtime compare -"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("gradient", metavar="FILE", help="the gradient, or pairs of numbers")
    parser.add_argument("numerical", metavar="FILE", nargs="?", help="the numerical gradient")
    parser.add_argument("--parameters", metavar="FILE", help="where both were taken")
    parser.add_argument("--steps", type=int, metavar="T", help="number of steps")
    parser.add_argument("--batch", type=int, metavar="B", help="number of sequences")
    parser.add_argument("--outputs", type=int, metavar="N", help="number of outputs or classes")
    parser.add_argument(
        "--error",
        type=float,
        metavar="E",
        help="how far either may be off, relative to a tensor's largest entry (by default what "
        f"digits, grid and scatter say, at least {COMPARISON_ERROR:g})",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the report; returns the verdict's exit status."""
    parameters = arrays(options.parameters) if options.parameters else None
    given: dict[str, Any] = (
        {"text": _text(options.gradient)}
        if options.numerical is None
        else {"gradient": arrays(options.gradient), "numerical": arrays(options.numerical)}
    )
    report = compare(
        **given,
        parameters=parameters,
        steps=options.steps,
        batch=options.batch,
        outputs=options.outputs,
        error=options.error,
    )
    if not options.quiet:
        say(report.as_text(columns()), paint=verdicts)
    if options.json:
        report.to_json(options.json)
    return STATUS[report.verdict]


def arrays(path: str) -> dict[str, Array]:
    """The named arrays of a .npz file, or the one of a .npy file."""
    try:
        content = io.BytesIO(storage.read_bytes(path))
        found: Any = np.load(content, allow_pickle=False)
        return {"all": found} if isinstance(found, np.ndarray) else dict(found)
    except (OSError, MemoryError):
        raise
    except Exception as problem:  # NumPy's readers of both formats raise some ten kinds
        way_out = f"np.savez(path, **gradient) writes one ({in_a_line(str(problem))[:100]})"
        refuse(path, "a file of NumPy arrays", "something else", way_out, error=CheckError)


def _text(path: str) -> str:
    if path == "-":
        return _numbers(path, sys.stdin.read())
    if path.endswith((".npz", ".npy")) and os.path.exists(path):
        refuse(path, "a second file beside it", "none", error=CheckError)
    try:
        written = storage.read_stream(path, LONGEST_TEXT)
        read = written.decode("utf-16" if written[:2] in BYTE_ORDERS else "utf-8-sig")
    except UnicodeDecodeError:
        refuse(path, "text", "something else", error=CheckError)
    return _numbers(path, read)


def _numbers(path: str, text: str) -> str:
    """The text, unless it is a program, whose numbers are no gradients."""
    if path.endswith(SOURCES) or (DEFINITION.search(text) and _is_python(text)):
        way_out = f"to check what it computes: throughtime check {path}" * path.endswith(".py")
        refuse(path, "printed numbers", "a program", way_out, error=CheckError)
    return text


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
