"""‖∂E_t/∂s_k‖ of all pairs of steps, k after t included, where losses look at several steps.

As many losses go back at a time as `PAIRS_NUMBERS` allows, and at least one: apart from the result,
memory holds O(T·B·H) numbers and a fixed number of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.descent import Line, Scaled, Stack
from throughtime.gradient_flow.measure import Norms
from throughtime.gradient_flow.tolerances import PAIRS_NUMBERS
from throughtime.gradient_flow.upstream import UpstreamSource


@dataclass
class Pairs:
    """Sums by line (`descent.Line.number`) and part of the state.

    Attributes:
        ends: (n,), the steps of the losses: rows of what follows.
        norms: lag l = t − k from 0; of a second direction, whose time runs backwards, k − t.
        ahead: lag −1 − j in column j: the loss looks at what comes after its own step.
        kept, kept_ahead: (n, L, B, ·), the gradients themselves, where they are asked for.
        mixed: the lines where a loss arrives at other steps than its own.
    """

    ends: Array
    norms: dict[int, dict[str, Norms]] = field(default_factory=dict)
    ahead: dict[int, dict[str, Norms]] = field(default_factory=dict)
    kept: dict[int, dict[str, Array]] = field(default_factory=dict)
    kept_ahead: dict[int, dict[str, Array]] = field(default_factory=dict)
    mixed: set[int] = field(default_factory=set)


def all_pairs(stack: Stack, source: UpstreamSource, ends: Array, max_lag: int, keep: bool) -> Pairs:
    """Walks the losses of the steps `ends` through all lines, up to `max_lag` either way."""
    found = Pairs(ends)
    for lines in stack.lines:
        for line in lines:
            _blank(found, line, max_lag, keep)
            if not (source.own_steps and lines is stack.lines[-1]):
                found.mixed.add(line.number)
    for steps in _blocks(stack, source, ends):
        upstream = source.gradients(steps)
        at = stack.last[None] if source.single else np.repeat(steps[:, None], len(stack.last), 1)
        counted = at <= stack.last
        for passing in stack.descend(upstream):
            place = _Places(found, passing.line, stack, at, counted, source.single, max_lag)
            place.count()
            for k, deltas in passing.walk(max(0, int(place.own[counted].min()) - max_lag)):
                place.take(k, deltas)
    return found


def _blocks(stack: Stack, source: UpstreamSource, ends: Array) -> Iterator[Array]:
    if source.single:
        yield ends[:1]
        return
    T, B = stack.lines[0][0].linear.steps, len(stack.last)
    size = max(1, PAIRS_NUMBERS // (T * B * stack.width))
    for begin in range(0, len(ends), size):
        yield ends[begin : begin + size]


def _blank(found: Pairs, line: Line, max_lag: int, keep: bool) -> None:
    n, batch, sizes = len(found.ends), line.linear.batch, line.linear.sizes
    for norms, kept, lags in (
        (found.norms, found.kept, max_lag + 1),
        (found.ahead, found.kept_ahead, max_lag),
    ):
        norms[line.number] = {part: Norms.zeros(n, lags, batch) for part in sizes}
        if keep:
            shape, dtype = (n, lags, batch), line.linear.dtype
            kept[line.number] = {part: np.zeros((*shape, s), dtype) for part, s in sizes.items()}


class _Places:
    """Where the values of some losses stand in the sums of one line.

    Lags are counted in the line's own time; rows are the run's steps.
    """

    def __init__(
        self,
        found: Pairs,
        line: Line,
        stack: Stack,
        at: Array,
        counted: Array,
        single: bool,
        max_lag: int,
    ) -> None:
        self.found, self.line, self.counted, self.max_lag = found, line, counted, max_lag
        self.last = stack.last
        turned = line.backwards and not single
        self.own = stack.last - at if turned else at  # t in the line's time
        t = stack.last - at if line.backwards and single else at
        self.rows = np.searchsorted(found.ends, np.where(counted, t, found.ends[0]))

    def count(self) -> None:
        """How many pairs there are, whether something arrives or not."""
        for k in range(self.line.linear.steps):
            for norms, (rows, lags, b, _) in self._split(k):
                for own in norms[self.line.number].values():
                    np.add.at(own.count, (rows, lags), 1)
                    np.add.at(own.steps, (lags, b), 1)

    def take(self, k: int, deltas: Scaled) -> None:
        """Adds the gradients by the state after step k of the line's time."""
        lengths = {
            part: np.ldexp(
                np.sqrt(np.einsum("nbh,nbh->nb", rows, rows).astype(np.float64)), deltas.powers
            )
            for part, rows in deltas.parts.items()
        }
        number = self.line.number
        for norms, (rows, lags, b, chosen) in self._split(k):
            kept = self.found.kept if norms is self.found.norms else self.found.kept_ahead
            for part, all_values in lengths.items():
                own, values = norms[number][part], all_values[chosen]
                np.add.at(own.total, (rows, lags), values)
                np.add.at(own.squares, (rows, lags), values**2)
                np.add.at(own.by_sequence, (lags, b), values)
                if kept:
                    delta = np.ldexp(deltas.parts[part], deltas.powers[..., None])
                    kept[number][part][rows, lags, b] = delta[chosen]

    def _split(self, k: int) -> Iterator[tuple[dict[int, dict[str, Norms]], tuple[Array, ...]]]:
        """Rows, lags, sequences and the losses that they are of, behind and ahead of a loss."""
        lag = self.own - k
        within = self.counted & (k <= self.last)
        behind, ahead = within & (lag >= 0), within & (lag < 0)
        for norms, chosen, lags in (
            (self.found.norms, behind & (lag <= self.max_lag), lag),
            (self.found.ahead, ahead & (lag >= -self.max_lag), -1 - lag),
        ):
            if chosen.any():
                b = np.nonzero(chosen)[1]
                yield norms, (self.rows[chosen], lags[chosen], b, chosen)
