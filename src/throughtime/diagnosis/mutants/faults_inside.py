"""Faults inside a step: derivatives of the activations, and what each gate's δ is made of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.cells import ACTIVATIONS, GRU, LSTM, SLOPES
from throughtime.diagnosis.mutants.faults_between import of_each_layer
from throughtime.diagnosis.mutants.interventions import Intervention, Mutation
from throughtime.diagnosis.mutants.model import Model


def derivative_of_activated_value(model: Model) -> Iterator[Mutation]:
    """φ′(a) for φ′(z), where a = φ(z): σ(a)(1 − σ(a)) or 1 − tanh² a."""
    kinds = model.cell.activations

    def again(v: Array, kind: str) -> Array:
        slope: Array = SLOPES[kind](ACTIVATIONS[kind](v))
        return slope

    for words, chosen in _gate_sets(model):
        if all(kinds[k] in ("tanh", "sigmoid") for k in chosen):
            edit = _replaced(chosen, kinds, again)
            yield from of_each_layer(model, "derivative_of_activated_value", words, slopes=edit)
    if isinstance(model.cell, LSTM) and model.cell.squash == "tanh":
        name, words = "derivative_of_activated_value", "tanh(c)"
        edit = lambda slope, m: 1 - np.tanh(m) ** 2  # noqa: E731
        yield from of_each_layer(model, name, words, cell_slope=edit)


def derivative_missing(model: Model) -> Iterator[Mutation]:
    """No derivative of the activation."""
    kinds = model.cell.activations
    for words, chosen in _gate_sets(model):
        if any(kinds[k] != "identity" for k in chosen):
            edit = _replaced(chosen, kinds, lambda v, kind: np.ones_like(v))
            yield from of_each_layer(model, "derivative_missing", words, slopes=edit)
    if isinstance(model.cell, LSTM) and model.cell.squash == "tanh":
        edit = lambda slope, m: np.ones_like(slope)  # noqa: E731
        yield from of_each_layer(model, "derivative_missing", "tanh(c)", cell_slope=edit)


def gates_swapped_in_dc(model: Model) -> Iterator[Mutation]:
    """δi = δc ⊙ i and δa = δc ⊙ a."""
    if isinstance(model.cell, LSTM) and not model.cell.coupled:
        edit: Intervention = lambda d: d | {"i": d["a"], "a": d["i"]}  # noqa: E731
        yield from of_each_layer(model, "gates_swapped_in_dc", dgates=edit)


def current_c_for_previous(model: Model) -> Iterator[Mutation]:
    """δf = δc ⊙ c_t."""
    if isinstance(model.cell, LSTM):
        yield from of_each_layer(model, "current_c_for_previous", c_before=lambda before, now: now)


def update_gate_term_missing(model: Model) -> Iterator[Mutation]:
    """h_{t−1}, or c_{t−1} where f = 1 − i, is left out of the update gate's δ."""
    coupled = isinstance(model.cell, LSTM) and model.cell.coupled
    if isinstance(model.cell, GRU) or coupled:
        edit: Intervention = lambda before: 0 * before  # noqa: E731
        yield from of_each_layer(model, "update_gate_term_missing", update=edit)


def _gate_sets(model: Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each gate; those with the same activation; all; and pairs of them."""
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


def _replaced(chosen: tuple[int, ...], kinds: tuple[str, ...], slope: Any) -> Intervention:
    def edit(slopes: Array, v: Array) -> Array:
        wrong = slopes.copy()
        for k in chosen:
            wrong[:, :, k] = slope(v[:, :, k], kinds[k])
        return wrong

    return edit


INSIDE = (
    derivative_missing,
    derivative_of_activated_value,
    gates_swapped_in_dc,
    current_c_for_previous,
    update_gate_term_missing,
)
