"""`tt.check` and `tt.sweep`: for a target, or for a network with its data."""

from __future__ import annotations

import os
from typing import Any

from throughtime import checking
from throughtime.arrays import refuse
from throughtime.checking import Sweep, Target, check_target, sweep_target
from throughtime.network import Network
from throughtime.report.page import check_page
from throughtime.targets import network_target


class Report(checking.Report):
    """What a check found; `print` it, or write it as JSON or HTML."""

    __doc__ = checking.Report.__doc__

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as one self-contained page; needs `throughtime[report]`."""
        check_page(self, path)


def check(what: object, *data: Any, **options: Any) -> Report:
    """Is this gradient right?

    Args:
        what: a Target; or a Network, followed by inputs and targets.
        data: inputs and targets of a network.
        options: `entries`, `epsilon`, `seed`, `progress` as in `checking.check_target`; and for
            a network `state`, `lengths`, `dropout_seed`.

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
    target, rest = _as_target(what, data, options)
    return Report(**vars(check_target(target, **rest)))


def sweep(what: object, *data: Any, **options: Any) -> Sweep:
    """Discrepancy over the step of the central differences, 1e-8 … 1.

    Args:
        what: a Target; or a Network, followed by inputs and targets.
        data: inputs and targets of a network.
        options: `epsilons` and `progress`; for a network also its own, as in `check`.
    """
    target, rest = _as_target(what, data, options)
    return sweep_target(target, **rest)


OF_NETWORKS = ("state", "lengths", "dropout_seed")


def _as_target(
    what: object, data: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Target, dict[str, Any]]:
    """The target, and the options that are not the network's."""
    if isinstance(what, Target):
        if data:
            refuse("check", "a Target alone", f"a Target and {len(data)} more", error=TypeError)
        return what, options
    if not isinstance(what, Network):
        way_out = "wrap it: tt.Target(parameters=…, loss=…, gradient=…)"
        refuse("check", "a Target or a Network", type(what).__name__, way_out, error=TypeError)
    if len(data) != 2:
        refuse("check", "a Network, inputs, targets", f"{1 + len(data)} things", error=TypeError)
    own = {name: options[name] for name in OF_NETWORKS if name in options}
    rest = {name: value for name, value in options.items() if name not in own}
    return network_target(what, *data, **own), rest
