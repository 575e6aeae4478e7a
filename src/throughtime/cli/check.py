"""`throughtime check`: is this gradient right?"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

from throughtime import diagnosis
from throughtime.arrays import refuse
from throughtime.cli import columns, each_by_itself, say
from throughtime.cli.colour import verdicts
from throughtime.cli.user_error import in_one_line
from throughtime.gradcheck import CheckError, Target
from throughtime.questions import Report, check, sweep
from throughtime.report.figures import plot_sweep, save_figure
from throughtime.targets import (
    INCLUDE,
    ProgramTarget,
    as_target,
    is_library,
    program_target,
    send_by_value,
)

STATUS = {"agree": 0, "disagree": 1, "unresolved": 2}
OF_THE_CHECK = ("effort", "evaluations", "seconds", "workers", "entries")
FILES = ("json", "html", "junit")

DESCRIPTION = """Compares a gradient with numerical derivatives of its loss.

TARGET is one of
  FILE.py         your own network as it stands: what is found in it is printed, and checked
                  (also FILE.py:CLASS, FILE.py:FUNCTION, FILE.py:120-184, NOTEBOOK.ipynb)
  FILE.py:NAME    a tt.Target, a tuple (torch_module, inputs) or (network, inputs, targets),
                  or a function that returns one of these
  ./libmine.so    a shared library with the C interface of throughtime.h
  --program CMD…  a program that answers JSON lines"""

EPILOG = """exit status:
  0  agree        1  disagree        2  unresolved
  3  the check itself could not run; one line says why, a program's last words follow

