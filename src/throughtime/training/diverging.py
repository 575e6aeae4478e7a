"""A run that diverges: the next loss before it counts, and the first value that is no number."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from throughtime.arrays import Array, all_finite
from throughtime.gradient_flow import NonFinite, first_in_network
from throughtime.parameters import Parameters

if TYPE_CHECKING:
    from throughtime.training.trainer import Trainer


def next_loss(trainer: Trainer) -> float:
    """What the next update will find, of all processes; nothing is changed."""
    own, settings = trainer.own, trainer.settings
    first = _first(trainer)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        inputs, targets, context = _given(trainer)
        outputs, _, _ = trainer.network.forward(inputs, **context)
        loss = trainer.network.loss_of(outputs[first:], targets[first:]).value
    return trainer.processes.total(loss * (own.stop - own.start) / settings.batch)


def first_value(trainer: Trainer) -> NonFinite | None:
    """The first value of a window's run that is NaN or infinite, run again from its state."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        inputs, targets, context = _given(trainer)
        found = first_in_network(trainer.network, inputs, targets, first=_first(trainer), **context)
    if found is None or found.sequence is None:
        return found
    return replace(found, sequence=found.sequence + trainer.own.start)


def first_parameter(parameters: Parameters, gradient: Parameters, rate: float) -> NonFinite | None:
    """The first parameter that an update has made NaN or infinite."""
    for name, array in parameters.items():
        if all_finite(array):
            continue
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        return NonFinite(
            where="parameters",
            quantity="value",
            value=float(array[place]),
            name=f"{name}{list(place)}",
            sources={"its gradient": float(gradient[name][place]), "learning rate": rate},
            dtype=str(parameters.dtype),
        )
    return None


def _first(trainer: Trainer) -> int:
    """The first step of the next window whose loss counts."""
    window = trainer.streams.windows[trainer.window]
    return window.first - window.start


def _given(trainer: Trainer) -> tuple[Array, Array, dict[str, Any]]:
    """Inputs, targets, and the state and dropout of the next update."""
    inputs, targets, state = trainer.next_window()
    return inputs, targets, {"state": state, "dropout_seed": trainer.dropout_seed(0)}
