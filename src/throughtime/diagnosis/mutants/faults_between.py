"""Faults between steps: what comes back from step t + 1, through which matrix, from which cache."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations, product
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.cells import GRU, LSTM
from throughtime.diagnosis.mutants.interventions import Intervention, Mutation, mutation
from throughtime.diagnosis.mutants.model import DIRECTIONS, Block, Model

Carried = tuple[Array, Array]
LONGEST = 24  # truncations beyond this many steps are tried at round numbers only


def of_each_layer(
    model: Model, fault: str, where: str = "", **edits: Intervention
) -> Iterator[Mutation]:
    """The mutation everywhere and, where there are several, in each layer and direction alone."""
    made = tuple(edits.items())
    layers = [None, *range(model.layers)] if model.layers > 1 else [None]
    directions = [None, *range(model.directions)] if model.directions > 1 else [None]
    for layer, direction in product(layers, directions):
        words = ", ".join(filter(None, [where, model.words(layer, direction)]))
        yield Mutation(fault, words, made, layer, direction)


def dh_next_missing(model: Model) -> Iterator[Mutation]:
    """δh from step t + 1 is left out."""
    if model.steps > 1:
        yield from of_each_layer(model, "dh_next_missing", carried=_times(0, 1))


def dc_next_missing(model: Model) -> Iterator[Mutation]:
    """δc from step t + 1 is left out."""
    if model.steps > 1 and isinstance(model.cell, LSTM):
        yield from of_each_layer(model, "dc_next_missing", carried=_times(1, 0))


def term_counted_twice(model: Model) -> Iterator[Mutation]:
    """What step t + 1 sends back is added twice."""
    if model.steps < 2:
        return
    yield from of_each_layer(model, "term_counted_twice", "δh", carried=_times(2, 1))
    if isinstance(model.cell, LSTM):
        yield from of_each_layer(model, "term_counted_twice", "δc", carried=_times(1, 2))
        yield from of_each_layer(model, "term_counted_twice", "δh and δc", carried=_times(2, 2))


def dh_overwritten(model: Model) -> Iterator[Mutation]:
    """δh from step t + 1 replaces that of the output."""
    if model.steps < 2:
        return

    def edit(dh: Array, out: Array, t: int, T: int) -> Array:
        return dh if t == T - 1 else dh - out

    yield from of_each_layer(model, "dh_overwritten", dh=edit)


def truncated(model: Model) -> Iterator[Mutation]:
    """Nothing crosses every k-th step; or nothing goes back beyond the last k."""
    T = model.steps
    for k in (n for n in range(1, T) if n <= LONGEST or n % 5 == 0 or n & (n - 1) == 0):
        if k > 1 or isinstance(model.cell, LSTM):  # elsewhere it is `dh_next_missing`
            yield mutation("truncated", f"k = {k}", carried=_cut(lambda t, k=k: (t + 1) % k == 0))
        if T % k:
            words = f"k = {k}, counted from the end"
            yield mutation("truncated", words, carried=_cut(lambda t, k=k: (T - t - 1) % k == 0))
        words = f"k = {k}, the last steps alone"
        yield mutation("truncated", words, dh=_from(T - k), carried=_cut(lambda t, k=k: t < T - k))


def recurrent_untransposed(model: Model) -> Iterator[Mutation]:
    """U δz instead of Uᵀδz: all gates, the sigmoid gates, or one of them."""
    gates = model.cell.gates
    rows, columns = model.blocks[Block(0, "U", 0)].shape
    if model.steps < 2 or rows != columns:
        return
    for words, chosen in _gate_sets(model):
        yield from of_each_layer(model, "recurrent_untransposed", words, U=_transposed(chosen))
    if len(gates) > 2:
        for k, gate in enumerate(gates):
            yield mutation("recurrent_untransposed", f"gate {gate}", U=_transposed((k,)))


def wrong_matrix(model: Model) -> Iterator[Mutation]:
    """Another block of the weights where Uᵀ belongs."""
    if model.steps < 2:
        return
    gates = model.cell.gates
    n = len(gates)
    for k in range(n if n > 1 else 0):
        yield mutation("wrong_matrix", f"U of {gates[k]} for every gate", U=_taken([k] * n))
    for a, b in combinations(range(n), 2):
        order = list(range(n))
        order[a], order[b] = b, a
        yield mutation(
            "wrong_matrix", f"U of {gates[a]} and of {gates[b]} swapped", U=_taken(order)
        )
    for by in range(1, n) if n > 2 else ():
        order = [(k - by) % n for k in range(n)]
        yield mutation("wrong_matrix", f"U of the gates moved on by {by}", U=_taken(order))
    for cycle in _cycles(n):
        yield mutation("wrong_matrix", "U of the gates in another order", U=_taken(list(cycle)))
    for a, b in permutations(range(n), 2):
        order = list(range(n))
        order[a] = b
        yield mutation("wrong_matrix", f"U of {gates[b]} for that of {gates[a]}", U=_taken(order))
    for words, chosen in _gate_sets(model):
        for place, columns in COLUMNS.items():
            where = f"{place}, {words}" if words else place
            yield from of_each_layer(model, "wrong_matrix", where, U=_other(columns, chosen))


def direct_path(model: Model) -> Iterator[Mutation]:
    """One of the two ways back through a GRU alone."""
    if not isinstance(model.cell, GRU) or model.steps < 2:
        return
    only, missing = "direct_path_only", "direct_path_missing"
    yield from of_each_layer(model, only, paths=lambda both: (both[0], 0 * both[1]))
    yield from of_each_layer(model, missing, paths=lambda both: (0 * both[0], both[1]))


def last_cache_at_every_step(model: Model) -> Iterator[Mutation]:
    """One step's activations, the last one's, with or without its operands."""
    if model.steps < 2:
        return

    def last(steps: Array) -> Array:
        return np.full_like(steps, len(steps) - 1)

    def repeated(x: Array, **_: Any) -> Array:
        return np.broadcast_to(x[-1], x.shape)

    name = "last_cache_at_every_step"
    yield from of_each_layer(model, name, "operands too", cache=last, x=repeated, h_before=repeated)
    yield from of_each_layer(model, name, "activations", cache=last)
    yield from of_each_layer(model, name, "activations and states", cache=last, h_before=repeated)
    yield from of_each_layer(model, name, "activations and inputs", cache=last, x=repeated)


def lower_layer_overwritten(model: Model) -> Iterator[Mutation]:
    """One step's δx, the first or the last, reaches the layer below; or one direction's."""
    if model.directions > 1 and (model.layers > 1 or model.has_embedding):
        for kept, words in enumerate(DIRECTIONS):
            edit: Intervention = lambda halves, kept=kept: [halves[kept]]  # noqa: E731
            yield mutation("lower_layer_overwritten", f"the {words}'s alone", dx_halves=edit)
    if model.layers < 2 or model.steps < 2:
        return

    def first(dx: Array) -> Array:
        return np.concatenate([dx[:1], 0 * dx[1:]])

    def last(dx: Array) -> Array:
        return np.concatenate([0 * dx[:-1], dx[-1:]])

    yield mutation("lower_layer_overwritten", "the first step's alone", dx=first)
    yield mutation("lower_layer_overwritten", "the last step's alone", dx=last)
    repeated = "the first step's at every step"
    yield mutation(
        "lower_layer_overwritten", repeated, dx=lambda dx: np.broadcast_to(dx[0], dx.shape)
    )


def _times(h: float, c: float) -> Intervention:
    def edit(carried: Carried, **_: Any) -> Carried:
        return h * carried[0], c * carried[1]

    return edit


def _cut(at: Any) -> Intervention:
    def edit(carried: Carried, t: int, T: int) -> Carried:
        return (0 * carried[0], 0 * carried[1]) if at(t) and t < T - 1 else carried

    return edit


def _from(first: int) -> Intervention:
    """δh is 0 before step `first`."""
    return lambda dh, t, **_: dh if t >= first else 0 * dh


def _gate_sets(model: Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All gates, and in a GRU the two whose product with h_{t−1} is the plain one."""
    gates = range(len(model.cell.gates))
    yield "", tuple(gates)
    if isinstance(model.cell, GRU):
        yield "gates r and z", (0, 1)


