"""`tt.check` and `tt.sweep`: for a target, or for whatever can be made one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from throughtime import checking
from throughtime.checking import Sweep, check_target, sweep_target
from throughtime.report.check_figures import plot_check, plot_valley
from throughtime.report.check_page import check_page
from throughtime.report.junit import write_junit
from throughtime.targets import as_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


def check(what: object, *data: Any, **options: Any) -> Report:
    """Is this gradient right?

    Args:
        what: a Target; or, followed by its data, anything that `tt.target_of` makes one of: a
            Network, a torch module or Function, a JAX function, the path of a shared library.
        data: what follows it there.
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
    """
    target, rest = as_target(what, *data, **options)
    return Report(**vars(check_target(target, **rest)))


def sweep(what: object, *data: Any, **options: Any) -> Sweep:
    """Discrepancy over the step of the central differences, 1e-8 … 1.

    Args:
        what, data: as in `check`.
        options: `epsilons` and `progress`, and those of `tt.target_of`.
    """
    target, rest = as_target(what, *data, **options)
    return sweep_target(target, **rest)
