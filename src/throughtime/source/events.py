"""What happens at probes in one run of a user's code: values recorded, moved, or replaced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.source.pairing import like, numbers
from throughtime.source.probes import PROBE, Probes, ProbeSite
from throughtime.source.recipe import Program
from throughtime.source.tolerances import LARGEST_VALUE
from throughtime.source.user_files import copied

# A probe in a run: its site, and the calls by which its function was reached.
Place = tuple[int, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, eq=False)
class CallSite:
    """Where a function of the user's was called from.

    Attributes:
        path: of the file.
        line: that the call stands on.
        frame: the variables there, then.
    """

    path: Path
    line: int
    frame: tuple[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Event:
    """One value at one probe.

    Attributes:
        sequence: its number among all calls of probes in the run.
        place: the probe, as reached.
        site: where that is in the file.
        value: a copy of the value as it was then.
        owner: the value itself, which may have changed since.
        frame: the variables then; None unless they were asked for.
        call: where its function was called, if frames were asked for and the user's code did it.
    """

    sequence: int
    place: Place
    site: ProbeSite
    value: Array
    owner: Any
    frame: tuple[dict[str, Any], dict[str, Any]] | None = None
    call: CallSite | None = None


@dataclass
class _ProbedRun:
    """What a run does at its probes."""

    record: bool = False
    frames: frozenset[int] = frozenset()  # sequence numbers whose variables are kept
    moved: Mapping[int, Array] = field(default_factory=dict)  # sequence number to what is added
    replaced: Mapping[int, Array] = field(default_factory=dict)
    acted: Mapping[int, Callable[[], None]] = field(default_factory=dict)
    special: frozenset[int] = frozenset()  # the sequence numbers of all these

    def __post_init__(self) -> None:
        self.special = frozenset({*self.moved, *self.replaced, *self.acted})


class Instrumented:
    """A program with probes, and how often it was run.

    Args:
        program: the program without.
    """

    def __init__(self, program: Program) -> None:
        self.probes = Probes()
        self.evaluations = 0
        self._run = _ProbedRun()
        self._count = 0
        self._events: list[Event] = []

        def probe(number: int, value: Any) -> Any:  # a function: no data of the user's
            return self._probe(number, value)

        self.program = program.probed(
            self.probes.transform, {PROBE: probe}, self.probes.transform_region
        )
        self._files = {str(path) for path in {site.path for site in self.probes.sites}}

    def record_loss(self) -> list[Event]:
        """The events of a run of the loss."""
        with self._running(_ProbedRun(record=True)):
            self.program.loss()
        return self._events

    def record_gradient(
        self, replaced: Mapping[int, Array] | None = None, frames: frozenset[int] = frozenset()
    ) -> tuple[list[Event], dict[str, Array]]:
        """The events of a run of the gradient, with values replaced on the way, and its result."""
        with self._running(_ProbedRun(record=True, replaced=replaced or {}, frames=frames)):
            found = self.program.gradient()
        return self._events, found

    def gradient_replaced(self, replaced: Mapping[int, Array]) -> dict[str, Array]:
        """The gradient with values replaced on the way."""
        with self._running(_ProbedRun(replaced=replaced)):
            return self.program.gradient()

    def loss_moved(self, sequence: int, move: Array) -> float:
        """The loss where something is added to the value of one event."""
        with self._running(_ProbedRun(moved={sequence: move})):
            return total(self.program.loss())

    def loss_from(self, sequence: int, name: str, move: Array) -> float:
        """The loss where something is added to a parameter from one event on."""

        def act() -> None:
            array = self.program.live(name)
            array[...] = array + move.astype(array.dtype)

        with self._running(_ProbedRun(acted={sequence: act})):
            return total(self.program.loss())

    def loss_at(self, name: str, move: Array) -> float:
        """The loss where something is added to a parameter before the run."""
        value = self.program.parameters[name]
        before = value.copy()
        try:
            value[...] = before + move
            with self._running(_ProbedRun()):
                return total(self.program.loss())
        finally:
            value[...] = before

    @contextmanager
    def _running(self, run: _ProbedRun) -> Iterator[None]:
        self._run, self._count, self._events = run, 0, []
        self.evaluations += 1
        try:
            yield
        finally:
            self._run = _ProbedRun()

    def _probe(self, number: int, value: Any) -> Any:
        """What every probe calls."""
        count = self._count = self._count + 1
        run = self._run
        if count in run.special:
            if count in run.acted:
                run.acted[count]()
            if count in run.moved:
                value = self._changed(number, value, run.moved[count], added=True)
            if count in run.replaced:
                value = self._changed(number, value, run.replaced[count], added=False)
        if run.record:
            self._recorded(number, value, run)
        return value

    def _changed(self, number: int, value: Any, change: Array, added: bool) -> Any:
        """A value with something added, or replaced; in place where others hold the same array."""
        site = self.probes.sites[number]
        if isinstance(value, list):
            then = numbers(value)
            if then is None:
                return value
            change = change.reshape(then.shape)
            changed: list[Any] = like(value, then + change if added else change)
            if site.kind in ("changed", "whole"):
                _refill(value, changed)
                return value
            return changed
        if not isinstance(value, np.ndarray):
            if not isinstance(value, float | np.floating):
                return value
            single = float(change.reshape(-1)[0])
            return type(value)(value + single if added else single)
        change = change.reshape(value.shape)
        new = (value + change if added else change).astype(value.dtype)
        if site.kind in ("changed", "whole") and value.flags.writeable:
            value[...] = new
            return value
        return new

    def _recorded(self, number: int, value: Any, run: _ProbedRun) -> None:
        if isinstance(value, np.ndarray):
            if value.dtype.kind != "f" or not 0 < value.size <= LARGEST_VALUE:
                return
        elif isinstance(value, list):
            held = numbers(value)
            if held is None or held.dtype.kind != "f" or not 1 < held.size <= LARGEST_VALUE:
                return  # a single number is read where it is taken from its list
        elif not isinstance(value, float | np.floating):
            return
        frame = sys._getframe(3)
        kept = call = None
        if self._count in run.frames:
            kept, outer = _variables(frame), frame.f_back
            if outer is not None and outer.f_code.co_filename in self._files:
                path = Path(outer.f_code.co_filename)
                call = CallSite(path, outer.f_lineno, _variables(outer))
        then = np.array(value, dtype=np.float64)
        place = (number, self._reached(frame))
        site = self.probes.sites[number]
        self._events.append(Event(self._count, place, site, then, value, kept, call))

    def _reached(self, frame: FrameType) -> tuple[tuple[int, int], ...]:
        """The calls of the user's functions by which a frame was reached."""
        calls = []
        outer = frame.f_back
        while outer is not None and outer.f_code.co_filename in self._files:
            calls.append((id(outer.f_code), outer.f_lasti))
            outer = outer.f_back
        return tuple(calls)


def _refill(held: list[Any], values: list[Any]) -> None:
    """Sets the numbers of a list, those of lists in it too, in place."""
    for n, value in enumerate(values):
        if isinstance(value, list):
            _refill(held[n], value)
        else:
            held[n] = value


def _variables(frame: FrameType) -> tuple[dict[str, Any], dict[str, Any]]:
    """The global variables of a frame, and a copy of its own."""
    memo: dict[int, Any] = {}
    return frame.f_globals, {key: copied(each, memo) for key, each in frame.f_locals.items()}


def total(loss: Any) -> float:
    """A loss, or the sum of its terms."""
    return float(np.sum(np.asarray(loss, dtype=np.float64)))
