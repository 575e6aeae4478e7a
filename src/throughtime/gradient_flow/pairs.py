"""‖∂E_t/∂s_k‖ for all pairs of steps, k after t included, where losses look at several steps.

As many losses go back at a time as `PAIRS_NUMBERS` allows, and at least one: apart from the result,
memory holds O(T·B·H) numbers and a fixed number of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.lag_by_lag import LagNorms
from throughtime.gradient_flow.stack import Scaled, Stack, StackDirection
from throughtime.gradient_flow.tolerances import PAIRS_NUMBERS
from throughtime.gradient_flow.upstream import UpstreamSource


@dataclass
class Pairs:
    """Sums over all pairs of steps, by direction (`StackDirection.number`) and part of the state.

    Attributes:
        ends: (n,), the steps of the losses: the rows of what follows.
        norms: by lag l = t − k from 0; for a second direction, whose time runs backwards, k − t.
        ahead: lag −1 − j in column j, where a loss looks at what comes after its own step.
        kept, kept_ahead: (n, L, B, ·), the gradients themselves, if asked for.
        mixed: the directions in which a loss arrives at other steps than its own.
    """

    ends: Array
    norms: dict[int, dict[str, LagNorms]] = field(default_factory=dict)
    ahead: dict[int, dict[str, LagNorms]] = field(default_factory=dict)
    kept: dict[int, dict[str, Array]] = field(default_factory=dict)
    kept_ahead: dict[int, dict[str, Array]] = field(default_factory=dict)
    mixed: set[int] = field(default_factory=set)


def all_pairs(stack: Stack, source: UpstreamSource, ends: Array, max_lag: int, keep: bool) -> Pairs:
    """Takes the losses of the steps `ends` through all directions, up to `max_lag` either way."""
    found = Pairs(ends)
    for directions in stack.directions:
        for direction in directions:
            _blank(found, direction, max_lag, keep)
            if not (source.own_steps and directions is stack.directions[-1]):
                found.mixed.add(direction.number)
    for steps in _blocks(stack, source, ends):
        upstream = source.gradients(steps)
        at = stack.last[None] if source.single else np.repeat(steps[:, None], len(stack.last), 1)
        counted = at <= stack.last
        for descent in stack.descend(upstream):
            place = _PairIndex(found, descent.direction, stack, at, counted, source.single, max_lag)
            place.count()
            for k, deltas in descent.steps_back(max(0, int(place.own[counted].min()) - max_lag)):
                place.take(k, deltas)
    return found


def _blocks(stack: Stack, source: UpstreamSource, ends: Array) -> Iterator[Array]:
    if source.single:
        yield ends[:1]
        return
    T, B = stack.directions[0][0].linear.steps, len(stack.last)
    size = max(1, PAIRS_NUMBERS // (T * B * stack.width))
    for begin in range(0, len(ends), size):
        yield ends[begin : begin + size]


def _blank(found: Pairs, direction: StackDirection, max_lag: int, keep: bool) -> None:
    n, batch, sizes = len(found.ends), direction.linear.batch, direction.linear.sizes
    for norms, kept, lags in (
        (found.norms, found.kept, max_lag + 1),
        (found.ahead, found.kept_ahead, max_lag),
    ):
        norms[direction.number] = {part: LagNorms.zeros(n, lags, batch) for part in sizes}
        if keep:
            shape, dtype = (n, lags, batch), direction.linear.dtype
            arrays = {part: np.zeros((*shape, s), dtype) for part, s in sizes.items()}
            kept[direction.number] = arrays


class _PairIndex:
    """Where the values of some losses belong in the sums of one direction.

    Lags are counted in the direction's own time; rows are the run's steps.
    """

    def __init__(
        self,
        found: Pairs,
        direction: StackDirection,
        stack: Stack,
        at: Array,
        counted: Array,
        single: bool,
        max_lag: int,
    ) -> None:
        self.found, self.direction, self.counted, self.max_lag = found, direction, counted, max_lag
        self.last = stack.last
        turned = direction.backwards and not single
        self.own = stack.last - at if turned else at  # t in the direction's time
        t = stack.last - at if direction.backwards and single else at
        self.rows = np.searchsorted(found.ends, np.where(counted, t, found.ends[0]))

    def count(self) -> None:
        """Counts the pairs of steps, whether or not something arrives."""
        for k in range(self.direction.linear.steps):
            for norms, (rows, lags, b, _) in self._split(k):
                for own in norms[self.direction.number].values():
                    np.add.at(own.count, (rows, lags), 1)
                    np.add.at(own.steps, (lags, b), 1)

    def take(self, k: int, deltas: Scaled) -> None:
        """Adds the gradients with respect to the state after step k of the direction's time."""
        lengths = {
            part: np.ldexp(
                np.sqrt(np.einsum("nbh,nbh->nb", rows, rows).astype(np.float64)), deltas.powers
            )
            for part, rows in deltas.parts.items()
        }
        number = self.direction.number
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

    def _split(self, k: int) -> Iterator[tuple[dict[int, dict[str, LagNorms]], tuple[Array, ...]]]:
        """Rows, lags, sequences and a mask of the losses: those behind a loss, then those ahead."""
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