examples:
  throughtime check lstm.py
  throughtime check lstm.py:LSTM --with "LSTM(input_size=3, hidden_size=4)"
  throughtime check my_lstm.py:target --html report.html
  c++ -O2 -shared -fPIC -I"$(throughtime check --include)" lstm.cpp -o liblstm.so
  throughtime check ./liblstm.so --effort exhaustive
  throughtime check --timeout 10 --program node lstm.js"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("target", nargs="?", metavar="TARGET", help="what to check; see above")
    parser.add_argument(
        "--program",
        nargs=argparse.REMAINDER,
        metavar="CMD",
        help="check this program; all that follows is its command line",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="seconds that each answer of a library or program may take (default 60), or the whole "
        "check of your own file (default 900)",
    )
    parser.add_argument(
        "--with",
        dest="made",
        metavar="CODE",
        help="how an object of your own file is made, or a whole training step that sets loss, "
        "where that cannot be guessed",
    )
    parser.add_argument(
        "--print-target",
        action="store_true",
        help="print what was found in your own file as Python, for a test suite, and exit",
    )
    parser.add_argument(
        "--no-lines",
        action="store_true",
        help="do not look for the line of your own file that makes its gradient wrong",
    )
    parser.add_argument(
        "--include", action="store_true", help="print the folder of throughtime.h and exit"
    )
    how = parser.add_argument_group("how much")
    how.add_argument("--effort", choices=("quick", "normal", "exhaustive"), help="default normal")
    how.add_argument("--evaluations", type=int, metavar="N", help="at most N loss evaluations")
    how.add_argument("--seconds", type=float, metavar="S", help="at most S seconds")
    how.add_argument("--entries", type=int, metavar="N", help="single entries in each tensor")
    how.add_argument("--workers", type=int, metavar="N", help="evaluate in N processes")
    how.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    what = parser.add_argument_group("what comes out")
    what.add_argument("--quiet", action="store_true", help="print nothing but errors")
    what.add_argument("--json", metavar="FILE", help="write the report as JSON")
    what.add_argument("--html", metavar="FILE", help="write the report as a page")
    what.add_argument("--junit", metavar="FILE", help="write the report as JUnit XML")
    what.add_argument(
        "--sweep", action="store_true", help="also show d at fixed steps from 1e-8 to 1"
    )
    what.add_argument("--figure", metavar="FILE", help="draw the sweep (.png, .svg, .pdf)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the report; returns the verdict's exit status."""
    if options.include:
        print(INCLUDE)
        return 0
    try:
        if options.program is None and options.target is not None:
            _look_at(options.target)
        if options.program is None and _is_own_file(options.target):
            with termination_as_exit():
                return _own_file(options)
        for name, given in (("--with", options.made), ("--print-target", options.print_target)):
            if given:
                expected = "your own file, as lstm.py or lstm.py:LSTM"
                refuse(name, expected, options.target or "--program", error=CheckError)
        with termination_as_exit(), _target(options) as target:
            return _check(target, options)
    except (CheckError, KeyboardInterrupt, Terminated):
        raise
    except (Exception, SystemExit) as problem:  # the user's own code may raise anything
        if options.debug:
            raise
        raise CheckError(in_one_line(problem)) from problem


def _look_at(target: str) -> None:
    """Refuses a file that cannot be read, or that lacks the name, before any of it is run."""
    if ".py" in target or ".ipynb" in target:
        from throughtime.cli.places import look_at

        look_at(target)


def _is_own_file(target: str | None) -> bool:
    """Whether a target is a user's own file; what reads such a file is imported for no other."""
    if target is None or is_library(target):
        return False
    from throughtime.cli.own_file import is_own_file

    return is_own_file(target)


@contextlib.contextmanager
def _target(options: argparse.Namespace) -> Iterator[Target]:
    """The target that the command line names; a program that was started for it ends here."""
    if (options.target is None) == (options.program is None):
        actual = "neither" if options.target is None else "both"
        refuse("target", "a TARGET or --program", actual, "see --help", error=CheckError)
    limit = {} if options.timeout is None else {"timeout": options.timeout}
    if options.program is not None:
        target: Target = program_target(options.program, seed=options.seed, **limit)
    else:
        library = is_library(options.target)
        with prints_beside_the_report():
            target = as_target(options.target, seed=options.seed, **(limit if library else {}))
        if limit and not library:
            expected = "a library or a program, which it limits"
            refuse("--timeout", expected, options.target, error=CheckError)
        if options.workers not in (None, 1) and not isinstance(target, ProgramTarget):
            send_by_value(options.target)
    if not isinstance(target, ProgramTarget):
        yield target
        return
    with target:
        yield target
        if note := target.program.note():
            say(f"throughtime check: {note}", sys.stderr)


def _own_file(options: argparse.Namespace) -> int:
    """Finds what can be checked in a user's file, in a process of its own, and checks it there."""
    from throughtime.cli.own_file import judged, with_lines

    if options.sweep or options.figure or options.workers not in (None, 1):
        expected = "a target: print one with --print-target"
        refuse("--sweep, --figure and --workers", expected, options.target, error=CheckError)
    found = judged(options, _chosen(options))
    if found.report is None:
        say(found.target)
        return 0
    _say(f"{found.found}\n", options)
    report = with_lines(found, options)
    _say(report.as_text(columns()), options)
    each_by_itself(_outputs(report, options))
    return STATUS[report.verdict]


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    chosen: dict[str, Any] = {name: getattr(options, name) for name in OF_THE_CHECK}
    return {name: value for name, value in chosen.items() if value is not None}


def _check(target: Target, options: argparse.Namespace) -> int:
    bar = False if options.quiet else None
    with prints_beside_the_report():
        report = check(target, seed=options.seed, progress=bar, **_chosen(options))
    _say(report.as_text(columns()), options)
    # Who interrupts the check wants no sweep either.
    interrupted = report.verdict == "disagree" and diagnosis.INTERRUPTED in report.notes
    outputs = _outputs(report, options)
    if (options.sweep or options.figure) and not interrupted:
        outputs["--figure" if options.figure else "--sweep"] = lambda: _sweep(target, options, bar)
    each_by_itself(outputs)
    return STATUS[report.verdict]


def _say(text: str, options: argparse.Namespace) -> None:
    if not options.quiet:
        say(text, paint=verdicts)


def _outputs(report: Report, options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What writes each of the files that were asked for."""
    asked = {form: getattr(options, form) for form in FILES}
    more = {"html": {"about": {"command": options.command_line}}}
    return {
        f"--{form} {path}": partial(getattr(report, f"to_{form}"), path, **more.get(form, {}))
        for form, path in asked.items()
        if path
    }


def _sweep(target: Target, options: argparse.Namespace, bar: bool | None) -> None:
    with prints_beside_the_report():
        found = sweep(target, progress=bar)
    _say(f"\n{found}", options)
    if options.figure:
        save_figure(plot_sweep(found), options.figure)


def prints_beside_the_report() -> contextlib.AbstractContextManager[object]:
    """While the user's own target runs: what it prints goes where errors go, beside the report."""
    return contextlib.redirect_stdout(sys.stderr)


@contextlib.contextmanager
def termination_as_exit() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that the programs we started end with us."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Terminated(SystemExit):
    """SIGTERM has come; a SystemExit of the user's own code is no verdict."""


def _leave(number: int, frame: object) -> NoReturn:
    raise Terminated(128 + number)
