"""`throughtime check`: is this gradient right?"""

from __future__ import annotations

import argparse
import traceback

from throughtime.check import check, sweep
from throughtime.checking import CheckError
from throughtime.report.figures import plot_sweep, save_figure
from throughtime.targets import target_from_file

STATUS = {"agree": 0, "disagree": 1, "unresolved": 2}

EPILOG = """exit status:
  0  agree        1  disagree        2  unresolved
  3  the check itself could not run; one line says why

example:
  throughtime check my_lstm.py:target --html report.html"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "check",
        help="compare a gradient with numerical derivatives of its loss",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="FILE.py:NAME", help="a tt.Target, or what makes one")
    parser.add_argument("--entries", type=int, help="how many to perturb in each tensor")
    parser.add_argument("--epsilon", type=float, help="a fixed step; by default each tensor's own")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    parser.add_argument(
        "--sweep", action="store_true", help="also show d at fixed steps from 1e-8 to 1"
    )
    parser.add_argument("--figure", metavar="FILE", help="draw the sweep (.png, .svg, .pdf)")
    parser.add_argument("--json", metavar="FILE", help="write the report")
    parser.add_argument("--html", metavar="FILE", help="write the report as a page")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the report; returns the verdict's exit status."""
    try:
        return _check(options)
    except (CheckError, KeyboardInterrupt):
        raise
    except Exception as problem:  # whatever the user's own code may raise
        if options.debug:
            raise
        last = traceback.extract_tb(problem.__traceback__)[-1]
        where = f"{last.filename}:{last.lineno}"
        raise CheckError(f"{where}: {type(problem).__name__}: {problem}") from problem


def _check(options: argparse.Namespace) -> int:
    target = target_from_file(options.target)
    report = check(target, entries=options.entries, epsilon=options.epsilon, seed=options.seed)
    print(report)
    if options.sweep or options.figure:
        found = sweep(target)
        print(f"\n{found}")
        if options.figure:
            save_figure(plot_sweep(found), options.figure)
    if options.json:
        report.to_json(options.json)
    if options.html:
        report.to_html(options.html)
    return STATUS[report.verdict]
