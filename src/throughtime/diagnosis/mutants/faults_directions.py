"""Faults of two directions: which half of δ each gets, and in which order of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.interventions import Intervention, Mutation, mutation
from throughtime.diagnosis.mutants.model import Model


def directions_swapped(model: Model) -> Iterator[Mutation]:
    """Each direction gets the other's half of δh; or δV multiplies the other's half of h."""
    if model.directions < 2:
        return
    yield from _of_each(model, "directions_swapped", "δh", halves=lambda halves: halves[::-1])
    if model.has_head:
        yield mutation("directions_swapped", "δV alone", seen=_seen(model, swapped=True))


def direction_not_reversed(model: Model) -> Iterator[Mutation]:
    """What the backward direction gets or gives stays in the wrong order of time."""
    if model.directions < 2 or model.steps < 2:
        return
    name = "direction_not_reversed"
    arriving: Intervention = lambda out, in_time: in_time  # noqa: E731
    leaving: Intervention = lambda dx, own: own  # noqa: E731
    yield from _of_each(model, name, "δh of the outputs", own_time=arriving)
    lowest = 0 if model.has_embedding else 1  # the first layer that hands δx down
    if lowest < model.layers:
        yield from _of_each(model, name, "δx", lowest, dx_in_time=leaving)
        both = {"own_time": arriving, "dx_in_time": leaving}
        yield from _of_each(model, name, "δh and δx", lowest, **both)
    if model.has_head:
        yield mutation(name, "δV alone", seen=_seen(model, in_time=False))


def _of_each(
    model: Model, fault: str, where: str, lowest: int = 0, **edits: Intervention
) -> Iterator[Mutation]:
    """In all layers and, where there are several, in each alone, from the lowest that shows it."""
    made = tuple(edits.items())
    yield Mutation(fault, where, made)
    for layer in range(lowest, model.layers) if model.layers > lowest + 1 else ():
        yield Mutation(fault, f"{where}, {model.words(layer, None)}", made, layer)


def _seen(model: Model, *, swapped: bool = False, in_time: bool = True) -> Intervention:
    """What the head saw, with its halves swapped, or the second one in its own order of time."""

    def edit(seen: Array, **_: Any) -> Array:
        halves = [tape.h[1:] for tape in model.top().values()]
        found = model.joined(halves, turned=in_time, swapped=swapped)
        return found if model.data.mask is None else found * model.data.mask

    return edit


ACROSS = (directions_swapped, direction_not_reversed)
