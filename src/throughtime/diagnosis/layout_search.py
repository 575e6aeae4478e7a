"""The search for a layout that has a target's loss, and what the nearest one has instead.

A layout is believed only if the network that it describes has the target's own loss, at the
parameters as they stand, at a point beside them, and at one that is drawn. Then no order of gates
and no reduction of the loss can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.diagnosis.mutants.data_readings import TargetReading
from throughtime.diagnosis.mutants.layout import Guess, Layout, Structure, reductions
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.tolerances import (
    DRAWN_PARAMETERS,
    FAR_ROUNDING,
    LEAST_TRIES,
    MOST_TRIES,
    NEAREST_AMONG,
    POINT_BESIDE,
    SAME_LOSS,
    SMALL_LAYER,
    STEP_OVERHEAD,
    USUAL_EPSILONS,
    WITHIN_AN_EPSILON,
    WORK_OF_A_GUESS,
)
from throughtime.gradcheck import CheckError, Evaluator, Target


class LossAtPoints:
    """The target's loss at the points at which a network's loss is compared with it.

    Args:
        target: whose loss it is.
        declared: whether gates and losses are known, so that a point beside the given one will do.
    """

    def __init__(self, target: Target, declared: bool = False) -> None:
        self.target = target
        evaluator = Evaluator(target)
        self.losses = [evaluator.loss()]
        self.points: list[Callable[[], AbstractContextManager[None]]] = [nullcontext]
        for point in (moved,) if declared else (moved, drawn):
            try:
                with point(target.parameters):
                    self.losses.append(evaluator.loss())
            except (CheckError, ArithmeticError, AssertionError, RuntimeError, ValueError):
                continue  # it has no loss there
            self.points.append(partial(point, target.parameters))
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
        for number, model in enumerate(self._models(layout)):
            room = FAR_ROUNDING if number > 1 else 1.0
            if not self.equal(model.value(), self.losses[number], room):
                return None
        return found

    def candidates(self, layouts: Iterable[Layout]) -> Iterator[EvaluatedLayout]:
        """These layouts, with their losses at every point."""
        for layout in layouts:
            try:
                models = list(self._models(layout))
            except ValueError:
                continue
            values, squares = ([one.value() for one in models], [one.squares() for one in models])
            yield EvaluatedLayout(
                layout, layout.loss, layout.targets, np.array(values), np.array(squares)
            )

    def _models(self, layout: Layout) -> Iterator[Model]:
        """The network of a layout at every point, run forwards."""
        for point in self.points:
            with point():
                model = layout.model(self.target.parameters)
                model.forward()
            yield model

    def first(self, layouts: Iterable[Layout]) -> tuple[Layout, Model] | None:
        """The first layout with the target's loss; those that do not fit its shapes are skipped."""
        for layout in layouts:
            try:
                if found := self.model(layout):
                    return layout, found
            except ValueError:
                continue
        return None

    def equal(self, a: float, b: float, room: float = 1.0) -> bool:
        """Whether two losses are one, down to rounding, or so many times that."""
        return abs(a - b) <= room * self.tolerance * max(1.0, abs(a), abs(b))


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
            inner = min(array.shape) if array.ndim > 1 else 1
            size = DRAWN_PARAMETERS / np.sqrt(max(1.0, inner / SMALL_LAYER))
            array[...] = size * rng.standard_normal(array.shape)
        yield
    finally:
        for name, array in parameters.items():
            array[...] = kept[name]


