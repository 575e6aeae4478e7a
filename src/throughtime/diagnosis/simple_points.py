"""Points of the parameters at which a recurrent network is simple, and what its gradient is there.

Below the output layer all matrices are 0, so that no input is seen. With all biases at 0 too, the
states are 0 and each step's part of the gradient stands by itself; with all biases at β, every
pre-activation is β, and a wrong derivative shows as a number that is known beforehand.

Where all states are 0 and a share r of δ goes back a step past the recurrent weights, step t's own
part e_t reaches the gradient of a bias from each of the steps 1 … t: it counts 1 + r + … + r^{t−1}
times. The numerical derivatives at the lengths 1 … T therefore give e_1 … e_T, and a fault that
counts them otherwise is recognised by its counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.tolerances import (
    COUNTS_DIFFER,
    COUNTS_FIT,
    NARROWEST_BAR,
    OUTPUT_WEIGHTS,
)


@dataclass(frozen=True)
class SimplePoints:
    """Makes such points for a target, and observes the biases there."""

    study: Study

    @property
    def useful(self) -> bool:
        """Whether the parts of the network that have to be moved are known."""
        roles = self.study.roles
        return roles.settled and bool(roles.vectors)

    @property
    def gates(self) -> int:
        """How many gates the biases belong to; 0 where that is not known."""
        roles = self.study.roles
        if not roles.units:
            return 0
        size = sum(self._value(n).size for n in roles.vectors if n not in roles.spare)
        return size // roles.units if size % roles.units == 0 else 0

    @property
    def knows_recurrent(self) -> bool:
        """Whether recurrent weights could be told from the others."""
        return any(mask.any() for mask in (self.study.roles.recurrent or {}).values())

    def biases(
        self, steps: int, beta: float = 0.0, recurrent: Mapping[str, Array] | None = None
    ) -> Observed | None:
        """An observation of all biases below the output layer, with all of them at β.

        Recurrent weights are 0, or as given.
        """
        roles = self.study.roles
        values = {name: np.zeros(self._value(name).shape) for name in roles.hidden}
        for name in roles.vectors:
            values[name] += 0.0 if name in roles.spare else beta
        values |= recurrent or {}
        if roles.projection is not None:  # at 0 it would hide all that lies below
            values[roles.projection] = self._lively(roles.projection, 6)
        return self.study.look(steps, values | self.lively_head(), self.all_biases())

    def all_biases(self) -> dict[str, Array]:
        """Every entry of every bias below the output layer."""
        roles = self.study.roles
        return {n: np.arange(self._value(n).size) for n in roles.vectors if n not in roles.spare}

    def without_recurrent(self) -> dict[str, Array]:
        """The weights of the target with all recurrent ones at 0."""
        masks = self.study.roles.recurrent or {}
        return {name: np.where(mask, 0.0, self._value(name)) for name, mask in masks.items()}

    def lively_head(self) -> dict[str, Array]:
        """An output layer with random weights, which no unit is lost on."""
        return {n: self._lively(n, 10 + k) for k, n in enumerate(self.study.roles.output)}

    def _lively(self, name: str, stream: int) -> Array:
        rng = np.random.default_rng([self.study.seed, stream])
        return np.asarray(OUTPUT_WEIGHTS * rng.standard_normal(self._value(name).shape))

    def _value(self, name: str) -> Array:
        return np.asarray(self.study.values[name])


def right(observed: Observed | None) -> bool | None:
    """Whether all observed entries agree; None where nothing was observed."""
    return None if observed is None else not observed.wrong()


def columns(observed: Observed) -> tuple[Array, Array, Array]:
    """Gradient, numerical derivative and error bars of all observed entries, each in one row."""
    rows = [
        (observed.beside(name), own.numerical, observed.bars(name))
        for name, own in observed.sampled.items()
    ]
    g, n, bars = (np.concatenate(column) for column in zip(*rows, strict=True))
    return g, n, bars


Counts = Callable[[int, float], Sequence[float]]
"""From T and r to a number for each step."""


def right_counts(T: int, r: float) -> list[float]:
    """1, 1 + r, 1 + r + r², …"""
    return [sum(r**k for k in range(t)) for t in range(1, T + 1)]


def fitting(
    seen: Sequence[Observed],
    weights: Sequence[float],
    r: float,
    faults: Mapping[str, Counts],
    right: Counts = right_counts,
    where: Array | None = None,
) -> list[str]:
    """The names of the faults whose counts give the gradient at the longest length.

    Args:
        seen: observations of the same entries at T = 1, 2, …
        weights: the weights of a term of the loss at these lengths, relative to T = 1.
        r: the share of δ that goes back a step, see the module.
        faults: counts by name of the fault.
        right: the counts without a fault.
        where: a mask of entries; by default all of them.
    """
    rows = [
        tuple(column if where is None else column[where] for column in columns(one)) for one in seen
    ]
    g, n, bars = rows[-1]
    parts, unsure = _own_parts(rows, weights, right(len(seen), r))
    known = np.isfinite(bars) & np.isfinite(unsure).all(axis=0)
    found: list[str] = []
    for name, counts in faults.items():
        a = weights[-1] * np.array(counts(len(seen), r))
        expected, width = a @ parts, bars + np.abs(a) @ unsure
        width = np.maximum(width, NARROWEST_BAR * np.abs(n).max(initial=0.0))
        fits = (np.abs(g - expected) <= COUNTS_FIT * width)[known].all()
        tells = (np.abs(n - expected) > COUNTS_DIFFER * width)[known].any()
        if fits and tells:
            found.append(name)
    return found


def _own_parts(
    rows: Sequence[tuple[Array, ...]], weights: Sequence[float], counts: Sequence[float]
) -> tuple[Array, Array]:
    """e_t of every step and its error bar, (T, entries) each."""
    parts, unsure = [], []
    before = further = np.zeros(len(rows[0][0]))
    for (_, n, bars), weight, count in zip(rows, weights, counts, strict=True):
        parts.append((n / weight - before) / count)
        unsure.append((bars / weight + further) / count)
        before, further = n / weight, bars / weight
    return np.array(parts), np.array(unsure)
