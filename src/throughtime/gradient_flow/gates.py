"""How the values of gates are spread: over units, and over the time of a run.

A unit is dead that gives nothing and can learn nothing: a slope that everything passes through is
below one per cent of its largest possible value at every step of every sequence, or a ReLU is
never above 0. A forget gate that stays open is no fault: it is a memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import Cell, Tape
from throughtime.gradient_flow.tolerances import (
    GATE_BINS,
    GATE_STRETCHES,
    GATE_VALUES,
    SATURATED_SLOPE,
)


@dataclass(frozen=True)
class Gate:
    """How one gate's values are spread over steps, sequences and units.

    Attributes:
        mean: of its values.
        closed, open: the shares of values that are saturated at the lower and at the upper end: 0
            and 1; for a tanh −1 and 1; a ReLU can only be closed, at 0.
        stuck: (H,), whether a unit's values are saturated at every step.
        activation: "sigmoid", "tanh" or "relu".
    """

    mean: float
    closed: float
    open: float
    stuck: Array = field(repr=False)
    activation: str = field(repr=False)


@dataclass
class GateSums:
    """Sums over a gate's values, to be added up over groups of sequences."""

    kind: str  # "sigmoid", "tanh" or "relu"
    total: float
    count: int
    closed: Array  # (H,), the number of values
    open: Array

    def __add__(self, other: GateSums) -> GateSums:
        return GateSums(
            self.kind,
            self.total + other.total,
            self.count + other.count,
            self.closed + other.closed,
            self.open + other.open,
        )

    def gate(self) -> Gate:
        """The gate, with shares instead of counts."""
        share = self.count * len(self.closed)
        stuck = np.asarray(self.closed + self.open >= self.count)
        closed, opened = float(self.closed.sum()) / share, float(self.open.sum()) / share
        return Gate(self.total / share, closed, opened, stuck, self.kind)


def gate_sums(cell: Cell, tape: Tape) -> dict[str, GateSums]:
    """Sums over every gate of a run, by the letters of `cell.gates`."""
    found = {}
    for gate, kind in cell.activations.items():
        values = tape.kept[gate]
        if tape.active is None:
            values = values.reshape(-1, values.shape[2])
        else:
            values = values[tape.active[..., 0]]
        low, high = _flat_beyond(kind)  # (steps that count, H)
        sums = (values <= low).sum(axis=0), (values >= high).sum(axis=0)
        total = float(values.sum(dtype=np.float64))
        found[gate] = GateSums(kind, total, len(values), *sums)
    return found


def _flat_beyond(kind: str) -> tuple[float, float]:
    """The values below and above which an activation is saturated: see `SATURATED_SLOPE`."""
    if kind == "relu":
        return 0.0, np.inf
    reach = float(np.sqrt(1 - SATURATED_SLOPE))  # 1 − tanh² is this slope; σ is (1 + tanh)/2
    return ((1 - reach) / 2, (1 + reach) / 2) if kind == "sigmoid" else (-reach, reach)


def dead_units(cell: Cell, gates: dict[str, GateSums]) -> Array:
    """(H,), whether a unit gives nothing and can learn nothing.

    That is so if its output gate is closed throughout, or if nothing is ever written: if its input
    gate is closed, its update gate open so that h does not change, or its candidate saturated. The
    activation of an RNN is its candidate.
    """
    found = np.zeros(cell.units, bool)
    for gate in cell.gate_specs:
        sums = gates[gate.letter]
        if gate.role in ("input", "output"):
            found |= sums.closed >= sums.count
        elif gate.role == "update":
            found |= sums.open >= sums.count
        elif gate.role == "candidate":
            found |= sums.closed + sums.open >= sums.count
    return found


@dataclass(frozen=True)
class GateHistory:
    """One gate's values over time.

    Attributes:
        steps: (S + 1,): stretch s of time consists of the steps steps[s] … steps[s + 1] − 1.
        edges: (n + 1,), of the bins: 0 … 1; for a tanh −1 … 1; for a ReLU 0 … 1000, where bins
            grow with the value and the last one also holds what is larger.
        shares: (S, n), the share of a stretch's values in each bin; NaN where no sequence lasts so
            long. In long stretches some steps are looked at, evenly spread.
    """

    steps: Array
    edges: Array = field(repr=False)
    shares: Array = field(repr=False)


def bin_edges(kind: str) -> Array:
    """The edges of the bins for a "sigmoid", a "tanh" or a "relu"."""
    if kind == "relu":
        return np.concatenate([[0.0], np.geomspace(1e-3, 1e3, GATE_BINS)])
    return np.linspace(0.0 if kind == "sigmoid" else -1.0, 1.0, GATE_BINS + 1)


def stretches_of_time(steps: int) -> Array:
    """The steps at which up to `GATE_STRETCHES` equal stretches begin, and T."""
    count = min(GATE_STRETCHES, steps)
    return np.arange(count + 1) * steps // count


def count_gates(
    cell: Cell, tape: Tape, begin: int, fresh: int, steps: int, batch: int
) -> dict[str, Array]:
    """(S, n), the number of values of each gate in each stretch and bin, in one chunk of a run.

    Args:
        begin: the step of the run at which the chunk begins.
        fresh: the first step of the chunk that no earlier chunk had.
        steps, batch: T and B of the whole run.
    """
    cuts = stretches_of_time(steps)
    looked = _looked_at(cuts, batch * cell.units)
    stop = begin + len(next(iter(tape.kept.values())))
    looked = looked[(looked >= begin + fresh) & (looked < stop)]
    stretch = np.searchsorted(cuts, looked, side="right") - 1
    found = {}
    for gate, kind in cell.activations.items():
        values, borders = tape.kept[gate][looked - begin], bin_edges(kind)
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
    """The history of each gate, from the counts of all chunks."""
    cuts, found = stretches_of_time(steps), {}
    for gate, kind in cell.activations.items():
        sums = counts[gate].sum(axis=1, keepdims=True)
        blank = np.full(counts[gate].shape, np.nan)
        shares = np.divide(counts[gate], sums, out=blank, where=sums > 0)
        found[gate] = GateHistory(cuts, bin_edges(kind), shares)
    return found


def _looked_at(cuts: Array, values: int) -> Array:
    """The steps looked at, evenly spread within each stretch; `values`: a gate's in one step."""
    most = max(1, GATE_VALUES // values)
    chosen = [
        start + np.arange(min(most, stop - start)) * (stop - start) // min(most, stop - start)
        for start, stop in pairwise(cuts)
    ]
    return np.concatenate(chosen)
