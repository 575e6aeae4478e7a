"""What a walk back over all lags adds up: norms by lag, gradients by lag, shares of the carry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import Tape
from throughtime.gradient_flow.tolerances import (
    BLOCK_ROWS,
    BY_LAG_NUMBERS,
    SINGLE_LAGS,
    SINGLE_LAGS_OF_A_STREAM,
)
from throughtime.gradient_flow.walk import Lines, Rows, unscaled, walk
from throughtime.network import Recurrent, RecurrentTape
from throughtime.parameters import Parameters


@dataclass
class Norms:
    """‖∂E_t/∂s_{t−l}‖ of one part of one layer's state, added up.

    Attributes:
        total, squares, count: (n, L) over sequences; a step without a loss does not count.
        by_sequence, steps: (L, B): the sum over end points, and how many they were.
    """

    total: Array
    squares: Array
    count: Array
    by_sequence: Array
    steps: Array

    @classmethod
    def zeros(cls, ends: int, lags: int, batch: int) -> Norms:
        """Nothing yet."""
        return cls(*(np.zeros((ends, lags)) for _ in range(3)), *np.zeros((2, lags, batch)))

    def add(self, place: slice, lag: int, values: Array, counted: Array) -> None:
        """Rows (m, B) of one lag; `counted` says which of them have a loss."""
        values = np.where(counted, values, 0)
        self.total[place, lag] += values.sum(axis=1)
        self.squares[place, lag] += (values**2).sum(axis=1)
        self.count[place, lag] += counted.sum(axis=1)
        self.by_sequence[lag] += values.sum(axis=0)
        self.steps[lag] += counted.sum(axis=0)


@dataclass
class Measured:
    """What was found on some sequences.

    Attributes:
        norms: recurrent layer to part of the state.
        by_lag: for each stretch of lags, the gradient of all losses that passed through it; their
            sum is the gradient.
        kept: layer to part to (n, L, B, H), where it was asked for: the gradients themselves.
    """

    norms: dict[int, dict[str, Norms]]
    by_lag: list[Parameters]
    kept: dict[int, dict[str, Array]] = field(default_factory=dict)


def measure(
    run: Lines, ends: Array, max_lag: int, starts: Sequence[int], *, keep: bool = False
) -> Measured:
    """Walks the losses of the steps `ends` back, in blocks that a cache holds.

    Args:
        starts: the lags at which stretches of lags begin, from 0, ascending; none where norms
            are all that is wanted.
        keep: whether to keep the gradients themselves: O(n·L·B·H) numbers.
    """
    batch, lags = run.arriving.shape[1], max_lag + 1
    found = Measured({}, [run.network.parameters.zeros_like() for _ in starts])
    for number, one in run.linear.items():
        found.norms[number] = {part: Norms.zeros(len(ends), lags, batch) for part in one.sizes}
        if keep:
            shape, dtype = (len(ends), lags, batch), run.arriving.dtype
            own = {part: np.zeros((*shape, n), dtype) for part, n in one.sizes.items()}
            found.kept[number] = own
    for name, array in run.head.items() if starts else ():
        found.by_lag[0][name][...] = array
    for begin, block in _blocks(ends, batch):
        _measure_block(run, begin, block, starts, found, lags)
    return found


def _measure_block(
    run: Lines, begin: int, block: Array, starts: Sequence[int], found: Measured, lags: int
) -> None:
    sums: Sums | None = None
    stretch = -1
    for rows in walk(run, block, lags - 1):
        here = slice(begin + rows.first, begin + len(block))
        counted = run.counted[block[rows.first :]]
        for number, own in rows.norms.items():
            for part, values in own.items():
                found.norms[number][part].add(here, rows.lag, values, counted)
                if number in found.kept:
                    delta = unscaled(rows.deltas[number][part], rows.exponents)
                    found.kept[number][part][here, rows.lag] = delta
        if rows.lag in starts:
            if sums is not None:
                sums.add_to(found.by_lag[stretch])
            stretch += 1
            after = (*starts, lags)[stretch + 1]
            sums = Sums(run, max(0, int(block[0]) - after + 1), int(block[-1]) - rows.lag + 1)
        if sums is not None:
            sums.take(rows)
    if sums is not None:
        sums.add_to(found.by_lag[stretch])


class Sums:
    """δz of the steps start … stop − 1, of all losses together, through a stretch of lags."""

    def __init__(self, run: Lines, start: int, stop: int) -> None:
        self.run, self.start, self.stop = run, start, stop
        self.found: dict[int, dict[str, Array]] = {}
        self.passed = np.zeros(stop - start, bool)  # steps that some loss passed through

    def take(self, rows: Rows) -> None:
        """Adds the rows of one lag."""
        batch = self.run.arriving.shape[1]
        at = rows.at
        place: slice | Array
        if isinstance(at, slice):
            place = slice(at.start - self.start, at.stop - self.start)
        else:
            place = at - self.start
        self.passed[place] = True
        for number, deltas in rows.deltas.items():
            wanted = self._wanted(number)
            own = self.found.setdefault(number, {})
            for name in wanted:
                delta = deltas[name]
                if name not in own:
                    shape = (self.stop - self.start, batch, delta.shape[-1])
                    own[name] = np.zeros(shape, delta.dtype)
                own[name][place] += unscaled(delta, rows.exponents)

    def add_to(self, gradient: Parameters) -> None:
        """What the parameters did at these steps, added up over them."""
        tape = self.run.tape.steps(self.start, self.stop)
        passed = np.flatnonzero(self.passed)
        few = 2 * len(passed) < len(self.passed)  # of a long stream's, losses reach some steps only
        for number, deltas in self.found.items():
            p = self.run.network.of_layer(number)
            layer, own = self.run.network.layers[number], tape.layers[number]
            if few and isinstance(own, RecurrentTape) and "p" not in p:
                own = RecurrentTape((_at(own.directions[0], passed),), None)
                deltas = {name: delta[passed] for name, delta in deltas.items()}
            for name, array in layer.parameter_gradients(p, own, deltas).items():
                gradient[f"{number}.{name}"][...] += array

    def _wanted(self, number: int) -> tuple[str, ...]:
        layer = self.run.network.layers[number]
        projected = isinstance(layer, Recurrent) and "R" in layer.shapes()
        return ("z", "h") if projected else ("z",)


def _at(tape: Tape, steps: Array) -> Tape:
    """The tape of these steps, as sums over steps see it that ask for the state before each."""
    before = np.append(steps, steps[-1])  # where a tape has its final state
    return Tape(
        tape.inputs[steps],
        {name: array[before] for name, array in tape.states.items()},
        {name: array[steps] for name, array in tape.kept.items()},
        None if tape.active is None else tape.active[steps],
    )


def stretches(
    lags: int, parameters: int, extra: Sequence[int] = (), *, coarse: bool = False
) -> list[int]:
    """The lags at which stretches begin: one by one at first, then ever longer ones.

    The gradient of each stretch is kept whole, so that large networks have fewer of them; each
    costs as much as the weights' part of a backward pass, so that long streams have `coarse` ones:
    0, 1, 2, 4, 8, …
    """
    room = max(4, BY_LAG_NUMBERS // max(1, parameters))
    singles = min(SINGLE_LAGS_OF_A_STREAM if coarse else SINGLE_LAGS, lags, room // 2)
    found = set(range(singles)) | {lag for lag in extra if 0 < lag < lags}
    lag = float(max(1, singles))
    least = 2.0 if coarse else 2**0.25
    ratio = max(least, (lags / lag) ** (1 / max(1, room - singles))) if lags > lag else 2.0
    while lag < lags:
        found.add(int(lag))
        lag = max(lag + 1, lag * ratio)
    return sorted(found)


def _blocks(ends: Array, batch: int) -> Iterator[tuple[int, Array]]:
    size = max(1, BLOCK_ROWS // batch)
    for begin in range(0, len(ends), size):
        yield begin, ends[begin : begin + size]
