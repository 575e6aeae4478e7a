"""What one asks of a network: is its gradient right, where does it go, whence come NaNs?

`tt.check`, `tt.sweep`, `tt.flow` and `tt.first_nonfinite` take a Network, a torch module or
whatever else they can make sense of. What they return can also be plotted and written as a page.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from throughtime import diagnosis, gradcheck, gradient_flow
from throughtime.arrays import refuse
from throughtime.gradcheck import Budget, Sweep, Target, check_target, sweep_target
from throughtime.gradient_flow import NonFinite, first_in_network, network_flow
from throughtime.network import Network
from throughtime.progress import progress_bar
from throughtime.report.check_figures import plot_check, plot_valley
from throughtime.report.flow_figures import lag_heatmap
from throughtime.report.junit import write_junit
from throughtime.report.pages import check_page, flow_page
from throughtime.source import OPTIONS, found_in_object, is_object
from throughtime.targets import as_target, is_known
from throughtime.torch import first_in_module, is_module, module_flow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A diagnosis takes at most this many times the evaluations of its check, or this many
# evaluations where that is more: counts, so that a slow machine gives the same answer.
DIAGNOSIS = 10
ENOUGH = 6_000


class Report(gradcheck.Report):
    """What a check found; `print` it, plot it, or write it as JSON, JUnit XML or HTML."""

    __doc__ = gradcheck.Report.__doc__

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
            Or an object of a class of your own, with its parameters in attributes and methods
            for a forward and a backward pass.
        data: what follows it there; for an object of your own its inputs and targets.
        diagnose: whether to look for causes where the gradient is wrong. That takes at most ten
            times the check's evaluations of the loss, or 6,000 where that is more, and stays
            within `evaluations` and `seconds` where these are given. Ctrl-C ends the diagnosis
            alone: the verdict stands, with the causes found until then and a note.
        options: those of `gradcheck.check_target`, and of `tt.target_of`. For an object of your
            own, where its methods are not found by their names: `loss_and_gradient`, `loss` and
            `gradient`, `update` and `lr`, each the name of a method, or a function of the object
            and the data; `time_axis` of the data, so that other lengths are looked at too.

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
    notes: tuple[str, ...] = ()
    named = bool({"loss_and_gradient", "gradient", "update"} & set(options))
    if is_object(what, named=named) and not is_known(what, *data):
        own = {name: options.pop(name) for name in OPTIONS if name in options}
        found, program = found_in_object(what, *data, **own)
        target, rest, notes = program.target(), options, (str(found), *found.notes)
    else:
        target, rest = as_target(what, *data, **options)
    report = check_target(target, **rest)
    report = replace(report, notes=(*report.notes, *notes))
    if diagnose and report.verdict == "disagree":
        report = _diagnosed(target, report, **rest)
    return Report(**vars(report))


def _diagnosed(target: Target, report: gradcheck.Report, **options: Any) -> gradcheck.Report:
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


class Flow(gradient_flow.Flow):
    """What was found about a flow; `print` it, plot it, or write it as JSON or HTML."""

    __doc__ = gradient_flow.Flow.__doc__

    def plot(self, ax: Axes | None = None) -> Axes:
        """Gradients by loss and lag, as `tt.plots.lag_heatmap`; needs `throughtime[report]`."""
        return lag_heatmap(self, ax)

    def to_html(
        self, path: str | os.PathLike[str], *, check: gradcheck.Report | None = None
    ) -> None:
        """Writes one self-contained page; needs `throughtime[report]`.

        Args:
            path: of the file.
            check: from `tt.check`, of the same network's gradient, to stand on the same page.
        """
        flow_page(self, path, check)


def flow(what: object, *data: Any, sequences: int | None = None, **options: Any) -> Flow:
    """Where does the gradient go, through time, and what follows from it?

    Args:
        what: a Network, followed by its inputs and targets; or a torch module that is or contains
            an `nn.RNN`, `nn.LSTM` or `nn.GRU`, followed by its inputs.
        data: inputs (T, B, I) or class indices (T, B), and targets, as its loss wants them; for a
            torch module what it is called with.
        sequences: look at so many of the B sequences only, evenly chosen.
        options: those of `throughtime.gradient_flow.network_flow`, for a torch module those of
            `throughtime.torch.module_flow`: `loss`, which gives the loss of each step, and
            `of`, the recurrent module's name.

    Returns:
        a Flow: `.lag_norms`, `.carousel_share`, `.verdict`, `.advice`; print it.

    Raises:
        ValueError, TypeError: for what is no network with a recurrent layer and a loss, or for
            data that do not fit it.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
        >>> x, y = np.ones((9, 2, 2)), np.zeros((9, 2, 3))
        >>> found = tt.flow(net, x, y)
        >>> found.lag_norms.shape, found.carousel_share.shape
        ((9, 9), (9,))
        >>> found.verdict
        'healthy'
    """
    if is_module(what):
        return Flow(**vars(module_flow(what, *data, sequences=sequences, **options)))
    if not isinstance(what, Network):
        expected = "a Network or a torch module"
        refuse("flow", expected, type(what).__name__, error=TypeError)
    if len(data) != 2:
        refuse("flow", "a Network, inputs and targets", f"{len(data)} arrays", error=TypeError)
    return Flow(**vars(network_flow(what, *data, sequences=sequences, **options)))


def first_nonfinite(what: object, *data: Any, **options: Any) -> NonFinite | None:
    """Which value of a run became NaN or infinite first, and what was it made of?

    The run is made again and looked at in the order in which it is computed: parameters, inputs,
    of each recurrent layer step by step the pre-activations, gates, c and h, then outputs, loss,
    and the derivatives on the way back.

    Args:
        what: a Network, followed by its inputs and targets (options `state`, `lengths`,
            `dropout_seed`); or a torch module, followed by its inputs (options `loss`, a function
            of its outputs, and `of`, the name of one recurrent module).
        data: what follows it; without targets or `loss` the way back is left out.

    Returns:
        a NonFinite: `.step`, `.sequence`, `.gate`, `.value`, `.sources`; print it. None where every
        number is finite.

    Raises:
        TypeError: for what is neither.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.RNN(1, 1, "relu")], dtype="float32", seed=0)
        >>> net.parameters["0.W"], net.parameters["0.U"] = [[1.0]], [[1e13]]
        >>> print(tt.first_nonfinite(net, np.ones((9, 2, 1), np.float32)))
        layer 0 (RNN), step 3, sequence 0, gate s, unit 0: pre-activation 1e+39, beyond float32,
        from W x = 1, U h = 1e+39, b = 0
    """
    if is_module(what):
        return first_in_module(what, *data, **options)
    if not isinstance(what, Network):
        expected = "a Network or a torch module"
        refuse("first_nonfinite", expected, type(what).__name__, error=TypeError)
    if not data:
        refuse("first_nonfinite", "a Network and its inputs", "no inputs", error=TypeError)
    return first_in_network(what, *data, **options)


class FlowRecorder(gradient_flow.FlowRecorder):
    __doc__ = gradient_flow.FlowRecorder.__doc__

    def flow_of(self, what: Any, *data: Any, **options: Any) -> Flow:
        """As `tt.flow` gives it."""
        return flow(what, *data, **options)

    def first_nonfinite_of(self, what: Any, *data: Any, **options: Any) -> NonFinite | None:
        """As `tt.first_nonfinite` gives it."""
        return first_nonfinite(what, *data, **options)
