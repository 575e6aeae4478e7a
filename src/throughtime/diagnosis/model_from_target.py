"""The network behind a target, from a layout that is declared or guessed, and then verified.

A layout is believed only if the network that it describes has the target's own loss, both at the
parameters as they stand and at a point beside them. Then no order of gates and no reduction of the
loss can be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from throughtime.diagnosis.layout_search import GuessSearch, LossAtPoints
from throughtime.diagnosis.mutants.equation_layout import EquationLayout
from throughtime.diagnosis.mutants.layout import Guess, Layout, with_every
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.nearest_layout import Nearest, nearest
from throughtime.gradcheck import Target


@dataclass(frozen=True)
class ModelFromTarget:
    """What is known of a target's network.

    Attributes:
        model: the network; None where there is no layout, or where the layout is wrong.
        notes: sentences on what was found, or why nothing was.
        rounded: whether the target rounds to single precision on the way, whatever its arrays are.
    """

    model: Model | None
    notes: tuple[str, ...] = ()
    rounded: bool = False


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
    points = LossAtPoints(target, declared=not isinstance(layout, Layout | Guess))
    try:
        if isinstance(layout, Guess):
            return _guessed(layout, points)
        found = points.model(layout)
    except ValueError as problem:
        return ModelFromTarget(None, (f"The layout does not fit: {problem}.",))
    if found is not None:
        return ModelFromTarget(found, found.notes)
    return ModelFromTarget(None, (_why_not(layout, points),))


def _guessed(guess: Guess, points: LossAtPoints) -> ModelFromTarget:
    search = GuessSearch(points, guess)
    found = search.run()
    if found is not None:
        layout, model = found
        said = f"The layout was guessed, and has your loss: {described(layout)}."
        return ModelFromTarget(model, (" ".join((said, *layout.notes)),))
    near = nearest(search.candidates(), points)
    if near.model is not None:
        said = f"The layout was guessed. {_said(near)}"
        return ModelFromTarget(near.model, (said,), near.rounded)
    shapes = {name: array.shape for name, array in points.target.parameters.items()}
    names = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    why = f"No layout that was tried has your loss, with the parameters {names}"
    if not search.tries:
        given = [np.shape(one) for one in (guess.inputs, guess.targets)]
        why = f"No network of the parameters {names} takes inputs {given[0]} to targets {given[1]}"
    return ModelFromTarget(None, (f"{why} ({search.tries:,} were tried). {_said(near)}".rstrip(),))


def _said(near: Nearest) -> str:
    return near.words.format(near.layout and described(near.layout))


def _why_not(layout: Any, points: LossAtPoints) -> str:
    """Why a layout is not used: whether another loss would agree, or another layout."""
    value = layout.model(points.target.parameters).value()
    if not isinstance(layout, Layout):  # of a network of our own, or of a torch module
        return (
            f"Our model of it has the loss {value:.9g}, but the target's own loss is "
            f"{points.here:.9g}, so the model is not used."
        )
    start = f"The layout's loss is {value:.9g}, yours is {points.here:.9g}: no mutant is used."
    other = points.first(_other_losses(layout))
    if other:
        return f"{start} The loss is another one: {described(other[0])} would agree."
    other = points.first(_other_layouts(layout))
    if other:
        return f"{start} The layout is wrong: {described(other[0])} would agree."
    near = nearest(points.candidates((layout, *_other_losses(layout))), points)
    if near.model is None:
        near = nearest(points.candidates((layout, *_other_layouts(layout))), points)
    said = f"{start} Neither another reduction nor another order of the gates makes them agree."
    return f"{said} {_said(near)}".rstrip()


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
    if isinstance(layout, EquationLayout):
        return  # its equations and names say all
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
    """The layout in the words of `tt.layouts`, without what is as usual."""
    if isinstance(layout, EquationLayout):
        return layout.described()
    cell, loss, kind = layout.cell, layout.loss, layout.loss.kind
    words: dict[str, Any] = {"order": layout.order, "W": _shown(layout.W)}
    words |= {} if layout.combined else {"U": _shown(layout.U)}
    words |= {} if "1" in layout.combined else {"b": _shown(layout.b) or None}
    own = {name.replace("squash", "cell_activation"): value for name, value in vars(cell).items()}
    words |= {name: value for name, value in own.items() if value and name != "peepholes"}
    held = {"second_bias": "c", "peepholes": "p", "projection": "R", "head": "V", "head_bias": "d"}
    held |= {"embedding": "E", "initial_h": "h_start", "initial_c": "c_start"}
    held |= {name: name for name in ("transposed", "combined", "head_transposed", "decay")}
    words |= {word: _shown(getattr(layout, name)) for word, name in held.items()}
    words["layers"] = layout.layers if layout.layers > 1 else ""
    words["bidirectional"] = layout.directions > 1
    if layout.fixed_head is not None:
        words["head"] = "a matrix that is no parameter"
    words["first_units"] = layout.first_units
    prefix = "half_" if loss.half else "root_" if loss.root else ""
    words |= {"loss": prefix + kind, "time": loss.time, "batch": loss.batch}
    usual = ModelLoss(kind).outputs if kind == "softmax" else ""
    words |= {"outputs": loss.outputs} if loss.outputs != usual else {}
    words |= {"output_activation": loss.activation.replace("identity", "")}
    words |= {"epsilon": loss.epsilon, "scale": loss.scale if loss.scale != 1 else ""}
    words |= {"last": loss.last}
    said = [f"{name}={value!r}" for name, value in words.items() if value or name == "b"]
    if layout.recurrent_transposed not in (None, layout.transposed):
        said.append(f"recurrent_transposed={layout.recurrent_transposed!r}")
    return f"{type(cell).__name__.lower()}({', '.join(said)})"


def _shown(names: Any) -> Any:
    """Names as they would be given."""
    return dict(names) if isinstance(names, Mapping) else names
