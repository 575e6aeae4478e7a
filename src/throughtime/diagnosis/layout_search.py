"""The search for a layout that has a target's loss, and what the nearest one has instead.

A layout is believed only if the network that it describes has the target's own loss, at the
parameters as they stand, at a point beside them, and at one that is drawn. Then no order of gates
and no reduction of the loss can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.layout import Guess, Layout, Structure, reductions
from throughtime.diagnosis.mutants.losses import Loss
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.readings import TargetReading
from throughtime.diagnosis.tolerances import (
    DRAWN_PARAMETERS,
    LEAST_TRIES,
    MOST_TRIES,
    POINT_BESIDE,
    SAME_LOSS,
    STEP_OVERHEAD,
    USUAL_EPSILONS,
    WITHIN_AN_EPSILON,
    WORK_OF_A_GUESS,
)
from throughtime.gradcheck import CheckError, Evaluator, Target


class LossAtPoints:
    """The target's loss at the points at which a network's loss is compared with it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        evaluator = Evaluator(target)
        self.losses = [evaluator.loss()]
        self.points: list[Callable[[], AbstractContextManager[None]]] = [nullcontext]
        for point in (moved, drawn):
            try:
                with point(target.parameters):
                    self.losses.append(evaluator.loss())
            except (CheckError, ArithmeticError, ValueError):
                continue  # it has no loss there
            self.points.append(lambda point=point: point(target.parameters))
        kinds = {array.dtype.name for array in target.parameters.values()}
        self.tolerance = max(SAME_LOSS.get(kind, SAME_LOSS["float64"]) for kind in kinds)

    @property
    def here(self) -> float:
        """The loss at the parameters as they stand."""
        return self.losses[0]

    def model(self, layout: Layout) -> Model | None:
        """The network that a layout describes, if it has the target's loss at all points."""
        found = layout.model(self.target.parameters)
        if not self.equal(found.value(), self.here):
            return None
        return found if all(map(self.equal, self.values(layout), self.losses)) else None

    def values(self, layout: Layout) -> Iterator[float]:
        """A layout's loss at every point."""
        for point in self.points:
            with point():
                yield layout.model(self.target.parameters).value()

    def first(self, layouts: Iterable[Layout]) -> tuple[Layout, Model] | None:
        """The first layout with the target's loss; those that do not fit its shapes are skipped."""
        for layout in layouts:
            try:
                if found := self.model(layout):
                    return layout, found
            except ValueError:
                continue
        return None

    def equal(self, a: float, b: float) -> bool:
        """Whether two losses are one, down to rounding."""
        return abs(a - b) <= self.tolerance * max(1.0, abs(a), abs(b))


@contextmanager
def moved(parameters: Mapping[str, Array]) -> Iterator[None]:
    """Moves the parameters to a nearby point, and back again bit for bit."""
    kept = {name: array.copy() for name, array in parameters.items()}
    rng = np.random.default_rng(0)
    try:
        for array in parameters.values():
            size = float(np.abs(array).mean()) or 1.0
            array += (POINT_BESIDE * size * rng.standard_normal(array.shape)).astype(array.dtype)
        yield
    finally:
        for name, array in parameters.items():
            array[...] = kept[name]


@contextmanager
def drawn(parameters: Mapping[str, Array]) -> Iterator[None]:
    """Draws other parameters: where all are small, hardly any order of gates shows in a loss."""
    kept = {name: array.copy() for name, array in parameters.items()}
    rng = np.random.default_rng(1)
    try:
        for array in parameters.values():
            array[...] = DRAWN_PARAMETERS * rng.standard_normal(array.shape)
        yield
    finally:
        for name, array in parameters.items():
            array[...] = kept[name]


@dataclass
class GuessSearch:
    """One search for the layout of a target.

    Attributes:
        points: the target's loss.
        guess: what is known.
        tries: how many forward passes were made at the parameters as they stand.
    """

    points: LossAtPoints
    guess: Guess
    tries: int = 0
    _reduced: dict[tuple[Loss, int, int, int], _Reduced] = field(default_factory=dict)

    def run(self) -> tuple[Layout, Model] | None:
        """The first layout that has the loss, perhaps times a factor or with an L2 term."""
        for structure in self._structures():
            for layout in self._fitting(structure):
                try:
                    if found := self.points.model(layout):
                        return layout, found
                except ValueError:
                    continue
        return None

    def _structures(self) -> Iterator[Structure]:
        """What is tried, as long as it is worth its time."""
        parameters = self.points.target.parameters
        shapes = {name: array.shape for name, array in parameters.items()}
        most = MOST_TRIES
        for structure in self.guess.structures(shapes, self.points.target.steps):
            if self.tries >= most:
                return
            self.tries += 1
            if self.tries == 1:
                size = sum(array.size for array in parameters.values())
                work = len(structure.layout.inputs) * (STEP_OVERHEAD + size)
                most = max(LEAST_TRIES, min(MOST_TRIES, int(WORK_OF_A_GUESS / work)))
            yield structure

    def _fitting(self, structure: Structure) -> Iterator[Layout]:
        """The structure with each loss that is the target's at the parameters as they stand."""
        outputs = self._outputs(structure.layout)
        if outputs is None:
            return
        y, lengths, penalty = outputs
        for reading in structure.readings:
            for loss, value in self._values(reading, y, lengths):
                near = abs(value + penalty - self.points.here)
                if self.points.equal(value + penalty, self.points.here):
                    yield replace(structure.layout, loss=loss, targets=reading.targets)
                elif loss.kind in ("softmax", "binary") and near <= WITHIN_AN_EPSILON * abs(value):
                    for epsilon in USUAL_EPSILONS:
                        own = replace(loss, epsilon=epsilon)
                        yield replace(structure.layout, loss=own, targets=reading.targets)

    def _outputs(self, layout: Layout) -> tuple[Array, Array, float] | None:
        """The network's outputs, the lengths, and its L2 term; None if the layout does not fit."""
        try:
            with np.errstate(all="ignore"):
                model = layout.model(self.points.target.parameters)
                y = model.forward().y
        except ValueError:
            return None
        return y, model.data.lengths, model.penalty()

    def _values(
        self, reading: TargetReading, y: Array, lengths: Array
    ) -> Iterator[tuple[Loss, float]]:
        """Every reduction of a loss, with its value."""
        key = (reading.loss, *y.shape)
        if key not in self._reduced:
            self._reduced[key] = _Reduced.of(reading.loss, y.shape, lengths)
        with np.errstate(all="ignore"):
            e, _ = reading.loss.errors(y, reading.targets)
            yield from self._reduced[key].values(e)


class _Reduced(NamedTuple):
    """All reductions of one loss at once: a row for each, which weighs every step's error."""

    losses: list[Loss]
    rows: Array
    roots: Array

    @classmethod
    def of(cls, summed: Loss, shape: tuple[int, ...], lengths: Array) -> _Reduced:
        losses = list(reductions(summed))
        T, _, O = shape  # noqa: E741
        shares = [(0.5 if one.half else 1) / (O if one.outputs == "mean" else 1) for one in losses]
        rows = [k * one.weights(T, lengths) for k, one in zip(shares, losses, strict=True)]
        return cls(losses, np.reshape(rows, (len(rows), -1)), np.array([k.root for k in losses]))

    def values(self, errors: Array) -> Iterator[tuple[Loss, float]]:
        found = self.rows @ errors.ravel()
        found = np.where(self.roots, np.sqrt(np.abs(found)), found)
        return zip(self.losses, found.tolist(), strict=True)

