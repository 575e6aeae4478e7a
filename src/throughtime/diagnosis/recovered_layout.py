"""The layout of a target that has none: found, together with its data, by its losses alone.

Every layout that names and shapes allow is supposed in turn. With all weights below the output
layer at 0 a single step shows no inputs, and most layouts are refuted there by a few losses.
With those that are left the data are recovered step after step, and a layout is believed only if
its network then has the target's loss at further points drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.mutants.layout import Guess, Layout
from throughtime.diagnosis.mutants.losses import Loss
from throughtime.diagnosis.recovered_data import (
    DrawnLosses,
    InTargets,
    Network,
    Recovery,
    TooExpensive,
    Way,
    sizes_of,
)
from throughtime.diagnosis.tolerances import (
    MOST_DESCENTS,
    MOST_SEQUENCES,
    SHARE_OF_RECOVERY,
    SPARE_POINTS,
)

FURTHER_POINTS = (1001, 1002)  # numbers of points at which no data were looked for


@dataclass(frozen=True)
class Recovered:
    """What was found of a target.

    Attributes:
        layout: with its data; None where no network has the target's losses.
        evaluations: how many losses it took.
    """

    layout: Layout | None
    evaluations: int = 0


def recovered_layout(study: Study) -> Recovered:
    """The layout of a target, and its data, by its losses alone."""
    steps = study.steps
    if not steps or (steps > 1 and study.target.at_length is None):
        return Recovered(None)
    losses = DrawnLosses(study, SHARE_OF_RECOVERY * study.budget.left)
    search = LayoutSearch(losses, steps)
    try:
        found = search.run()
    except TooExpensive:
        found = None
    return Recovered(found, losses.used)


class LayoutSearch:
    """Supposes one layout after the other.

    Args:
        losses: of the target.
        steps: T, its own length.
    """

    def __init__(self, losses: DrawnLosses, steps: int) -> None:
        self.losses, self.steps = losses, steps
        self.descents = 0

    def run(self) -> Layout | None:
        """The first layout that is believed."""
        supposed = list(self._possible())
        for states in (False, True):
            for way in self._ways(states):
                for layout, loss, total in supposed:
                    if total is not None and not _fits(total, loss, way.sequences):
                        continue
                    if found := self._with_data(layout, loss, way):
                        return found
        return None

    def _possible(self) -> Iterator[tuple[Layout, Loss, float | None]]:
        """Layouts and losses that a single step without inputs allows.

        With each the total weight of that step's terms, None where nothing shows it.
        """
        for layout in _structures(self.losses.shapes):
            try:
                found = list(self._allowed(layout))
            except ValueError:
                continue
            yield from found

    def _allowed(self, layout: Layout) -> Iterator[tuple[Layout, Loss, float | None]]:
        kinds = [one for one in _losses() if bool(layout.V) or one.kind != "softmax"]
        if not (layout.b or layout.c):
            yield from ((layout, loss, None) for loss in kinds)
            return
        zero = _below_the_head(layout, self.losses.shapes)
        sizes = sizes_of(layout, self.losses.shapes)
        points = sizes.outputs + 2 + SPARE_POINTS
        measured = self.losses.losses(1, points, zero)
        network = Network(layout, self.losses, zero)
        x, start = np.zeros((1, sizes.inputs)), network.start(1)
        outputs = np.stack([network.step(k, x, start)[0][0] for k in range(points)])
        for loss in kinds:
            told, total = _weight(loss, outputs, measured, self.losses.tolerance)
            if told:
                yield layout, loss, total

    def _ways(self, states: bool) -> Iterator[Way]:
        """The likelier and cheaper ones first."""
        if not states:
            yield Way(1, "classes", "classes")
            yield Way(1, "classes", "numbers")
        for sequences in range(1, MOST_SEQUENCES + 1):
            yield Way(sequences, "numbers", "numbers", states)

    def _with_data(self, layout: Layout, loss: Loss, way: Way) -> Layout | None:
        network = Network(layout, self.losses)
        if not self.losses.affordable(self.steps * way.points(network.sizes, first=False)):
            return None
        if way.inputs == "numbers":
            if self.descents >= MOST_DESCENTS:
                return None
            self.descents += 1
        first = Recovery(network, loss, way)
        if not first.further():
            return None
        for variant in _over_steps(loss) if self.steps > 1 else (loss,):
            recovery = first.under(variant)
            while len(recovery.given) < self.steps and recovery.further():
                pass
            if len(recovery.given) == self.steps:
                found = self._believed(layout, recovery)
                if found is not None:
                    return found
        return None

    def _believed(self, layout: Layout, recovery: Recovery) -> Layout | None:
        """The layout with its data, if it has the losses of further points, at two lengths."""
        for steps in {self.steps, (self.steps + 1) // 2}:
            whole = with_data(layout, recovery, steps)
            for number in FURTHER_POINTS:
                mine = whole.model(self.losses.point(number)).value()
                yours = self.losses.loss(steps, number)
                if not abs(mine - yours) <= self.losses.tolerance * max(1.0, abs(yours)):
                    return None
        return with_data(layout, recovery, self.steps)


def with_data(layout: Layout, recovery: Recovery, steps: int) -> Layout:
    """A layout with the first steps of recovered data."""
    given = recovery.given[:steps]
    start: dict[str, Any] = {}
    if recovery.start is not None and recovery.way.states:
        start = {"h0": recovery.start.h, "c0": recovery.start.c}
    inputs, targets = np.array([one.x for one in given]), np.array([one.y for one in given])
    return replace(layout, inputs=inputs, targets=targets, loss=recovery.loss, **start)


def _structures(shapes: Mapping[str, Shape]) -> Iterator[Layout]:
    """Every layout of one direction that these names and shapes allow, without data and loss."""
    nothing = np.zeros(1, int)
    found: dict[Layout, None] = {}
    for layout in Guess(nothing, nothing).layouts(shapes):
        bare = replace(layout, inputs=None, targets=None, loss=Loss())
        if bare not in found and bare.directions == 1:
            found[bare] = None
            yield bare


def _losses() -> Iterator[Loss]:
    """Every kind of loss as it shows in a single step."""
    for batch in ("mean", "sum"):
        yield Loss(batch=batch)
        for outputs, half in product(("sum", "mean"), (False, True)):
            yield Loss("squared_error", batch=batch, outputs=outputs, half=half)
        for outputs in ("sum", "mean"):
            yield Loss("binary", batch=batch, outputs=outputs)
        yield Loss("squared_error", batch=batch, root=True)
    yield Loss("weighted")


def _over_steps(loss: Loss) -> Iterator[Loss]:
    """The reductions over steps."""
    for time, last in (("mean", False), ("sum", False), ("mean", True)):
        yield replace(loss, time=time, last=last)


def _below_the_head(layout: Layout, shapes: Mapping[str, Shape]) -> frozenset[str]:
    """The names of the matrices of the recurrent layers."""
    places = layout.placement(shapes).places
    return frozenset(place.tensor for block, place in places.items() if block.kind in "WU")


def _weight(
    loss: Loss, outputs: Array, measured: Array, tolerance: float
) -> tuple[bool, float | None]:
    """Whether outputs (K, O) may have such losses (K,), and with which total weight."""
    parts = InTargets.of(loss, outputs)
    whole = measured**2 if loss.root else measured
    columns = parts.slope
    if parts.bend:
        columns = np.column_stack([columns, np.full(len(columns), parts.bend)])
    weighs = bool(np.abs(parts.constant).max(initial=0.0) > 0)
    if weighs:
        columns = np.column_stack([parts.constant, columns])
    found, *_ = np.linalg.lstsq(columns, whole, rcond=None)
    rest = np.abs(columns @ found - whole)
    told = bool((rest <= tolerance * np.maximum(1.0, np.abs(whole))).all())
    return told, float(found[0]) if weighs else None


def _fits(total: float, loss: Loss, sequences: int) -> bool:
    """Whether a single step's terms of so many sequences have this total weight."""
    expected = float(loss.weights(1, np.ones(sequences, int)).sum())
    return abs(total - expected) <= 1e-2 * expected
