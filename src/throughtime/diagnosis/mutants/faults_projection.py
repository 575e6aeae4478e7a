"""Faults of a projection h = R m: how δh comes back through it, and what δR is made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.cells import ACTIVATIONS, LSTM, Tape
from throughtime.diagnosis.mutants.faults_between import of_each_layer
from throughtime.diagnosis.mutants.interventions import Intervention, Mutation
from throughtime.diagnosis.mutants.model import Block, Model


def projection_untransposed(model: Model) -> Iterator[Mutation]:
    """δm = R δh; where R is not square, its memory read as if it were of the other shape."""
    if not model.projected:
        return
    size, units = _shape(model)
    name = "projection_untransposed"
    if size == units:
        yield from of_each_layer(model, name, dm=lambda dm, dh, R: dh @ R.T)
        return
    by_rows: Intervention = lambda dm, dh, R: dh @ R.reshape(units, size).T  # noqa: E731
    by_columns: Intervention = lambda dm, dh, R: dh @ R.T.reshape(size, units)  # noqa: E731
    yield from of_each_layer(model, name, "its memory read as (H, P)", dm=by_rows)
    yield from of_each_layer(model, name, "its memory, by columns, read as (P, H)", dm=by_columns)


def projection_skipped(model: Model) -> Iterator[Mutation]:
    """δm = δh; of other sizes, as far as it goes."""
    if not model.projected:
        return
    size, units = _shape(model)

    def edit(dm: Array, dh: Array, R: Array) -> Array:
        wrong = np.zeros_like(dm)
        wrong[:, :size] = dh[:, :units]
        return wrong

    words = "" if size == units else f"the first {min(size, units)} units"
    yield from of_each_layer(model, "projection_skipped", words, dm=edit)


def wrong_projection_operand(model: Model) -> Iterator[Mutation]:
    """δR of other values than δh_t and m_t."""
    if not model.projected:
        return
    size, units = _shape(model)
    cell, name = model.cell, "wrong_projection_operand"
    assert isinstance(cell, LSTM)

    def without_o(m: Array, tape: Tape) -> Array:
        return ACTIVATIONS[cell.squash](tape.c[1:])

    def before(m: Array, tape: Tape) -> Array:
        return np.concatenate([0 * m[:1], m[:-1]])

    if size == units:
        already: Intervention = lambda m, tape: tape.h[1:]  # noqa: E731
        yield from of_each_layer(model, name, "h_t in the place of m_t", m=already)
    yield from of_each_layer(model, name, "m_t without the output gate", m=without_o)
    if cell.squash != "identity":
        yield from of_each_layer(
            model, name, "c_t in the place of m_t", m=lambda m, tape: tape.c[1:]
        )
    if model.steps > 1:
        out: Intervention = lambda dh, out: out  # noqa: E731
        carried: Intervention = lambda dh, out: dh - out  # noqa: E731
        yield from of_each_layer(model, name, "m of the step before", m=before)
        yield from of_each_layer(model, name, "δh of the output alone", dh_R=out)
        yield from of_each_layer(model, name, "δh from the next step alone", dh_R=carried)


def _shape(model: Model) -> tuple[int, int]:
    """P and H."""
    size, units = model.blocks[Block(0, "R", 0)].shape
    return size, units


PROJECTION = (projection_untransposed, projection_skipped, wrong_projection_operand)
