"""Batch first: what a network takes and gives as (B, T, ·), while inside it time stands in front.

The passes, the flow and the check know one order of axes. A network that is built with
`batch_first=True` turns its arrays at the door, after they have been checked in the user's order,
so that messages name the user's shapes and places.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from throughtime.arrays import Array
from throughtime.network.data import Gradients, Run
from throughtime.network.losses import Loss, LossValue


def swapped(array: Array) -> Array:
    """(T, B, …) as (B, T, …), or the reverse, in memory of its own."""
    return np.ascontiguousarray(np.swapaxes(array, 0, 1))


def swapped_run(run: Run) -> Run:
    """The run with all arrays in the other order; the state has no steps."""
    return Run(
        swapped(run.outputs),
        {number: swapped(array) for number, array in run.hidden.items()},
        {number: swapped(array) for number, array in run.cells.items()},
        {n: {gate: swapped(one) for gate, one in own.items()} for n, own in run.gates.items()},
        run.state,
    )


def swapped_loss(loss: LossValue) -> LossValue:
    """The loss with its parts in the other order."""
    parts = (swapped(loss.terms), swapped(loss.weights), swapped(loss.doutputs))
    return LossValue(loss.value, *parts)


def swapped_gradients(found: Gradients) -> Gradients:
    """The gradients of all steps in the other order; parameters and state have no steps."""
    return replace(
        found,
        inputs=None if found.inputs is None else swapped(found.inputs),
        deltas={n: {d: swapped(a) for d, a in own.items()} for n, own in found.deltas.items()},
    )


def checked_targets(loss: Loss, targets: object, outputs: Array) -> Array:
    """The targets in the order (B, T, ·) of these outputs; messages name this order."""
    try:
        return loss.check_targets(targets, outputs)
    except (ValueError, TypeError) as problem:
        _raise_in_order(problem)


def _raise_in_order(problem: Any) -> NoReturn:
    raise type(problem)(str(problem).replace("(T, B", "(B, T")) from None
