"""How the values of gates are spread over time: a histogram for each stretch of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import Cell, Tape
from throughtime.gradient_flow.tolerances import GATE_BINS, GATE_STRETCHES, GATE_VALUES


@dataclass(frozen=True)
class GateHistory:
    """One gate's values over time.

    Attributes:
        steps: (S + 1,): stretch s of time is the steps steps[s] … steps[s + 1] − 1.
        edges: (n + 1,), of the bins: 0 … 1, of a tanh −1 … 1; of a ReLU 0 … 1000, where the bins
            grow with the value and the last one holds what is larger.
        shares: (S, n), of a stretch's values in each bin; NaN where no sequence lasts so long. Of
            long stretches some steps are looked at, evenly spread.
    """

    steps: Array
    edges: Array = field(repr=False)
    shares: Array = field(repr=False)


def edges(kind: str) -> Array:
    """Of the bins of a "sigmoid", a "tanh" or a "relu"."""
    if kind == "relu":
        return np.concatenate([[0.0], np.geomspace(1e-3, 1e3, GATE_BINS)])
    return np.linspace(0.0 if kind == "sigmoid" else -1.0, 1.0, GATE_BINS + 1)


def stretches_of_time(steps: int) -> Array:
    """Where up to 64 equal stretches begin, and T."""
    count = min(GATE_STRETCHES, steps)
    return np.arange(count + 1) * steps // count


def count_gates(
    cell: Cell, tape: Tape, begin: int, fresh: int, steps: int, batch: int
) -> dict[str, Array]:
    """(S, n) values of each gate in each stretch and bin, of one chunk of a run.

    Args:
        begin: the step of the run at which the chunk begins.
        fresh: the first step of the chunk that no chunk before it had.
        steps, batch: T and B of the whole run.
    """
    cuts = stretches_of_time(steps)
    looked = _looked_at(cuts, batch * cell.units)
    stop = begin + len(next(iter(tape.kept.values())))
    looked = looked[(looked >= begin + fresh) & (looked < stop)]
    stretch = np.searchsorted(cuts, looked, side="right") - 1
    found = {}
    for gate, kind in cell.activations.items():
        values, borders = tape.kept[gate][looked - begin], edges(kind)
        bins = np.searchsorted(borders, values.ravel(), side="right") - 1
        bins = np.clip(bins, 0, len(borders) - 2).reshape(values.shape)
        places = bins + stretch[:, None, None] * (len(borders) - 1)
        if tape.active is not None:
            places = places[tape.active[looked - begin][..., 0]]
        shape = len(cuts) - 1, len(borders) - 1
        counts = np.bincount(places.ravel(), minlength=shape[0] * shape[1])
        found[gate] = counts.reshape(shape)
    return found


def gate_history(cell: Cell, counts: dict[str, Array], steps: int) -> dict[str, GateHistory]:
    """Shares instead of counts."""
    cuts, found = stretches_of_time(steps), {}
    for gate, kind in cell.activations.items():
        sums = counts[gate].sum(axis=1, keepdims=True)
        blank = np.full(counts[gate].shape, np.nan)
        shares = np.divide(counts[gate], sums, out=blank, where=sums > 0)
        found[gate] = GateHistory(cuts, edges(kind), shares)
    return found


def _looked_at(cuts: Array, values: int) -> Array:
    """Steps, evenly spread within each stretch; `values`: of a gate in one step."""
    most = max(1, GATE_VALUES // values)
    chosen = [
        start + np.arange(min(most, stop - start)) * (stop - start) // min(most, stop - start)
        for start, stop in pairwise(cuts)
    ]
    return np.concatenate(chosen)
