"""What the faults' mutations are made of, and the interventions that several faults share.

The files of `diagnosis/faults` import all that they need of the mutants from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product
from typing import Any, TypeAlias

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.cells import ACTIVATIONS, GRU, LSTM, RNN, SLOPES, MutantTape
from throughtime.diagnosis.mutants.interventions import Intervention, Mutation
from throughtime.diagnosis.mutants.model import DIRECTIONS, Block, Forward, Model
from throughtime.diagnosis.mutants.slope_forms import WITH_PHI
from throughtime.equations import softmax

__all__ = [
    "ACTIVATIONS",
    "DIRECTIONS",
    "GRU",
    "LSTM",
    "RNN",
    "SLOPES",
    "WITH_PHI",
    "Block",
    "Carried",
    "Forward",
    "Intervention",
    "Known",
    "Model",
    "MutantTape",
    "Mutation",
    "at_site",
    "carried_times",
    "contributions_left",
    "gates_of_plain_products",
    "in_each_bidirectional_layer",
    "in_each_layer",
    "mutation",
    "projection_shape",
    "seen_by_head",
    "sets_of_gates",
    "slopes_replaced",
    "softmax",
    "without_candidate",
]

Carried: TypeAlias = tuple[Array, Array]
"""δh and δc as step t + 1 sends them back."""


# --- which layers and directions have a mutation ---


def mutation(
    where: str = "",
    layer: int | None = None,
    direction: int | None = None,
    /,
    **interventions: Intervention,
) -> Mutation:
    """A mutation whose fault the table enters, since a fault's file bears its name.

    Example:
        >>> str(mutation("k = 3", carried=lambda carried, t, T: carried))
        ' (k = 3)'
    """
    return Mutation("", where, tuple(interventions.items()), layer, direction)


def in_each_layer(
    model: Model, where: str = "", **interventions: Intervention
) -> Iterator[Mutation]:
    """The mutation everywhere and, where there are several, in each layer and direction alone."""
    layers = [None, *range(model.layers)] if model.layers > 1 else [None]
    directions = [None, *range(model.directions)] if model.directions > 1 else [None]
    for layer, direction in product(layers, directions):
        words = ", ".join(filter(None, [where, model.words(layer, direction)]))
        yield mutation(words, layer, direction, **interventions)


def without_candidate(model: Model) -> dict[str, Intervention]:
    """Where r acts on h_{t−1}, U of a GRU's candidate has an operand of its own, that stays right.

    Returns:
        an intervention for the place of that operand; none for other cells.
    """
    if not isinstance(model.cell, GRU) or model.cell.reset_after:
        return {}

    def kept(operands: dict[int, Array], tape: MutantTape, h: Array) -> dict[int, Array]:
        return operands | {2: tape.v[:, :, 0] * tape.h[:-1]}

    return {"candidate": kept}


def in_each_bidirectional_layer(
    model: Model, where: str, lowest: int = 0, **interventions: Intervention
) -> Iterator[Mutation]:
    """In all layers and, where there are several, in each alone, from the lowest that shows it."""
    yield mutation(where, **interventions)
    for layer in range(lowest, model.layers) if model.layers > lowest + 1 else ():
        yield mutation(f"{where}, {model.words(layer, None)}", layer, **interventions)


# --- sets of gates ---


def gates_of_plain_products(model: Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All gates, and in a GRU the two whose product with h_{t−1} is the plain one."""
    yield "", tuple(range(len(model.cell.gates)))
    if isinstance(model.cell, GRU):
        yield "gates r and z", (0, 1)


def sets_of_gates(model: Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each gate, those with a sigmoid, all of them, and pairs."""
    gates, kinds = model.cell.gates, model.cell.activations
    if len(gates) == 1:
        yield "", (0,)
        return
    for k, gate in enumerate(gates):
        yield f"gate {gate}", (k,)
    sigmoid = tuple(k for k, kind in enumerate(kinds) if kind == "sigmoid")
    yield "gates " + " ".join(gates[k] for k in sigmoid), sigmoid
    yield "all gates", tuple(range(len(gates)))
    for pair in combinations(range(len(gates)), 2):
        if pair != sigmoid:
            yield "gates " + " ".join(gates[k] for k in pair), pair


# --- interventions ---


def carried_times(h: float, c: float) -> Intervention:
    """δh and δc from step t + 1, each multiplied by a number."""

    def edit(carried: Carried, **_: Any) -> Carried:
        return h * carried[0], c * carried[1]

    return edit


Known: TypeAlias = Callable[[str], Array]
"""From a name to a quantity of a step."""


def at_site(of: str, part: str, change: Callable[[Array, Known], Array]) -> Intervention:
    """Another value at one site of a step, from the right one and the step's quantities."""
    meant = of, part

    def edit(value: Array, of: str, part: str, known: Known) -> Array:
        return change(value, known) if (of, part) == meant else value

    return edit


def slopes_replaced(
    chosen: tuple[int, ...], kinds: tuple[str, ...], slope: Callable[[Array, str], Array]
) -> Intervention:
    """Another derivative of the activation in some gates, from the activated value and its kind."""

    def edit(slopes: Array, v: Array, **_: Any) -> Array:
        wrong = slopes.copy()
        for k in chosen:
            wrong[:, :, k] = slope(v[:, :, k], kinds[k])
        return wrong

    return edit


def contributions_left(T: int, B: int) -> dict[str, Array]:
    """Where `=` stands for `+=`: by words, 1 for the contributions that are left, (T, B)."""
    first, last = np.zeros((T, B)), np.zeros((T, B))
    first[0], last[-1] = 1, 1
    found = {"step 0 left": first, f"step {T - 1} left": last}
    if B > 1:  # sequence after sequence
        newest, oldest = np.zeros((T, B)), np.ones((T, B))
        newest[0, -1] = 1
        oldest[1:, 0] = 0
        last_sequence = np.zeros((T, B))
        last_sequence[:, -1] = 1
        found["step 0 of the last sequence left"] = newest
        found["step 0 of the first sequence and all of the others left"] = oldest
        found["the last sequence left"] = last_sequence
    return found


def seen_by_head(model: Model, *, swapped: bool = False, in_time: bool = True) -> Intervention:
    """What the head saw, with its halves swapped, or the second one in its own order of time."""

    def edit(seen: Array, **_: Any) -> Array:
        halves = [tape.h[1:] for tape in model.top().values()]
        found = model.joined(halves, turned=in_time, swapped=swapped)
        return found if model.data.mask is None else found * model.data.mask

    return edit


def projection_shape(model: Model) -> tuple[int, int]:
    """P and H of the projection R, (P, H)."""
    size, units = model.blocks[Block(0, "R", 0)].shape
    return size, units
