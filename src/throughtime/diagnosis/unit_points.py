"""Points at which no unit of a recurrent layer sees another one, and what is seen of it there.

All matrices below the output layer are 0, so that no input is seen; recurrent ones may have one and
the same number on their diagonal. Each gate's biases have a value of their own, the same for every
unit. So every unit is a network of its own, with the same activations as all others, and differs
from them by what the output layer makes of it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.simple_points import SimplePoints
from throughtime.diagnosis.tolerances import (
    COUNTS_DIFFER,
    COUNTS_FIT,
    GATE_BIASES,
    SAME_IN_A_UNIT,
    SAME_STATE,
    UNIT_WEIGHT,
)


@dataclass(frozen=True)
class GateBias:
    """One gate's part of a bias.

    Attributes:
        name: of the tensor.
        part: where in it, as one flat vector.
        whole: whether it is all of the tensor.
    """

    name: str
    part: slice
    whole: bool

    def __str__(self) -> str:
        return self.name if self.whole else f"{self.name}[{self.part.start}:{self.part.stop}]"


@dataclass(frozen=True)
class UnitObservation:
    """What is seen of the units at one point.

    Attributes:
        steps: T.
        biases: the value of each gate's biases.
        recurrent: the number on the diagonal of each gate's recurrent matrix.
        g, n, bars: gradient, numerical derivative and error bars of the biases, (G, H) each.
        through: the numerical derivative by the diagonal of the only gate's recurrent matrix, and
            its error bars, (H,) each; None where it was not looked at.
    """

    steps: int
    biases: tuple[float, ...]
    recurrent: float
    g: Array
    n: Array
    bars: Array
    through: tuple[Array, Array] | None = None

    def fits(self, expected: Array, unsure: Array) -> bool:
        """Whether what is expected of the biases is the gradient, to within the error bars."""
        return bool((np.abs(self.g - expected) <= self._width(unsure)).all())

    def right(self, expected: Array, unsure: Array) -> bool:
        """Whether it is their numerical derivative, to within the error bars."""
        return bool((np.abs(self.n - expected) <= self._width(unsure)).all())

    def differs(self, expected: Array, unsure: Array) -> bool:
        """Whether it is clearly another gradient than the right one."""
        beyond = COUNTS_DIFFER / COUNTS_FIT * self._width(unsure)
        return bool((np.abs(self.n - expected) > beyond).any())

    @property
    def wrong(self) -> Array:
        """Which gates are wrong, (G,)."""
        return np.asarray((np.abs(self.g - self.n) > self._width(0.0)).any(axis=1))

    def _width(self, unsure: Array | float) -> Array:
        least = SAME_IN_A_UNIT * np.abs(self.n).max(initial=0.0)
        return np.asarray(COUNTS_FIT * (self.bars + unsure) + least)


class UnitPoints:
    """Makes such points for a target, and looks at the biases there."""

    def __init__(self, points: SimplePoints) -> None:
        self.points, self.study = points, points.study
        self.roles = points.study.roles
        every = self._gates()
        self.gates = tuple(gate for gate in every if self._seen(every, gate.name))
        self.alone = len(self.gates) == len(every)  # otherwise a layer lies below

    def look(
        self, steps: int, biases: Sequence[float], recurrent: float = 0.0, *, through: bool = False
    ) -> UnitObservation | None:
        """The biases at one length; None where the target cannot be evaluated there.

        With `through`, the diagonal of the recurrent matrix is looked at too.
        """
        values = self._values(biases)
        every = self.points.all_biases()
        places = {gate.name: every[gate.name] for gate in self.gates}
        if recurrent:
            diagonals = self._diagonals()
            if diagonals is None:
                return None
            for name, where in diagonals.items():
                values[name].reshape(-1)[where] = recurrent
                if through:
                    places[name] = np.sort(where)
        there = self.study.look(steps, values, places)
        if there is None:
            return None
        found = []
        for gate in self.gates:
            name, own = gate.name, there.sampled[gate.name]
            rows = there.beside(name), own.numerical, there.bars(name)
            found.append([row[gate.part] for row in rows])
        g, n, bars = np.moveaxis(np.array(found), 1, 0)
        if not np.isfinite(bars).all():
            return None
        diagonal = None
        if recurrent and through:
            last = list(places)[-1]
            diagonal = there.sampled[last].numerical, there.bars(last)
        return UnitObservation(
            steps, tuple(biases[: len(self.gates)]), recurrent, g, n, bars, diagonal
        )

    def state_is(self, phi: Callable[[Array], Array]) -> bool:
        """Whether h_1 is φ of the bias: then the loss is that of the outputs V φ(b) + d."""
        head, bias = self.roles.head, self.roles.head_bias
        if head is None or bias is None:
            return False
        at = self._values(GATE_BIASES)
        V, d = at[head], at[bias]
        moved = float(phi(np.array(GATE_BIASES[0])) - phi(np.array(0.0)))
        here = self.study.loss(at, 1)
        for axis in (0, 1):
            if V.ndim == 2 and V.shape[1 - axis] == d.size:
                there = self._values((0.0,))
                there[bias] = d + moved * V.sum(axis=axis).reshape(d.shape)
                if abs(self.study.loss(there, 1) - here) <= SAME_STATE * max(1.0, abs(here)):
                    return True
        return False

    def _gates(self) -> tuple[GateBias, ...]:
        """Every bias below the output layer, cut into gates; empty where that cannot be."""
        H, found = self.roles.units, list[GateBias]()
        if self.roles.head is None or not H or self.roles.projection is not None:
            return ()
        for name in self.roles.vectors:
            size = np.asarray(self.study.values[name]).size
            if size % H:
                return ()
            if name not in self.roles.spare:
                found += [GateBias(name, slice(k, k + H), size == H) for k in range(0, size, H)]
        return tuple(found)

    def _seen(self, every: Sequence[GateBias], name: str) -> bool:
        """Whether the loss reacts to a bias where a layer sees nothing of the one below."""
        at = self._values(np.resize(GATE_BIASES, len(every)), every)
        for matrix, where in (self._diagonals() or {}).items():
            at[matrix].reshape(-1)[where] = UNIT_WEIGHT
        moved = at | {name: at[name] + GATE_BIASES[0]}
        return any(self.study.loss(at, T) != self.study.loss(moved, T) for T in (1, 2))

    def _values(
        self, biases: Sequence[float] | Array, gates: Sequence[GateBias] | None = None
    ) -> dict[str, Array]:
        shapes = {n: np.asarray(self.study.values[n]).shape for n in self.roles.hidden}
        values = {name: np.zeros(shape) for name, shape in shapes.items()}
        for gate, bias in zip(self.gates if gates is None else gates, biases, strict=False):
            values[gate.name].reshape(-1)[gate.part] = bias
        return values | self.points.lively_head()

    def _diagonals(self) -> dict[str, Array] | None:
        """The flat positions of the diagonals of all recurrent matrices; None if unknown."""
        H, found = self.roles.units, dict[str, Array]()
        for name, mask in (self.roles.recurrent or {}).items():
            if not mask.any():
                continue
            rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            R, C = len(rows), len(columns)
            if not mask[np.ix_(rows, columns)].all() or R % H or C % H or min(R, C) != H:
                return None
            places = np.arange(max(R, C))
            found[name] = np.ravel_multi_index((rows[places % R], columns[places % C]), mask.shape)
        return found or None