class EvaluatedLayout(NamedTuple):
    """A layout with its loss at every point, and Σ w² over its matrices there."""

    structure: Layout
    loss: ModelLoss
    targets: Any
    values: Array
    squares: Array

    @property
    def layout(self) -> Layout:
        """All of it."""
        return replace(self.structure, loss=self.loss, targets=self.targets)


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
    _reduced: dict[tuple[ModelLoss, int, int, int], _Reduced] = field(default_factory=dict)

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

    def candidates(self) -> Iterator[EvaluatedLayout]:
        """The first of what was tried, with the losses at every point."""
        tried = list(islice(self.guess.structures(*self._given()), min(self.tries, NEAREST_AMONG)))
        made: list[tuple[Layout, ModelLoss, Array]] = []
        columns: list[list[tuple[float, float]]] = []
        for point in self.points.points:
            with point():
                columns.append([])
                for structure in tried:
                    model = self._run(structure.layout)
                    if model is None:
                        continue
                    squares, penalty = model.squares(), model.penalty()
                    for reading in structure.readings:
                        for loss, value in self._values(reading, model):
                            columns[-1].append((value + penalty, squares))
                            if len(columns) == 1:
                                made.append((structure.layout, loss, reading.targets))
        for one, *numbers in zip(made, *columns, strict=True):
            yield EvaluatedLayout(*one, *np.array(numbers).T)

    def _given(self) -> tuple[dict[str, Shape], int | None]:
        target = self.points.target
        return {name: array.shape for name, array in target.parameters.items()}, target.steps

    def _structures(self) -> Iterator[Structure]:
        """What is tried, as long as it is worth its time."""
        parameters = self.points.target.parameters
        most = MOST_TRIES
        for structure in self.guess.structures(*self._given()):
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
        model = self._run(structure.layout)
        if model is None:
            return
        penalty = model.penalty()
        for reading in structure.readings:
            near = False
            for loss, value in self._values(reading, model):
                apart = abs(value + penalty - self.points.here)
                near = near or apart <= WITHIN_AN_EPSILON * abs(value)
                if self.points.equal(value + penalty, self.points.here):
                    yield replace(structure.layout, loss=loss, targets=reading.targets)
            if near and reading.loss.kind in ("softmax", "binary"):
                for loss in self._with_epsilon(reading, model):
                    yield replace(structure.layout, loss=loss, targets=reading.targets)

    def _with_epsilon(self, reading: TargetReading, model: Model) -> Iterator[ModelLoss]:
        """The same losses with log(p + ε), where they are the target's."""
        for epsilon in USUAL_EPSILONS:
            own = reading._replace(loss=replace(reading.loss, epsilon=epsilon))
            for loss, value in self._values(own, model):
                if self.points.equal(value + model.penalty(), self.points.here):
                    yield loss

    def _run(self, layout: Layout) -> Model | None:
        """The network of a layout that has no loss yet; None if the layout does not fit."""
        try:
            with np.errstate(all="ignore"):
                model = layout.model(self.points.target.parameters)
                model.forward()
        except ValueError:
            return None
        return model

    def _values(self, reading: TargetReading, model: Model) -> Iterator[tuple[ModelLoss, float]]:
        """Every reduction of a loss, with its value."""
        y = model.forward().y
        key = (reading.loss, *y.shape)
        if key not in self._reduced:
            self._reduced[key] = _Reduced.of(reading.loss, y.shape, model.data.lengths)
        with np.errstate(all="ignore"):
            e, _ = reading.loss.errors(y, reading.targets)
            yield from self._reduced[key].values(e)


class _Reduced(NamedTuple):
    """All reductions of one loss at once: a row for each, which weighs every step's error."""

    losses: list[ModelLoss]
    rows: Array
    roots: Array

    @classmethod
    def of(cls, summed: ModelLoss, shape: tuple[int, ...], lengths: Array) -> _Reduced:
        losses = list(reductions(summed))
        T, _, O = shape  # noqa: E741
        shares = [(0.5 if one.half else 1) / (O if one.outputs == "mean" else 1) for one in losses]
        rows = [k * one.weights(T, lengths) for k, one in zip(shares, losses, strict=True)]
        return cls(losses, np.reshape(rows, (len(rows), -1)), np.array([k.root for k in losses]))

    def values(self, errors: Array) -> Iterator[tuple[ModelLoss, float]]:
        found = self.rows @ errors.ravel()
        found = np.where(self.roots, np.sqrt(np.abs(found)), found)
        return zip(self.losses, found.tolist(), strict=True)
