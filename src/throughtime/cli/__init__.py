"""The command `throughtime`: one file a subcommand, each with `add` and `run`.

What it takes to print the version or a list of commands is imported at once, and little else:
NumPy is not.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import NoReturn, TextIO

from throughtime.cli.colour import coloured
from throughtime.cli.user_error import in_one_line, of_the_system

NARROWEST = 40  # columns; lines are not broken for narrower terminals

# Each is the file of its name, which is imported when the command runs.
COMMANDS = {
    "demo": "train an LSTM, check its gradient, break it, and see the fault named",
    "train": "train a language model on text",
    "sample": "generate text from a checkpoint",
    "check": "compare a gradient with numerical derivatives of its loss",
    "mend": "search for the edit after which a file's gradient is right",
    "compare": "compare two gradients that are given as numbers",
    "flow": "show how far back a model's gradient reaches, and what follows from it",
    "explain": "derive a backward pass line by line, or describe a fault",
    "derive": "derive a cell's backward pass from its forward equations",
    "export": "write a network as C",
    "bench": "speed and trust: how to run the benchmarks",
}

WITH_VERDICTS = ("check", "compare")
FAILED = 3  # the command itself could not run; `check` keeps 0, 1 and 2 for its verdicts
INVALID = re.compile(r"(?P<kind>invalid choice: '(?P<given>.*)') \(choose from (?P<known>.*)\)")
INTERRUPTED = 130  # as shells report a program that Ctrl-C ended


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status; wrong input gives one line, no trace."""
    words = sys.argv[1:] if arguments is None else arguments
    named = [word for word in words if word in COMMANDS]
    return run(command_parser(named[:1]), arguments)


def run(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> int:
    """The exit status of a parser's command; every error is printed in one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters gets "?"
    options = parser.parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    options.command_line = shlex.join([parser.prog, *map(str, words)])  # stands on pages
    try:
        from throughtime.cli.outputs import check_outputs

        check_outputs(options)  # before the work, which may be long
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _to_nowhere()  # the reader has gone, as in `throughtime … | head`
        return FAILED if options.command in WITH_VERDICTS else 0
    except Exception as problem:
        # Whatever happens, no verdict was reached, and the status must not be one of a verdict.
        if options.debug:
            traceback.print_exc()
        else:
            say(f"{parser.prog} {options.command}: {_said(problem)}", sys.stderr)
        return FAILED
    return status


def say(text: str, stream: TextIO | None = None, paint: Callable[[str], str] | None = None) -> None:
    """Prints text, in which a stranger's names do no harm; nobody need be there to read it.

    Args:
        text: what is printed.
        stream: where; by default standard output.
        paint: what colours the text, used where colour is wanted.
    """
    from throughtime.arrays import visible

    out = stream or sys.stdout
    shown = visible(text)
    try:
        print(paint(shown) if paint and coloured(out) else shown, file=out, flush=True)
    except BrokenPipeError:
        _to_nowhere()


def columns() -> int:
    """How long a line may be: as wide as the terminal is, and any length where there is none."""
    from throughtime.gradcheck import UNBROKEN

    if not sys.stdout.isatty():
        return UNBROKEN
    return max(shutil.get_terminal_size().columns, NARROWEST)


def _to_nowhere() -> None:
    """Drops what is still to be printed, also at the interpreter's end."""
    with contextlib.suppress(OSError, ValueError):  # a stream of a test has no number
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)


def each_by_itself(outputs: Mapping[str, Callable[[], object]]) -> None:
    """Writes each of several outputs, also where another one fails.

    Raises:
        CheckError: the first failure, with the output's name, once all have been tried.
    """
    failures: list[tuple[str, Exception]] = []
    for name, write in outputs.items():
        try:
            write()
        except Exception as problem:
            failures.append((name, problem))
    for name, first in failures[:1]:
        from throughtime.gradcheck import CheckError

        raise CheckError(f"{name}: {in_one_line(first)}") from first


def _said(problem: Exception) -> str:
    """An error in one line; of one that nothing here raises on purpose, the kind comes first."""
    said = of_the_system(problem) if isinstance(problem, OSError) else str(problem)
    said = " ".join(said.split())
    if isinstance(problem, MemoryError):
        return f"there is not enough memory{': ' * bool(said)}{said}"
    if isinstance(problem, ValueError | TypeError | OSError | ImportError) and said:
        return said
    return f"{type(problem).__name__}{': ' * bool(said)}{said}; --debug shows where"


class Parser(argparse.ArgumentParser):
    """As argparse's, except for its exit status 2, which is a verdict of `check`."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(FAILED, f"{self.prog}: {_nearest(message)}\n")


def _nearest(message: str) -> str:
    """An error of argparse; of a wrong choice, what was meant comes first."""
    found = INVALID.search(message)
    if found is None:
        return message
    near = get_close_matches(found["given"], re.findall(r"[\w-]+", found["known"]), 1)
    return (
        message.replace(found[0], f"{found['kind']}; did you mean {near[0]}?") if near else message
    )


def command_parser(filled: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser of the command line; of commands that are not to be filled, only the names."""
    parser = Parser(prog="throughtime", description="Backpropagation through time you can trust.")
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, words in COMMANDS.items():
        own = commands.add_parser(name, help=words)
        if name in filled:
            importlib.import_module(f"throughtime.cli.{name}").add(own)
    return parser


def _version() -> str:
    from throughtime import __version__

    return f"throughtime {__version__}"
