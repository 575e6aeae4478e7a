"""The recorder: takes a look at the gradient's flow now and then, shows it, and writes it down.

Looks take no more than a given share of the time, and nobody knows beforehand how long one takes on
this machine, with this model. So the first look follows one sequence over few lags, the next ones
more, until everything that was asked for is looked at. No part of a look costs more than in
proportion to its sequences, its lags, and the losses that are followed back: the time of the last
look, multiplied by how much larger the next one is, is not exceeded.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from inspect import signature
from pathlib import Path
from time import perf_counter, time
from typing import Any, Self, TextIO

from throughtime.arrays import real, refuse
from throughtime.gradient_flow.flow import network_flow
from throughtime.gradient_flow.nonfinite import DivergedError, NonFinite, first_in_network
from throughtime.gradient_flow.record import (
    FORMAT,
    VERSION,
    Look,
    NormsSince,
    append_line,
    begin_record,
    few,
    half_life,
    reach,
    two_digits,
)
from throughtime.gradient_flow.result import Flow
from throughtime.gradient_flow.tolerances import (
    FIRST_LOOK_SECONDS,
    FIRST_LOOK_TURNS,
    GROWING_LOOKS,
    LONG_RUN,
    LONG_RUN_END_POINTS,
    LONG_RUN_LAGS,
    LOOK_FORGETTING,
    LOOK_MARGIN,
    LOOK_SEQUENCES,
    SECONDS_BETWEEN_LINES,
    SECONDS_BETWEEN_VERSIONS,
)
from throughtime.gradient_flow.writers import as_callbacks, tell, values_of
from throughtime.network import Network

DIVERGED = "flow/diverged"
# What `tt.flow` takes and `tt.first_nonfinite` does not; others may be arguments of the model.
OF_FLOW_ALONE = {*signature(network_flow).parameters, "windows", "batch_first"}
OF_FLOW_ALONE -= {"state", "lengths"}
QUICK_LOOK = {
    "carousel": False,
    "spectrum": False,
    "sequences": LOOK_SEQUENCES,
    "progress": False,
}


class FlowRecorder:
    """Watches where the gradient goes while a network or a torch model trains.

    Call `observe` in the training loop, once the gradient is computed and before the update. It
    costs next to nothing, and now and then follows the losses of its data back through time, as
    `tt.flow` does, but so seldom that all looks together take at most `share` of the time that is
    spent otherwise: it measures both. The first looks are small, one sequence over few lags, and
    tell how long larger ones may take.

    Args:
        path: of the record, one JSON object per line, which is appended to; without it nothing is
            written.
        clip: the threshold at which gradients are clipped, if they are.
        share: of the training time that looks may take.
        live: whether to show a line; by default in a terminal only. Elsewhere there is a line every
            15 seconds at most.
        update: how many updates were made before, if a run is resumed.
        file: where the line is shown; standard error by default.
        to: what is told the numbers of each look: a function of (update, values), the values by
            name; or a writer, known by its methods: TensorBoard's SummaryWriter (`add_scalar`), a
            run of Weights & Biases (`log`), the module `mlflow` or a Lightning logger
            (`log_metrics`); or a list of these. One that fails is left out, with a warning.

    Attributes:
        look_at: the latest Flow, or None.
        budget: `.spent` seconds in `.looks` looks, a share `.taken` of the time.

    Raises:
        ValueError, OSError: if the path holds something else or cannot be written.

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
        to: Any = None,
    ) -> None:
        self._callbacks = as_callbacks(to)
        if clip is not None and not real("clip", clip) > 0:
            refuse("clip", "a norm above 0, or None", clip)
        self.path = None if path is None else Path(path)
        self.budget, self.growing = LookBudget(share), LookGrowth()
        self.norms = NormsSince(clip)
        self.updates, self.began = update, perf_counter()
        self.look_at: Flow | None = None
        self.last: Look | None = None
        self.line = LiveLine(live, file or sys.stderr)
        self._over = False
        import_module(
            "numpy.ma"
        )  # otherwise the first look would load it, which takes longer than the look
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
        """Takes note of one update of a training loop, and a look if one is due.

        Args:
            what, data: as in `tt.flow`: a Network, its inputs and targets; or a torch model and
                what it is called with. Eight of the sequences are looked at.
            norm: of the gradient before clipping, a number or a tensor; `clip_grad_norm_` returns
                it.
            update: its number; by default updates are counted from 1.
            options: as in `tt.flow`: `loss`, `state`, `lengths`, … With `carousel=True` and
                `spectrum=True` looks see more, and are therefore less frequent. `memory`, the lag
                that is needed, is a quarter of the window by default.

        Returns:
            the Flow, if a look was taken.

        Raises:
            DivergedError: if the norm is NaN or infinite; it says which value became so first.
        """
        value = None if norm is None else float(norm)
        if value is not None and not abs(value) < float("inf"):
            number = self.updates + 1 if update is None else update
            raise self._diverged(value, number, what, data, options)
        if not self.note(value, update):
            return None
        return self.due_look(what, *data, **options)

    def note(self, norm: float | None = None, update: int | None = None) -> bool:
        """Takes note of one update, without data; returns whether to call `due_look`."""
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
        """Takes the look that is due: of full size, or at first a smaller one."""
        wanted, torch = {**QUICK_LOOK, **options}, not isinstance(what, Network)
        found = self.look(what, *data, **self.growing.options(wanted, torch))
        self.budget.grow(self.growing.grown(found, wanted, torch))
        return found

    def look(self, what: object, *data: Any, **options: Any) -> Flow:
        """Takes a look of full size, whether one is due or not."""
        spent = self.budget.spent
        wanted = {**QUICK_LOOK, **options}
        if isinstance(what, Network) and data:  # asking the data would take too long
            steps = len(data[0][0]) if what.batch_first else len(data[0])
            wanted.setdefault("memory", max(1, steps // 4))
        with self.budget.look():
            self.look_at = self.flow_of(what, *data, **wanted)
        cost, seconds = self.budget.spent - spent, perf_counter() - self.began
        self.last = Look.of(self.look_at, self.updates, seconds, cost, self.norms)
        self.norms = NormsSince(self.norms.threshold)
        self._write("look", self.last.as_line())
        tell(self._callbacks, self.updates, values_of(self.last))
        wait = self.budget.earned_in()
        self.line.show(lambda: live_line(self.last, self.norms, wait), now=True)
        return self.look_at

    def close(self, problem: BaseException | None = None) -> None:
        """Ends the record, with the `DivergedError` that ended the run, if there was one."""
        self.line.close()
        if self._over:
            return
        self._over = True
        if isinstance(problem, DivergedError):
            found = {"message": str(problem), "finding": problem.finding}
            self._write("diverged", {"update": problem.update, **found})
            tell(self._callbacks, problem.update, {DIVERGED: 1.0})
        elif problem is None or isinstance(problem, KeyboardInterrupt):
            budget = {"spent": self.budget.spent, "looks": self.budget.looks}
            self._write("ended", {"update": self.updates, **budget, "share": self.budget.taken})

    def _diverged(
        self, norm: float, update: int, what: object, data: Any, options: Mapping[str, Any]
    ) -> DivergedError:
        known = {name: value for name, value in options.items() if name not in OF_FLOW_ALONE}
        if isinstance(what, Network) and options.get("batch_first") is not None:
            what = what.viewed(batch_first=options["batch_first"])
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
            append_line(self.path, {"kind": kind, **line})
        except OSError as problem:  # a full disk is no reason to stop a training run
            warnings.warn(f"the record {self.path} ends here: {problem}", stacklevel=3)
            self.path = None


class LookBudget:
    """Weighs the time of looks against that of everything else.

    Args:
        share: of the time that is spent otherwise, between 0 and 1.
        clock: in seconds.

    Attributes:
        spent: the seconds that looks have taken.
        looks: how many.
        growth: by which factor the next look may take longer than the last one.

    Example:
        >>> from throughtime.gradient_flow.recorder import LookBudget
        >>> now = iter(range(0, 2000))
        >>> budget = LookBudget(0.05, lambda: next(now))  # a turn a second
        >>> sum(budget.due() for _ in range(400))  # a look that may take 5.05 s waits for 101
        299
    """

    def __init__(self, share: float, clock: Callable[[], float] = perf_counter) -> None:
        if not 0 < real("share", share) < 1:
            refuse("share", "a share between 0 and 1", share)
        self.share, self.clock = share, clock
        self.began: float | None = None
        self.spent, self.longest, self.looks, self.turns = 0.0, 0.0, 0, 0
        self.growth, self._last = 1.0, 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the first turn that were not spent on looks."""
        return 0.0 if self.began is None else self.clock() - self.began - self.spent

    @property
    def taken(self) -> float:
        """The share of that time that looks have taken."""
        elapsed = self.elapsed
        return self.spent / elapsed if elapsed > 0 else 0.0

    def due(self) -> bool:
        """To be called once per turn: whether the next look fits in, however long it may take."""
        if self.began is None:
            self.began = self.clock()
            return False
        self.turns += 1
        return self.earned_in() <= 0

    def earned_in(self) -> float:
        """Seconds until the next look fits in; infinite before the second turn."""
        if not self.turns:
            return float("inf")
        elapsed = self.elapsed
        first = FIRST_LOOK_TURNS * elapsed / self.turns + FIRST_LOOK_SECONDS
        expected = LOOK_MARGIN * self.growth * self.longest if self.looks else first
        return (self.spent + expected) / self.share - elapsed

    def grow(self, growth: float) -> None:
        """Says by which factor the next look may take longer than the last one."""
        self.growth = growth
        if growth != 1:  # what was measured before belongs to smaller looks
            self.longest = self._last

    @contextmanager
    def look(self) -> Iterator[None]:
        """Measures the time of one look."""
        started = self.clock()
        try:
            yield
        finally:
            seconds = self.clock() - started
            self.spent += seconds
            self._last = seconds
            self.longest = max(seconds, LOOK_FORGETTING * (self.longest + seconds))
            self.looks += 1


class LookGrowth:
    """The sizes of the looks, one after another.

    Attributes:
        size: how many of the `GROWING_LOOKS` are behind; all of them once looks have full size.
    """

    def __init__(self) -> None:
        self.size = 0

    def options(self, wanted: Mapping[str, Any], torch: bool) -> dict[str, Any]:
        """The options of the next look, given those of a look of full size."""
        return _options(self.size, wanted, torch)

    def grown(self, flow: Flow, wanted: Mapping[str, Any], torch: bool) -> float:
        """By which factor the next look has to do more than this one; to be called after each."""
        last = _work(flow, _options(self.size, wanted, torch))
        while self.size < len(GROWING_LOOKS):
            self.size += 1
            work = _work(flow, _options(self.size, wanted, torch))
            if work > last:
                return work / last
        return 1.0


def _options(size: int, wanted: Mapping[str, Any], torch: bool) -> dict[str, Any]:
    found = dict(wanted)
    for name, most in GROWING_LOOKS[size].items() if size < len(GROWING_LOOKS) else ():
        if name == "sample" and not torch:
            continue  # all losses of a Network go back together
        given = found.get(name)
        found[name] = most if given is None else min(most, given)
    return found


def _work(flow: Flow, options: Mapping[str, Any]) -> int:
    """Sequences times lags times losses."""
    T = flow.steps
    lags, losses = (T - 1, T) if T <= LONG_RUN else (LONG_RUN_LAGS, LONG_RUN_END_POINTS)
    lags, losses = (options.get(n) or m for n, m in (("max_lag", lags), ("sample", losses)))
    sequences: int = options.get("sequences") or flow.batch
    return sequences * (min(lags, T - 1) + 1) * min(losses, T)


class LiveLine:
    """One line of text that is overwritten in a terminal; elsewhere a line now and then.

    Args:
        live: whether to show it; None for a terminal only.
        file: where.
    """

    def __init__(self, live: bool | None, file: TextIO) -> None:
        self.file, self.terminal = file, file.isatty()
        self.wanted = self.terminal if live is None else live
        self.shown = perf_counter()
        self._bar: Any = None

    def show(self, words: Callable[[], str], *, now: bool = False) -> None:
        """Shows what `words` returns, if it is time to; in a terminal at once with `now`."""
        if not self.wanted:
            return
        passed = perf_counter() - self.shown
        try:
            if self.terminal and (now or passed >= SECONDS_BETWEEN_VERSIONS):
                self._line().set_description_str(words())
            elif not self.terminal and passed >= SECONDS_BETWEEN_LINES:
                print(words(), file=self.file, flush=True)
            else:
                return
        except OSError:  # the terminal has gone, which is no reason to stop a training run
            self.wanted = False
        self.shown = perf_counter()

    def close(self) -> None:
        """Leaves the last version on the screen."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()
            self._bar = None

    def _line(self) -> Any:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(bar_format="{desc}", file=self.file, dynamic_ncols=True, leave=True)
        return self._bar


def live_line(look: Look | None, norms: NormsSince, wait: float = 0.0) -> str:
    """Verdict, reach and half-life, norm of the gradient, share of clipped updates.

    Without a look, `wait`: seconds until the time for one is earned.
    """
    if look is None:
        when = f", the time for it is earned in {wait:.0f} s" if 0 < wait < float("inf") else ""
        parts = [f"no look yet{when}"]
    else:
        number, layer = look.worst
        parts = [
            look.verdict + few(look),
            f"layer {number} ({layer.kind}): reach {reach(layer)}, half-life {half_life(layer)}",
        ]
    if norms.count:
        parts.append(f"|gradient| {norms.median:.2g}, largest {norms.largest:.2g}")
    elif look is not None and look.norm is not None:
        parts.append(f"|gradient| {look.norm:.2g}, largest {two_digits(look.largest_norm)}")
    share = norms.share if norms.count else look and look.clipped
    if share is not None:
        parts.append(f"{share:.0%} clipped")
    return "flow: " + "; ".join(parts)
