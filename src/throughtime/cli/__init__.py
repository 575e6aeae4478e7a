"""The command `throughtime`: one file a subcommand, each with `add` and `run`."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from typing import NoReturn

COMMANDS = (
    "demo", "train", "sample", "check", "mend", "compare", "flow", "explain", "derive", "bench",
)  # fmt: skip

FAILED = 3  # the command itself could not run; `check` keeps 0, 1 and 2 for its verdicts
INTERRUPTED = 130  # as shells report a program that Ctrl-C ended


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status; wrong input gives one line, no trace."""
    return run(_parser(), arguments)


def run(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> int:
    """The exit status of a parser's command; every error is printed in one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters gets "?"
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone, as in `throughtime … | head`
        return 0
    except Exception as problem:
        # Whatever happens, no verdict was reached, and the status must not be one of a verdict.
        if options.debug:
            traceback.print_exc()
        else:
            print(f"{parser.prog} {options.command}: {_said(problem)}", file=sys.stderr)
        return FAILED
    return status


def _said(problem: Exception) -> str:
    """An error in one line; of one that nothing here raises on purpose, the kind comes first."""
    said = " ".join(str(problem).split())
    if isinstance(problem, MemoryError):
        return f"there is not enough memory{': ' * bool(said)}{said}"
    if isinstance(problem, ValueError | TypeError | OSError | ImportError) and said:
        return said
    return f"{type(problem).__name__}{': ' * bool(said)}{said}; --debug shows where"


class Parser(argparse.ArgumentParser):
    """As argparse's, except for its exit status 2, which is a verdict of `check`."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(FAILED, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="throughtime", description="Backpropagation through time you can trust.")
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"throughtime.cli.{name}").add(commands)
    return parser


def _version() -> str:
    from throughtime import __version__

    return f"throughtime {__version__}"
