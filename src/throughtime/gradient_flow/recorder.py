"""The recorder: takes a look now and then, shows it, and writes it down."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from time import perf_counter, time
from typing import Any, Self, TextIO

from throughtime.arrays import real, refuse
from throughtime.gradient_flow.flow import network_flow
from throughtime.gradient_flow.nonfinite import first_in_network
from throughtime.gradient_flow.nonfinite_result import DivergedError, NonFinite
from throughtime.gradient_flow.record import Look
from throughtime.gradient_flow.record_budget import LookBudget
from throughtime.gradient_flow.record_file import FORMAT, VERSION, append, begin_record
from throughtime.gradient_flow.record_growing import Growing
from throughtime.gradient_flow.record_live import LiveLine
from throughtime.gradient_flow.record_norms import NormsSince
from throughtime.gradient_flow.record_text import live_line
from throughtime.gradient_flow.result import Flow
from throughtime.gradient_flow.tolerances import LOOK_SEQUENCES
from throughtime.network import Network

QUICK = {"carousel": False, "spectrum": False, "sequences": LOOK_SEQUENCES}


class FlowRecorder:
    """Watches where the gradient goes while a network or a torch model trains.

    `observe` stands in the training loop, after the gradient is there and before the update. It
    costs next to nothing, and now and then follows the losses of what it is given back through
    time, as `tt.flow` does, but so seldom that all looks together take at most `share` of the
    time that is spent otherwise: it measures both. The first looks are small, one sequence over
    few lags, and tell how long larger ones may take.

    Args:
        path: the record, JSON a line, to which is appended; none without it.
        clip: the threshold at which gradients are clipped, where they are.
        share: of the training time that looks may take.
        live: whether to show a line; in a terminal, if not said. Elsewhere a line comes every
            15 seconds at most.
        update: how many updates were made before, where a run goes on.
        file: where the line is shown; standard error without it.

    Attributes:
        look_at: the latest Flow, or None.
        budget: `.spent` seconds in `.looks` looks, `.taken` of the time.

    Raises:
        ValueError, OSError: for a path that holds something else, or cannot be written.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.GRU(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
        >>> x, y = np.ones((9, 2, 2)), np.zeros((9, 2, 3))
        >>> with tt.FlowRecorder(clip=1.0, live=False) as recorder:
        ...     for _ in range(3):
        ...         loss, gradient = net.loss_and_gradient(x, y)
        ...         _ = recorder.observe(net, x, y, norm=gradient.norm())
        ...         net.parameters.flat[...] -= 0.1 * gradient.flat
        >>> recorder.updates, recorder.budget.taken <= 0.03
        (3, True)
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        clip: float | None = None,
        share: float = 0.03,
        live: bool | None = None,
        update: int = 0,
        file: TextIO | None = None,
    ) -> None:
        if clip is not None and not real("clip", clip) > 0:
            refuse("clip", "a norm above 0, or None", clip)
        self.path = None if path is None else Path(path)
        self.budget, self.growing = LookBudget(share), Growing()
        self.norms = NormsSince(clip)
        self.updates, self.began = update, perf_counter()
        self.look_at: Flow | None = None
        self.last: Look | None = None
        self.line = LiveLine(live, file or sys.stderr)
        self._over = False
        import_module("numpy.ma")  # a first look would load it, for longer than it takes otherwise
        if self.path is not None:
            begin_record(self.path)
            first = {"format": FORMAT, "version": VERSION, "update": update, "time": time()}
            self._write("begin", {**first, "clip": clip, "share": share})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        self.close(problem)

    def observe(
        self,
        what: object,
        *data: Any,
        norm: Any = None,
        update: int | None = None,
        **options: Any,
    ) -> Flow | None:
        """One update of a training loop; takes a look where it is time to.

        Args:
            what, data: as in `tt.flow`: a Network, its inputs and targets; or a torch model and
                what it is called with. Of the sequences eight are looked at.
            norm: of the gradient before clipping, a number or a tensor; `clip_grad_norm_` gives it.
            update: its number; counted from 1 without it.
            options: as in `tt.flow`: `loss`, `state`, `lengths`, … `carousel=True` and
                `spectrum=True` look at more, and therefore less often. `memory`, the lag that is
                needed, is a quarter of the window if not said.

        Returns:
            the Flow, where a look was taken.

        Raises:
            DivergedError: where the norm is NaN or infinite; it says which value became so first.
        """
        value = None if norm is None else float(norm)
        if value is not None and not abs(value) < float("inf"):
            number = self.updates + 1 if update is None else update
            raise self._diverged(value, number, what, data, options)
        if not self.note(value, update):
            return None
        return self.due_look(what, *data, **options)

    def note(self, norm: float | None = None, update: int | None = None) -> bool:
        """One update, without what to look at: whether it is time to call `due_look`."""
        self.updates = self.updates + 1 if update is None else update
        if norm is not None:
            self.norms.add(norm)
        due = self.budget.due()
        self.line.show(lambda: live_line(self.last, self.norms, self.budget.earned_in()))
        return due

    def flow_of(self, what: Any, *data: Any, **options: Any) -> Flow:
        """The flow of a Network; `tt.FlowRecorder` knows torch's modules too."""
        return network_flow(what, *data, **options)

    def first_nonfinite_of(self, what: Any, *data: Any, **options: Any) -> NonFinite | None:
        """Where a Network's run becomes NaN or infinite; `tt.FlowRecorder` knows torch's too."""
        return first_in_network(what, *data, **options)

    def due_look(self, what: object, *data: Any, **options: Any) -> Flow:
        """Takes the look that it is time to take: of its full size, or a smaller one at first."""
        wanted, torch = {**QUICK, **options}, not isinstance(what, Network)
        found = self.look(what, *data, **self.growing.options(wanted, torch))
        self.budget.grow(self.growing.grown(found, wanted, torch))
        return found

    def look(self, what: object, *data: Any, **options: Any) -> Flow:
        """Takes a look of full size, whether it is time to or not."""
        spent = self.budget.spent
        wanted = {**QUICK, **options}
        if isinstance(what, Network) and data:  # to ask the data takes too long
            wanted.setdefault("memory", max(1, len(data[0]) // 4))
        with self.budget.look():
            self.look_at = self.flow_of(what, *data, **wanted)
        cost, seconds = self.budget.spent - spent, perf_counter() - self.began
        self.last = Look.of(self.look_at, self.updates, seconds, cost, self.norms)
        self.norms = NormsSince(self.norms.threshold)
        self._write("look", self.last.as_line())
        wait = self.budget.earned_in()
        self.line.show(lambda: live_line(self.last, self.norms, wait), now=True)
        return self.look_at

    def close(self, problem: BaseException | None = None) -> None:
        """Ends the record; a `DivergedError` that ended the run is written down."""
        self.line.close()
        if self._over:
            return
        self._over = True
        if isinstance(problem, DivergedError):
            found = {"message": str(problem), "finding": problem.finding}
            self._write("diverged", {"update": problem.update, **found})
        elif problem is None or isinstance(problem, KeyboardInterrupt):
            budget = {"spent": self.budget.spent, "looks": self.budget.looks}
            self._write("ended", {"update": self.updates, **budget, "share": self.budget.taken})

    def _diverged(
        self, norm: float, update: int, what: object, data: Any, options: Mapping[str, Any]
    ) -> DivergedError:
        wanted = ("loss", "of", "state", "lengths", "dropout_seed")
        known = {name: value for name, value in options.items() if name in wanted}
        finding = self.first_nonfinite_of(what, *data, **known)
        where = finding or "run again, without dropout, everything is finite"
        problem = DivergedError(
            f"norm of the gradient: expected a finite number, got {norm} at update {update} "
            f"({where})",
            update,
            finding,
        )
        self.close(problem)
        return problem

    def _write(self, kind: str, line: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        try:
            append(self.path, {"kind": kind, **line})
        except OSError as problem:  # a full disk is no reason to stop a training run
            warnings.warn(f"the record {self.path} ends here: {problem}", stacklevel=3)
            self.path = None