def _transposed(chosen: tuple[int, ...]) -> Intervention:
    def edit(U: Array, W: Array) -> Array:
        wrong = U.copy()
        for k in chosen:
            wrong[k] = U[k].T
        return wrong

    return edit


def _taken(order: list[int]) -> Intervention:
    return lambda U, W: U[order]


def _cycles(n: int) -> Iterator[tuple[int, ...]]:
    """Orders that are neither a swap of two nor the gates moved on."""
    for order in permutations(range(n)):
        moved = {(place - k) % n for k, place in enumerate(order)}
        if sum(place != k for k, place in enumerate(order)) > 2 and len(moved) > 1:
            yield order


def _other(columns: Any, chosen: tuple[int, ...]) -> Intervention:
    def edit(U: Array, W: Array) -> Array:
        wrong = U.copy()
        for k in chosen:
            wrong[k] = columns(W[k], U[k])
        return wrong

    return edit


COLUMNS = {  # (H, I), (H, P) -> the (H, P) that stands in U's place
    "the last columns of [U, W]": lambda W, U: np.hstack([U, W])[:, -U.shape[1] :],
    "the first columns of [W, U]": lambda W, U: np.hstack([W, U])[:, : U.shape[1]],
    "the columns of W over and over": lambda W, U: W[:, np.arange(U.shape[1]) % W.shape[1]],
}

BETWEEN = (
    dh_next_missing,
    dc_next_missing,
    dh_overwritten,
    direct_path,
    recurrent_untransposed,
    term_counted_twice,
    last_cache_at_every_step,
    truncated,
    lower_layer_overwritten,
    wrong_matrix,
)
