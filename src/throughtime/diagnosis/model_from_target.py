"""The network behind a target, from a layout that is declared or guessed, and then verified.

A layout is believed only if the network that it describes has the target's own loss, both at the
parameters as they stand and at a point beside them. Then no order of gates and no reduction of the
loss can be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.layout import Guess, Layout, with_every
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.tolerances import POINT_BESIDE, SAME_LOSS
from throughtime.gradcheck import Evaluator, Target


@dataclass(frozen=True)
class ModelFromTarget:
    """What is known of a target's network.

    Attributes:
        model: the network; None where there is no layout, or where the layout is wrong.
        notes: sentences on what was found, or why nothing was.
    """

    model: Model | None
    notes: tuple[str, ...] = ()


def model_from_target(target: Target) -> ModelFromTarget:
    """The network behind a target, from its `layout`.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> x, y = np.ones((5, 1, 2)), np.zeros((5, 1, 3))
        >>> net = tt.Network([tt.RNN(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
        >>> model_from_target(tt.target_of(net, x, y)).model.steps
        5
    """
    layout = getattr(target, "layout", None)
    if layout is None:
        return ModelFromTarget(None)
    points = _Points(target)
    try:
        if isinstance(layout, Guess):
            return _guessed(target, layout, points)
        found = points.model(layout)
    except ValueError as problem:
        return ModelFromTarget(None, (f"The layout does not fit: {problem}.",))
    if found is not None:
        return ModelFromTarget(found, found.notes)
    return ModelFromTarget(None, (_why_not(layout, points),))


class _Points:
    """The target's loss at two points, with which a network's loss is compared."""

    def __init__(self, target: Target) -> None:
        self.target = target
        evaluator = Evaluator(target)
        self.here = evaluator.loss()
        with moved(target.parameters):
            self.beside = evaluator.loss()
        kinds = {array.dtype.name for array in target.parameters.values()}
        self.tolerance = max(SAME_LOSS.get(kind, SAME_LOSS["float64"]) for kind in kinds)

    def model(self, layout: Layout) -> Model | None:
        """The network that a layout describes, if it has the target's loss at both points."""
        found = layout.model(self.target.parameters)
        if not self._equal(found.value(), self.here):
            return None
        with moved(self.target.parameters):
            beside = layout.model(self.target.parameters).value()
        return found if self._equal(beside, self.beside) else None

    def first(self, layouts: Iterable[Layout]) -> tuple[Layout, Model] | None:
        """The first layout with the target's loss; those that do not fit its shapes are skipped."""
        for layout in layouts:
            try:
                if found := self.model(layout):
                    return layout, found
            except ValueError:
                continue
        return None

    def _equal(self, a: float, b: float) -> bool:
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


def _guessed(target: Target, guess: Guess, points: _Points) -> ModelFromTarget:
    shapes = {name: array.shape for name, array in target.parameters.items()}
    fitting = points.first(guess.layouts(shapes))
    if fitting is None:
        names = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        why = f"No layout that was tried has your loss, with the parameters {names}."
        return ModelFromTarget(None, (why,))
    layout, model = fitting
    return ModelFromTarget(
        model, (f"The layout was guessed, and has your loss: {described(layout)}.",)
    )


def _why_not(layout: Any, points: _Points) -> str:
    """Why a layout is not used: whether another loss would agree, or another layout."""
    value = layout.model(points.target.parameters).value()
    if not isinstance(layout, Layout):  # of a network of our own, or of a torch module
        return f"Our model of it has the loss {value:.9g}, it has {points.here:.9g}: not used."
    start = f"The layout's loss is {value:.9g}, yours is {points.here:.9g}: no mutant is used."
    other = points.first(_other_losses(layout))
    if other:
        return f"{start} The loss is another one: {described(other[0])} would agree."
    other = points.first(_other_layouts(layout))
    if other:
        return f"{start} The layout is wrong: {described(other[0])} would agree."
    return f"{start} Neither another reduction nor another order of the gates makes them agree."


def _other_losses(layout: Layout) -> Iterator[Layout]:
    both = ("sum", "mean")
    for one in with_every(layout, decay=(layout.decay, 0.0)):
        for time in both:
            for batch in both:
                for outputs in both:
                    for half in (False, True):
                        for last in {layout.loss.last, True}:
                            changed: dict[str, Any] = {"time": time, "batch": batch, "last": last}
                            loss = replace(layout.loss, outputs=outputs, half=half, **changed)
                            yield replace(one, loss=loss)


def _other_layouts(layout: Layout) -> Iterator[Layout]:
    orders = tuple("".join(order) for order in permutations(layout.order))
    combined = ("xh", "hx") if layout.combined else ("",)
    cells = tuple(_variants(layout))
    yield from with_every(layout, order=orders, combined=combined, cell=cells)
    yield from with_every(layout, order=orders, transposed=(not layout.transposed,))


def _variants(layout: Layout) -> Iterator[Any]:
    cell = layout.cell
    choices: dict[str, tuple[Any, ...]] = {
        "nonlinearity": ("tanh", "relu", "sigmoid"),
        "squash": ("tanh", "identity"),
        "reset_after": (True, False),
        "keep": ("z", "1-z"),
    }
    own = {name: values for name, values in choices.items() if hasattr(cell, name)}
    yield from with_every(cell, **own)  # type: ignore[arg-type]


def described(layout: Layout) -> str:
    """The layout in the words of `tt.layouts`."""
    cell, loss = layout.cell, layout.loss
    words = [f"{type(cell).__name__.lower()}(order={layout.order!r}"]
    own = {name.replace("squash", "cell_activation"): value for name, value in vars(cell).items()}
    words += [
        f"{name}={value!r}"
        for name, value in own.items()
        if name not in ("coupled", "peepholes") or value
    ]
    words += [
        f"{n}={getattr(layout, n)!r}" for n in ("combined", "transposed") if getattr(layout, n)
    ]
    words += [f"loss={loss.kind!r}" + (" halved" if loss.half else "")]
    words += [f"time={loss.time!r}", f"batch={loss.batch!r}"]
    if loss.kind != "softmax":
        words.append(f"outputs={loss.outputs!r}")
    words += [f"projection={layout.R!r}"] if layout.R else []
    words += ["bidirectional=True"] if layout.directions > 1 else []
    words += ["last=True"] if loss.last else []
    words += [f"epsilon={loss.epsilon!r}"] if loss.epsilon else []
    words += [f"decay={layout.decay!r}"] if layout.decay else []
    return ", ".join(words) + ")"
