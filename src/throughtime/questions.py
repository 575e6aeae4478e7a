"""What one asks of a network: is its gradient right, where does it go, whence come NaNs?

`tt.check`, `tt.sweep`, `tt.flow` and `tt.first_nonfinite` take a Network, a torch module or
whatever else they can make sense of. What they return can also be plotted and written as a page.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Never, Unpack, overload

import numpy as np

from throughtime import diagnosis, gradcheck, gradient_flow
from throughtime.arrays import Array, refuse, refuse_unknown
from throughtime.gradcheck import (
    EPSILONS,
    POINT_KINDS,
    Budget,
    CheckOptions,
    EffortName,
    FileOptions,
    FunctionOptions,
    NetworkOptions,
    ObjectOptions,
    PointKind,
    Sweep,
    Target,
    check_target,
    sweep_target,
)
from throughtime.gradient_flow import NonFinite, first_in_network, network_flow, step_flow
from throughtime.network import Network
from throughtime.progress import progress_bar
from throughtime.report.check_figures import plot_check, plot_valley
from throughtime.report.flow_figures import lag_heatmap
from throughtime.report.frames import check_frame, flow_frame
from throughtime.report.junit import write_junit
from throughtime.report.notebook import flow_html, report_html
from throughtime.report.pages import check_page, flow_page
from throughtime.source import found_in_object, is_object
from throughtime.targets import as_target, is_jax, is_known
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

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return report_html(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Gradient against numerical derivative with error bars; needs matplotlib and Jinja2."""
        return plot_check(self, ax)

    def plot_valley(self, ax: Axes | None = None) -> Axes:
        """Noise against truncation over the step, and the step chosen, of one direction."""
        return plot_valley(self, ax)

    def to_frame(self, library: Literal["pandas", "polars"] | None = None) -> Any:
        """The report as a data frame, one row for each tensor at each point.

        Its columns are point, steps, tensor, shape, verdict, discrepancy, floor, smallest_error,
        measured, wrong, and of the worst entry worst_index, worst_gradient, worst_numerical and
        worst_error.

        Args:
            library: "pandas" or "polars"; by default whichever there is, pandas first.

        Raises:
            ImportError: where neither is installed.
        """
        return check_frame(self, library)

    def to_junit(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JUnit XML: a test case for each tensor at each point."""
        write_junit(self, path)

    def to_html(
        self, path: str | os.PathLike[str], *, about: Mapping[str, str] | None = None
    ) -> None:
        """Writes the report as one self-contained page; needs matplotlib and Jinja2.

        Args:
            path: of the file.
            about: what stands at its head besides version and time: {"data": "book.txt"}.
        """
        check_page(self, path, about)


@overload
def check(what: Target, **options: Unpack[CheckOptions]) -> Report: ...
@overload
def check(
    what: Network, inputs: Array, targets: Array, /, **options: Unpack[NetworkOptions]
) -> Report: ...
@overload
def check(what: str | os.PathLike[str], **options: Unpack[FileOptions]) -> Report: ...
@overload
def check(what: Callable[..., Any], *data: Any, **options: Unpack[FunctionOptions]) -> Report: ...
@overload
def check(what: object, *data: Any, **options: Unpack[ObjectOptions]) -> Report: ...
def check(
    what: object,
    *data: Any,
    diagnose: bool = True,
    effort: EffortName = "normal",
    entries: int | None = None,
    points: Sequence[PointKind] = POINT_KINDS,
    evaluations: int | None = None,
    seconds: float | None = None,
    workers: int = 1,
    seed: int = 0,
    progress: bool | None = None,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    dropout_seed: int | None = None,
    k1: int | None = None,
    k2: int | None = None,
    loss: str | Callable[..., Any] | None = None,
    reset: Callable[[], object] | None = None,
    at_length: Callable[[int], Target] | None = None,
    steps: int | None = None,
    jit: bool | None = None,
    timeout: float | None = None,
    gradient: str | Callable[..., Any] | None = None,
    loss_and_gradient: str | Callable[..., Any] | None = None,
    update: str | Callable[..., Any] | None = None,
    lr: float | None = None,
    time_axis: int | None = None,
    batch_axis: int | None = None,
    **unknown: Never,
) -> Report:
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
        effort: "quick": a random direction over each tensor, and one over all at a
            characteristic point; "normal": also T = 1, 2 and a longer T, and stretches of rows,
            rows and entries where directions over a tensor do not settle it; every entry of a
            wrong tensor in a target of up to 400 parameters; "exhaustive": every entry of any
            target.
        entries: how many single entries of each tensor to measure; by default as the effort says.
        points: where to check: "as given", always; "characteristic", where every tensor keeps
            its pattern and has weights of order 0.5; "lengths", T = 1, 2 and twice as many steps,
            where the target has `at_length`.
        evaluations: at most so many evaluations of the loss, 32 or more. Whatever they do not
            reach is unresolved.
        seconds: a limit in wall-clock time, likewise.
        workers: evaluate in so many processes, each with its own copy of the target; −1: as many
            as there are cores. Needs joblib and cloudpickle.
        seed: random seed for everything that is drawn.
        progress: whether to show a bar; by default in a terminal, after two seconds.
        state, lengths, dropout_seed, k1, k2: of a Network, as in `tt.target_of`.
        loss, reset, at_length, steps, jit: of a torch module or function, or of a JAX function,
            as there.
        timeout: of a shared library: seconds that each call may take.
        gradient, loss_and_gradient, update, lr: of an object of your own, where its methods are not
            found by their names, and `loss` likewise: the name of a method, or a function of the
            object and the data. `update` is a training step with the learning rate `lr`, from
            which the gradient is read.
        time_axis, batch_axis: of such an object's data, so that other lengths and a single
            sequence are looked at too.

    Returns:
        a Report: `.verdict` is "agree", "disagree" or "unresolved".

    Raises:
        TypeError: for an option that there is not, or that this kind of thing does not have.
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
    refuse_unknown("check", unknown, inspect.signature(check).parameters)
    own: dict[str, Any] = {
        "loss": loss,
        "gradient": gradient,
        "loss_and_gradient": loss_and_gradient,
        "update": update,
        "lr": lr,
        "time_axis": time_axis,
        "batch_axis": batch_axis,
    }
    own = {name: value for name, value in own.items() if value is not None}
    notes: tuple[str, ...] = ()
    if is_object(what, named=bool(own)) and not is_known(what, *data):
        found, program = found_in_object(what, *data, **own)
        target, notes = program.target(), (str(found), *found.notes)
    else:
        own.pop("loss", None)
        for name in own:
            expected = "an object of your own, which has this option"
            refuse(name, expected, type(what).__name__, error=TypeError)
        target = as_target(
            what,
            *data,
            seed=seed,
            state=state,
            lengths=lengths,
            dropout_seed=dropout_seed,
            k1=k1,
            k2=k2,
            loss=loss,
            reset=reset,
            at_length=at_length,
            steps=steps,
            jit=jit,
            timeout=timeout,
        )
    report = check_target(
        target,
        effort=effort,
        entries=entries,
        points=points,
        evaluations=evaluations,
        seconds=seconds,
        workers=workers,
        seed=seed,
        progress=progress,
    )
    report = replace(report, notes=(*report.notes, *notes))
    if diagnose and report.verdict == "disagree":
        report = diagnosed(target, report, evaluations, seconds, seed, progress)
    return Report(**vars(report))


def diagnosed(
    target: Target,
    report: gradcheck.Report,
    evaluations: int | None,
    seconds: float | None,
    seed: int,
    progress: bool | None,
) -> gradcheck.Report:
    """The report of a wrong gradient with causes; the arguments are those of `check`."""
    most = max(DIAGNOSIS * report.evaluations, ENOUGH)
    if evaluations is not None:
        most = min(most, evaluations - report.evaluations)
    left = None if seconds is None else seconds - report.seconds
    with progress_bar(0, "diagnosis", "losses", progress) as bar:
        found = diagnosis.diagnose(target, report, Budget(most, left, bar), seed)
    return replace(report, causes=found.causes, notes=(*report.notes, *found.notes))


def sweep(
    what: object,
    *data: Any,
    epsilons: tuple[float, ...] = EPSILONS,
    workers: int = 1,
    progress: bool | None = None,
    seed: int = 0,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    dropout_seed: int | None = None,
    loss: Callable[..., Any] | None = None,
    timeout: float | None = None,
    **unknown: Never,
) -> Sweep:
    """Discrepancy over the step of the central differences, 1e-8 … 1.

    Args:
        what, data: as in `check`.
        epsilons: the steps.
        workers, progress: as in `check`.
        seed, state, lengths, dropout_seed, loss, timeout: as in `tt.target_of`.

    Raises:
        TypeError, CheckError: as `check`.
    """
    refuse_unknown("sweep", unknown, inspect.signature(sweep).parameters)
    target = as_target(
        what,
        *data,
        seed=seed,
        state=state,
        lengths=lengths,
        dropout_seed=dropout_seed,
        loss=loss,
        timeout=timeout,
    )
    return sweep_target(target, epsilons, workers=workers, progress=progress)


class Flow(gradient_flow.Flow):
    """What was found about a flow; `print` it, plot it, or write it as JSON or HTML."""

    __doc__ = gradient_flow.Flow.__doc__

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return flow_html(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Gradients by loss and lag, as `tt.plots.lag_heatmap`; needs matplotlib and Jinja2."""
        return lag_heatmap(self, ax)

    def to_frame(self, library: Literal["pandas", "polars"] | None = None) -> Any:
        """The profiles as a data frame, one row for each layer and lag.

        Its columns are layer, cell, backwards, lag; h and c, the mean norms of the gradient, with
        h_spread and c_spread over sequences and h_error and c_error of sampling; relative, what the
        verdict is on, 1 at lag 0; and the shares of the paths: carry, gates, both. What a cell does
        not have is NaN.

        Args:
            library: "pandas" or "polars"; by default whichever there is, pandas first.

        Raises:
            ImportError: where neither is installed.
        """
        return flow_frame(self, library)

    def to_html(
        self,
        path: str | os.PathLike[str],
        *,
        check: gradcheck.Report | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Writes one self-contained page; needs matplotlib and Jinja2.

        Args:
            path: of the file.
            check: from `tt.check`, of the same network's gradient, to stand on the same page.
            about: what stands at its head besides version and time: {"checkpoint": "m.pt"}.
        """
        flow_page(self, path, check, about)


def flow(
    what: object,
    *data: Any,
    sequences: int | None = None,
    max_lag: int | None = None,
    sample: int | None = None,
    tolerance: float = 0.1,
    k1: int | None = None,
    k2: int | None = None,
    clip: float | None = None,
    memory: int | None = None,
    carousel: bool = True,
    spectrum: bool = True,
    keep: bool = False,
    seed: int = 0,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    batch_first: bool | None = None,
    loss: Callable[[Any], Any] | None = None,
    of: str | None = None,
    windows: Iterable[Any] | None = None,
    progress: bool | None = None,
    **of_model: Any,
) -> Flow:
    """Where does the gradient go, through time, and what follows from it?

    Args:
        what: a Network, followed by its inputs and targets; or a torch module that is or contains
            an `nn.RNN`, `nn.LSTM` or `nn.GRU`, or steps one or a cell of these in a loop of its
            own, followed by its inputs; or a JAX function of one step, `step(parameters, state, x)
            -> (state, y)`, followed by parameters, the first state and all x (T, …).
        data: inputs (T, B, I) or class indices (T, B), and targets, as its loss wants them; for a
            torch module what it is called with.
        sequences: look at so many of the B sequences only, evenly chosen.
        max_lag: how many steps back every loss is followed: by default the whole run if T ≤ 1024,
            otherwise 100.
        sample: follow at most so many end points t, drawn evenly over the run: by default all if
            T ≤ 1024, otherwise 1024.
        tolerance: the relative bias of a truncated gradient that would be accepted.
        k1, k2: windows of truncated BPTT whose cost is to be measured.
        clip: a clipping threshold to be judged; for a torch module it needs `windows`.
        memory: how many steps apart cause and effect are in these data, if that is known.
        carousel: whether to split gradients by path.
        spectrum: whether to look at Jacobians.
        keep: whether to keep the gradients themselves, O(T²·B·H) numbers.
        seed: random seed for whatever is drawn.
        state, lengths: of a Network's run, as in `Network.loss_and_gradient`.
        batch_first: whether a Network's inputs and targets are (B, T, ·), by default as it was
            built; of a torch module whether its losses are (B, T), by default whichever fits.
        loss: of a torch module's outputs: the loss of each step, (T, B), (B, T) or (T,), or one
            number for all; of a JAX function's outputs of all steps: (T, B) or (T,).
        of: the recurrent module's name in a torch module; by default the one called last.
        windows: losses that a torch module is trained with, for advice on clipping.
        of_model: further keyword arguments that the torch module itself is called with.
        progress: whether to show a bar; by default in a terminal, after two seconds.

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
    common: dict[str, Any] = {
        "sequences": sequences,
        "max_lag": max_lag,
        "sample": sample,
        "tolerance": tolerance,
        "k1": k1,
        "k2": k2,
        "clip": clip,
        "memory": memory,
        "carousel": carousel,
        "spectrum": spectrum,
        "keep": keep,
        "seed": seed,
        "progress": progress,
    }
    if is_module(what):
        own = {"state": state, "lengths": lengths}
        common |= {name: value for name, value in own.items() if value is not None}
        common |= {"loss": loss, "of": of, "windows": windows, "batch_first": batch_first}
        return Flow(**vars(module_flow(what, *data, **common, **of_model)))
    refuse_unknown("flow", of_model, inspect.signature(flow).parameters)
    if len(data) == 3 and is_jax(what, *data):
        others = {"state": state, "lengths": lengths, "of": of, "windows": windows}
        own = _of_step({**common, **others, "batch_first": batch_first})
        return Flow(**vars(step_flow(what, *data, loss=loss, **own)))  # type: ignore[arg-type]
    _refuse_no_network("flow", what, loss=loss, of=of, windows=windows)
    if len(data) != 2:
        refuse("flow", "a Network, inputs and targets", f"{len(data)} arrays", error=TypeError)
    network: Network = what  # type: ignore[assignment]
    if batch_first is not None:
        network = network.viewed(batch_first=batch_first)
    return Flow(**vars(network_flow(network, *data, state=state, lengths=lengths, **common)))


def _of_step(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a step function's flow; refuses those that it does not have."""
    names = {"max_lag", "tolerance", "memory", "spectrum", "keep", "seed", "progress"}
    for name, value in options.items():
        if name not in names | {"carousel"} and value is not None:
            expected = "a Network or a torch module, which has this option"
            refuse(name, expected, "a JAX function", error=TypeError)
    return {name: value for name, value in options.items() if name in names}


def _refuse_no_network(question: str, what: object, **of_torch: object) -> None:
    """For what is no Network, and for options that only a torch module has."""
    if not isinstance(what, Network):
        expected = "a Network or a torch module"
        refuse(question, expected, type(what).__name__, error=TypeError)
    for name, value in of_torch.items():
        if value is not None:
            refuse(name, "a torch module, which has this option", "a Network", error=TypeError)


def first_nonfinite(
    what: object,
    *data: Any,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    dropout_seed: int | np.random.Generator | None = None,
    loss: Callable[[Any], Any] | None = None,
    of: str | None = None,
    **of_model: Any,
) -> NonFinite | None:
    """Which value of a run became NaN or infinite first, and what was it made of?

    The run is made again and looked at in the order in which it is computed: parameters, inputs,
    of each recurrent layer step by step the pre-activations, gates, c and h, then outputs, loss,
    and the derivatives on the way back.

    Args:
        what: a Network, followed by its inputs and targets; or a torch module, followed by its
            inputs.
        data: what follows it; without targets or `loss` the way back is left out.
        state, lengths, dropout_seed: of a Network's run, as in `Network.loss_and_gradient`.
        loss: a function of a torch module's outputs.
        of: the name of one recurrent module in a torch module.
        of_model: further keyword arguments that the torch module itself is called with.

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
        for name, value in (("state", state), ("lengths", lengths), ("dropout_seed", dropout_seed)):
            if value is not None:
                refuse(name, "a Network, which has this option", "a torch module", error=TypeError)
        return first_in_module(what, *data, loss=loss, of=of, **of_model)
    refuse_unknown("first_nonfinite", of_model, inspect.signature(first_nonfinite).parameters)
    _refuse_no_network("first_nonfinite", what, loss=loss, of=of)
    if not data:
        refuse("first_nonfinite", "a Network and its inputs", "no inputs", error=TypeError)
    network: Network = what  # type: ignore[assignment]
    options = {"state": state, "lengths": lengths, "dropout_seed": dropout_seed}
    return first_in_network(network, *data, **options)  # type: ignore[arg-type]


class FlowRecorder(gradient_flow.FlowRecorder):
    __doc__ = gradient_flow.FlowRecorder.__doc__

    def flow_of(self, what: Any, *data: Any, **options: Any) -> Flow:
        """As `tt.flow` gives it."""
        return flow(what, *data, **options)

    def first_nonfinite_of(self, what: Any, *data: Any, **options: Any) -> NonFinite | None:
        """As `tt.first_nonfinite` gives it."""
        return first_nonfinite(what, *data, **options)
