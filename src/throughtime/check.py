"""`tt.check` and `tt.sweep`: for a target, or for whatever can be made one."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from throughtime import checking, diagnosis
from throughtime.checking import Sweep, Target, check_target, sweep_target
from throughtime.checking.budget import Budget
from throughtime.progress import progress_bar
from throughtime.report.check_figures import plot_check, plot_valley
from throughtime.report.check_page import check_page
from throughtime.report.junit import write_junit
from throughtime.targets import as_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIAGNOSIS = 10  # times the check's evaluations, at most …
ENOUGH = 6_000  # … or so many where that is more


class Report(checking.Report):
    """What a check found; `print` it, plot it, or write it as JSON, JUnit XML or HTML."""

    __doc__ = checking.Report.__doc__

    def plot(self, ax: Axes | None = None) -> Axes:
        """Gradient against numerical derivative with error bars; needs `throughtime[report]`."""
        return plot_check(self, ax)

    def plot_valley(self, ax: Axes | None = None) -> Axes:
        """Noise against truncation over the step, and the step chosen, of one direction."""
        return plot_valley(self, ax)

    def to_junit(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JUnit XML: a test case for each tensor at each point."""
        write_junit(self, path)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as one self-contained page; needs `throughtime[report]`."""
        check_page(self, path)


def check(what: object, *data: Any, diagnose: bool = True, **options: Any) -> Report:
    """Is this gradient right? And if not, why?

    Args:
        what: a Target; or, followed by its data, anything that `tt.target_of` makes one of: a
            Network, a torch module or Function, a JAX function, the path of a shared library.
        data: what follows it there.
        diagnose: whether to look for causes where the gradient is wrong. That takes at most ten
            times the check's evaluations of the loss, or 6,000 where that is more, and stays
            within `evaluations` and `seconds` where these are given. Ctrl-C ends the diagnosis
            alone: the verdict stands, with the causes found until then and a note.
        options: those of `checking.check_target`, and of `tt.target_of`.

    Returns:
        a Report: `.verdict` is "agree", "disagree" or "unresolved".

    Raises:
        CheckError: where the check itself cannot run.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
        >>> x, y = np.ones((9, 1, 2)), np.zeros((9, 1, 3))
        >>> tt.check(net, x, y).verdict
        'agree'
        >>> averaged = lambda: net.loss_and_gradient(x, y)[1] / 9
        >>> target = tt.Target(net.parameters, lambda: net.evaluate(x, y).value, averaged)
        >>> print(tt.check(target).headline())
        DISAGREE: the gradient and the numerical one are d = 0.8 apart; ...
        >>> tt.check(target).causes[0].fault
        'scaled'
    """
    target, rest = as_target(what, *data, **options)
    report = check_target(target, **rest)
    if diagnose and report.verdict == "disagree":
        report = _diagnosed(target, report, **rest)
    return Report(**vars(report))


def _diagnosed(target: Target, report: checking.Report, **options: Any) -> checking.Report:
    """The report with causes."""
    most, seconds = max(DIAGNOSIS * report.evaluations, ENOUGH), None
    if options.get("evaluations") is not None:
        most = min(most, options["evaluations"] - report.evaluations)
    if options.get("seconds") is not None:
        seconds = options["seconds"] - report.seconds
    with progress_bar(0, "diagnosis", "evaluation", options.get("progress")) as bar:
        budget = Budget(most, seconds, bar)
        found = diagnosis.diagnose(target, report, budget, options.get("seed", 0))
    return replace(report, causes=found.causes, notes=(*report.notes, *found.notes))


def sweep(what: object, *data: Any, **options: Any) -> Sweep:
    """Discrepancy over the step of the central differences, 1e-8 … 1.

    Args:
        what, data: as in `check`.
        options: `epsilons`, `workers` and `progress`, and those of `tt.target_of`.
    """
    target, rest = as_target(what, *data, **options)
    return sweep_target(target, **rest)
