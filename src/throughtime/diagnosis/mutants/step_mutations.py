"""The mutations of a network whose cell is given by its equations, beside those of any network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.equation_cell import EquationCell
from throughtime.diagnosis.mutants.equation_model import EquationModel
from throughtime.diagnosis.mutants.interventions import STEP, Intervention, Mutation
from throughtime.diagnosis.mutants.shared_interventions import (
    Carried,
    contributions_left,
    in_each_layer,
)
from throughtime.diagnosis.mutants.step_changes import SlotChange, StepMistake
from throughtime.diagnosis.mutants.step_mistakes import mistakes_of


def step_mutations(model: EquationModel) -> Iterator[Mutation]:
    """Every mistake of the step, and of what is carried beside the output, in every layer."""
    down = model.layers > 1 or model.has_embedding
    cells = [model.cell_of(layer) for layer in range(model.layers)]
    same: dict[tuple[str, str, int], dict[EquationCell, StepMistake]] = {}
    for cell in dict.fromkeys(cells):
        for one in mistakes_of(cell):
            number = 0
            while cell in same.get((one.fault, one.where, number), ()):
                number += 1
            same.setdefault((one.fault, one.where, number), {})[cell] = one
    for (_, where, _), by_cell in same.items():
        one = next(iter(by_cell.values()))
        if (one.back and model.steps < 2) or (one.down and not down):
            continue
        facts = dict(one.facts)
        changes = {cell: own.changes for cell, own in by_cell.items()}
        for made in in_each_layer(model, where, **{STEP: partial(_with, changes)}):
            meant = cells if made.layer is None else [cells[made.layer]]
            if any(cell not in by_cell for cell in meant):
                continue
            said = facts
            if made.layer is not None or made.direction is not None:
                place = model.words(made.layer, made.direction)
                said = facts | ({"of": f"{facts['of']} of {place}"} if "of" in facts else {})
            yield replace(made, fault=one.fault, facts=tuple(said.items()))
    if model.steps > 1:
        yield from _carried(model)
        yield from _kept(model)


def _with(
    changes: Mapping[EquationCell, tuple[SlotChange, ...]],
    others: tuple[SlotChange, ...],
    cell: EquationCell,
) -> tuple[SlotChange, ...]:
    return (*others, *changes[cell])


def _carried(model: EquationModel) -> Iterator[Mutation]:
    """The other states' δ from step t + 1: cut, doubled, a step late, or added up."""
    names = list(model.cell.others)
    every = [[name] for name in names] + ([names] if len(names) > 1 else [])
    for own in every:
        stretches = [model.cell.stretch(name) for name in own]
        state = " and δ".join(own)
        sent = " and ".join(model.cell.sent(name) for name in own)
        facts = {"state": state, "sent": sent}
        words = f"δ{state}"
        ways: list[tuple[str, str, str, Intervention]] = [
            ("dc_next_missing", words, "carried", partial(_times, stretches, 1.0, 0.0)),
            ("term_counted_twice", words, "carried", partial(_times, stretches, 1.0, 2.0)),
        ]
        if own == names:
            both = partial(_times, stretches, 2.0, 2.0)
            ways.append(("term_counted_twice", f"δh and {words}", "carried", both))
        if model.steps > 2:
            ways.append(("delta_arrives_late", words, "handed_back", partial(_late, stretches)))
            where = f"{words} of the step before"
            ways.append(("delta_not_cleared", where, "handed_back", partial(_added, stretches)))
            if own == names:
                late, added = partial(_late, stretches, h=True), partial(_added, stretches, h=True)
                ways.append(("delta_arrives_late", f"δh and {words}", "handed_back", late))
                ways.append(("delta_not_cleared", f"δh and {where}", "handed_back", added))
        for fault, where, place, edit in ways:
            for made in in_each_layer(model, where, **{place: edit}):
                yield replace(made, fault=fault, facts=tuple(facts.items()))


def _changed(dc: Array, stretches: list[slice], new: Any) -> Array:
    """δ of the other states with some of them changed."""
    wrong = np.array(dc)
    for own in stretches:
        wrong[..., own] = new(own)
    return wrong


def _times(stretches: list[slice], h: float, c: float, carried: Carried, **_: Any) -> Carried:
    dh, dc = carried
    return h * dh, _changed(dc, stretches, lambda own: c * dc[..., own])


def _late(
    stretches: list[slice],
    sent: Carried,
    earlier: list[Carried],
    h: bool = False,
    **_: Any,
) -> Carried:
    dh, dc = sent
    last, before = earlier[-1] if earlier else (0 * dh, 0 * dc)
    return last if h else dh, _changed(dc, stretches, lambda own: before[..., own])


def _added(
    stretches: list[slice], sent: Carried, arrived: Carried, h: bool = False, **_: Any
) -> Carried:
    dh, dc = sent
    return dh + h * arrived[0], _changed(
        dc, stretches, lambda own: dc[..., own] + arrived[1][..., own]
    )


def _kept(model: EquationModel) -> Iterator[Mutation]:
    """`=` for `+=` in the gradient of one parameter."""
    T, B = model.steps, len(model.data.lengths)
    if len(model.cell.kinds) < 2:
        return
    for name in model.cell.kinds:
        for words, mask in contributions_left(T, B).items():
            where = f"{name}, {words}"
            for made in in_each_layer(model, where, **{f"kept {name}": partial(_masked, mask)}):
                yield replace(made, fault="only_last_step_kept")


def _masked(mask: Array, kept: Array) -> Array:
    return kept * mask
