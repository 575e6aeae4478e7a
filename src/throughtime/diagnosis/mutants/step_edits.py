"""Every single edit of one step of a backward pass: another operand, another δ, another sign.

These are no mistakes with a history of their own. They are what a slip of the pen can make of the
equations of a cell: a quantity of the step stands where another one of the same shape belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN
from throughtime.diagnosis.mutants.interventions import Intervention, Mutation
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.shared_interventions import (
    Known,
    at_site,
    in_each_layer,
    slopes_replaced,
)
from throughtime.diagnosis.mutants.slope_forms import (
    FORMS,
    OPPOSITE,
    RIGHT,
    TANH_SLOPES,
    Form,
)


@dataclass(frozen=True)
class StepEdit:
    """One edit.

    Attributes:
        of: what is computed there: "δf".
        used: what stands there, or what becomes of the term.
        expected: what belongs there, or which term it is.
        place: the place of the backward pass.
        intervention: what is done there.
    """

    of: str
    used: str
    expected: str
    place: str
    intervention: Intervention


def in_steps(model: Model, edits: Iterable[StepEdit], words: str) -> Iterator[Mutation]:
    """The mutations of edits, each in every layer and direction; `words` say where it is."""
    for edit in edits:
        facts = {"of": edit.of, "used": edit.used, "expected": edit.expected}
        where = words.format_map(facts)
        for one in in_each_layer(model, where, **{edit.place: edit.intervention}):
            place = one.where.removeprefix(where).removeprefix(", ")
            said = facts | {"of": f"{edit.of} of {place}" if place else edit.of}
            yield replace(one, facts=tuple(said.items()))


def operands(model: Model) -> Iterator[StepEdit]:
    """Every quantity of a step in the place of every other one."""
    cell = model.cell
    if isinstance(cell, LSTM):
        yield from _lstm_operands(cell, not model.projected_to_another_size)
        if model.steps > 2:
            yield from _replaced("δc_{t−1}", "f", "f", ("f_{t−1}", "f_{t+1}"))
    elif isinstance(cell, GRU):
        yield from _gru_operands(cell)
        if model.steps > 2:
            kept = "z" if cell.keep == "z" else "1 − z"
            beside = (f"{kept}_{{t−1}}", f"{kept}_{{t+1}}")
            yield from _replaced("δh_{t−1}", "share kept", kept, beside)
    yield from _slopes(model)
    if isinstance(cell, LSTM) and cell.squash == "tanh":
        yield from _cell_slopes()
    yield from _handed_back(model)


def terms(model: Model) -> Iterator[StepEdit]:
    """Every term of a step: left out, counted twice, subtracted."""
    for site, part, of, term in _terms(model):
        for how, factor in WAYS.items():
            change = partial(_scaled, factor)
            yield StepEdit(of, how, term, "quantity", at_site(site, part, change))
    gates = model.cell.gates
    for k, gate in enumerate(gates) if model.steps > 1 else ():
        for how, factor in WAYS.items():
            if len(gates) > 1 or factor < 0:
                times = partial(_one_gate, k, factor)
                yield StepEdit("δh_{t−1}", how, f"Uᵀδz of gate {gate}", "U", times)
    for k, gate in enumerate(gates) if model.layers > 1 or model.has_embedding else ():
        for how, factor in WAYS.items():
            if len(gates) > 1:
                times = partial(_one_gate, k, factor)
                yield StepEdit("δx", how, f"Wᵀδz of gate {gate}", "W", times)


WAYS = {"is missing": 0.0, "counts twice": 2.0, "has the wrong sign": -1.0}


def _scaled(factor: float, value: Array, known: Known) -> Array:
    return factor * value


def _one_gate(k: int, factor: float, weights: Array, **_: Any) -> Array:
    wrong = weights.copy()
    wrong[k] *= factor
    return wrong


def _taken(used: str, value: Array, known: Known) -> Array:
    return known(used)


def _replaced(of: str, part: str, expected: str, candidates: tuple[str, ...]) -> Iterator[StepEdit]:
    for used in candidates:
        if used != expected:
            edit = at_site(of, part, partial(_taken, used))
            yield StepEdit(of, used, expected, "quantity", edit)


def _lstm_operands(cell: LSTM, alike: bool) -> Iterator[StepEdit]:
    psi = "ψ(c_t)" if cell.squash == "tanh" else "c_t"
    gates = ("i", "f", "a", "o")
    states = ("c_t", "c_{t−1}", "h_{t−1}", "h_t") if alike else ("c_t", "c_{t−1}")
    if cell.squash == "tanh":
        states = ("ψ(c_t)", "ψ(c_{t−1})", *states)
    values = (*gates, *states, "1", "1 − i", "1 − f", "1 − o")
    belongs = {"i": "a", "f": "c_{t−1}", "a": "i", "o": psi}
    own = {gate: operand for gate, operand in belongs.items() if gate in cell.gates}
    for gate, operand in own.items():
        yield from _replaced(f"δ{gate}", "operand", operand, values)
    yield from _replaced("δc_{t−1}", "f", "f", values)
    yield from _replaced("δc", "o", "o", values)
    deltas = ("δh", "δc of step t + 1", "δh ⊙ o ⊙ ψ′(c_t)")
    for gate in own:
        right = "δh" if gate == "o" else "δc"
        yield from _replaced(f"δ{gate}", "δ", right, (*deltas, "δc"))
    yield from _replaced("δc_{t−1}", "δ", "δc", deltas)


def _gru_operands(cell: GRU) -> Iterator[StepEdit]:
    plain = ("r", "z", "n", "h_{t−1}", "h_t", "1", "1 − r", "1 − z", "r ⊙ h_{t−1}")
    values = (*plain, "U_n h_{t−1}") if cell.reset_after else plain
    kept, new = ("z", "1 − z") if cell.keep == "z" else ("1 − z", "z")
    yield from _replaced("δz", "second operand", "n", ("0", "h_t", *values))
    yield from _replaced("δz", "first operand", "h_{t−1}", values)
    difference = "h_{t−1} − n" if cell.keep == "z" else "n − h_{t−1}"
    yield from _replaced("δz", "operand", difference, values)
    yield from _replaced("δn", "operand", new, values)
    yield from _replaced("δr", "operand", "U_n h_{t−1}" if cell.reset_after else "h_{t−1}", values)
    yield from _replaced("δh_{t−1} through n", "operand", "r", values)
    yield from _replaced("δh_{t−1}", "share kept", kept, values)
    if cell.reset_after:
        yield StepEdit("δU_n", "δ of n", "r ⊙ δ of n", "delta_u", lambda u, z: z)
    else:
        for words, operand in {
            "h_{t−1}": lambda tape, h: h,
            "z ⊙ h_{t−1}": lambda tape, h: tape.v[:, :, 1] * h,
            "r ⊙ h_t": lambda tape, h: tape.v[:, :, 0] * tape.h[1:],
            "h_t": lambda tape, h: tape.h[1:],
        }.items():
            edit: Intervention = lambda operands, tape, h, own=operand: {2: own(tape, h)}  # noqa: E731
            yield StepEdit("δU_n", words, "r ⊙ h_{t−1}", "candidate", edit)


def _slopes(model: Model) -> Iterator[StepEdit]:
    """φ′ of a gate, or of all gates with the same φ, written wrongly or taken from another gate."""
    gates, kinds = model.cell.gates, model.cell.activations
    for kind, forms in FORMS.items():
        own = tuple(k for k, one in enumerate(kinds) if one == kind)
        sets = [own, *((k,) for k in own)] if len(own) > 1 else [own]
        for chosen in sets if own else ():
            letter = gates[chosen[0]] if len(chosen) == 1 else "v"
            letter = "h_t" if gates == RNN.gates else letter
            of = " and ".join(f"δz of {gates[k]}" for k in chosen) if len(gates) > 1 else "δz"
            right = RIGHT[kind].format(v=letter)
            for words, form in forms.items():
                if len(chosen) == 1 < len(gates) and words in OPPOSITE:
                    continue  # the same as δ of the gate with the wrong sign
                slope = partial(_form, form)
                edit = slopes_replaced(chosen, kinds, slope)
                yield StepEdit(of, words.format(v=letter), right, "slopes", edit)
    for k, kind in enumerate(kinds):
        for j, other in enumerate(kinds):
            if j != k and kind in RIGHT and other in RIGHT:
                used, right = RIGHT[other].format(v=gates[j]), RIGHT[kind].format(v=gates[k])
                edit = partial(_other_slope, k, j)
                yield StepEdit(f"δz of {gates[k]}", used, right, "slopes", edit)


def _form(form: Form, v: Array, kind: str) -> Array:
    found: Array = form(v)
    return found


def _other_slope(k: int, j: int, slopes: Array, **_: Any) -> Array:
    wrong = slopes.copy()
    wrong[:, :, k] = slopes[:, :, j]
    return wrong


def _cell_slopes() -> Iterator[StepEdit]:
    right = "1 − tanh² c_t"
    for words, form in TANH_SLOPES.items():
        yield StepEdit(
            "δc", words.format(v="tanh c_t"), right, "cell_slope", partial(_of_cell, form, "m")
        )
    for words, of in {"1 − c_t²": "c", "1 − h_t²": "h"}.items():
        square = partial(_of_cell, TANH_SQUARE, of)
        yield StepEdit("δc", words, right, "cell_slope", square)


TANH_SQUARE: Form = lambda v: 1 - v * v  # noqa: E731


def _of_cell(form: Form, of: str, slope: Array, m: Array, tape: Any) -> Array:
    found: Array = form({"m": m, "c": tape.c[1:], "h": tape.m}[of])
    return found


def _handed_back(model: Model) -> Iterator[StepEdit]:
    """Uᵀ multiplies δ of the activated values, without φ′."""
    parts = ("δr", "δz") if isinstance(model.cell, GRU) else ("δ",)
    for part in parts if model.steps > 1 else ():
        gate = part.removeprefix("δ")
        of = f" of gate {gate}" if gate else ""
        edit = at_site("δh_{t−1}", part, partial(_taken, "plain"))
        yield StepEdit("δh_{t−1}", f"δ{of} without φ′", f"δz{of}", "quantity", edit)


def _terms(model: Model) -> Iterator[tuple[str, str, str, str]]:
    """(the site's names, what is computed, the term in words)."""
    cell = model.cell
    if isinstance(cell, LSTM):
        yield "δc", "term of δh", "δc", "δh ⊙ o ⊙ ψ′(c_t)"
        for gate in "ifao":
            if gate in cell.gates:
                yield f"δ{gate}", "term", f"gate {gate}", f"δ{gate}"
        if cell.coupled:
            yield "δi", "term of f = 1 − i", "δi", "the term of f = 1 − i"
    elif isinstance(cell, GRU):
        for gate in cell.gates:
            yield f"δ{gate}", "term", f"gate {gate}", f"δ{gate}"
        yield "δh_{t−1}", "share kept", "δh_{t−1}", "the direct path"
