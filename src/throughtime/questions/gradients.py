"""Is this gradient right? `tt.check` and `tt.sweep`.

They take a Network, a torch module or whatever else they can make sense of. What only some answers
need is imported where it is needed: the diagnosis after a disagreement, a page when it is written.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Never, Unpack, overload

from throughtime import gradcheck
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
from throughtime.progress import progress_bar
from throughtime.targets import as_target, is_known

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from throughtime.network import Network

# A diagnosis takes at most this many times the evaluations of its check, or this many
# evaluations where that is more: counts, so that a slow machine gives the same answer.
DIAGNOSIS = 10
ENOUGH = 6_000


class Report(gradcheck.Report):
    """What a check found; `print` it, plot it, or write it as JSON, JUnit XML or HTML."""

    __doc__ = gradcheck.Report.__doc__

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from throughtime.report.notebook import report_html

        return report_html(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Gradient against numerical derivative with error bars; needs matplotlib and Jinja2."""
        from throughtime.report.check_figures import plot_check

        return plot_check(self, ax)

    def plot_valley(self, ax: Axes | None = None) -> Axes:
        """Noise against truncation over the step, and the step chosen, of one direction."""
        from throughtime.report.check_figures import plot_valley

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
        from throughtime.report.frames import check_frame

        return check_frame(self, library)

    def to_junit(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JUnit XML: a test case for each tensor at each point."""
        from throughtime.report.junit import write_junit

        write_junit(self, path)

    def to_html(
        self, path: str | os.PathLike[str], *, about: Mapping[str, str] | None = None
    ) -> None:
        """Writes the report as one self-contained page; needs matplotlib and Jinja2.

        Args:
            path: of the file.
            about: what stands at its head besides version and time: {"data": "book.txt"}.
        """
        from throughtime.report.pages import check_page

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
    if _is_object(what, *data, named=bool(own)):
        from throughtime.source import found_in_object

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


def _is_object(what: object, *data: Any, named: bool) -> bool:
    """Whether this is an object of the user's own class, and of no kind that is known."""
    if is_known(what, *data):
        return False
    from throughtime.source import is_object

    return is_object(what, named=named)


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
    from throughtime.diagnosis import diagnose

    with progress_bar(0, "diagnosis", "losses", progress) as bar:
        found = diagnose(target, report, Budget(most, left, bar), seed)
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
