"""Which cells torch's weights belong to, and which layers one torch module can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from throughtime.arrays import Array, fits, refuse
from throughtime.cells import GRU, LSTM, RNN, Cell
from throughtime.network import Dropout, Network, Spec

Nonlinearity: TypeAlias = Literal["tanh", "relu"]


def cells(arrays: Mapping[str, Array], nonlinearity: Nonlinearity | None) -> list[Cell]:
    """One cell a layer, from the shapes of torch's weights."""
    found: list[Cell] = []
    while f"weight_ih_l{len(found)}" in arrays:
        found.append(_cell(arrays, len(found), nonlinearity))
    return found


def _cell(arrays: Mapping[str, Array], layer: int, nonlinearity: Nonlinearity | None) -> Cell:
    names = [f"weight_{kind}_l{layer}" for kind in ("ih", "hh", "hr")]
    if names[1] not in arrays:
        refuse("weights", f"a {names[1]} beside {names[0]}", "none")
    for name in names:
        if name in arrays:
            fits(name, arrays[name], ("rows", "columns"))
    rows, inputs = arrays[names[0]].shape
    projection, units = arrays[names[2]].shape if names[2] in arrays else (None, None)
    units = units or arrays[names[1]].shape[1]
    options: dict[str, Any] = {"bidirectional": f"{names[0]}_reverse" in arrays}
    if rows == 4 * units:
        return LSTM(inputs, units, projection=projection, **options)
    if rows == 3 * units and not projection:
        return GRU(inputs, units, **options)
    if rows == units and not projection:
        if nonlinearity is None:
            way_out = "give nonlinearity=…, since the weights do not tell"
            refuse("nonlinearity", "'tanh' or 'relu' of the RNN", None, way_out)
        return RNN(inputs, units, nonlinearity, **options)
    expected = (
        f"{4 * units} (LSTM)"
        if projection
        else f"{units} (RNN), {3 * units} (GRU) or {4 * units} (LSTM)"
    )
    refuse(f"{names[0]}: rows", f"{expected} for {units} units", rows)


def numbers(network: Network, layers: Iterable[int] | None) -> list[int]:
    """The chosen layers' numbers; all where none are chosen."""
    every = range(len(network.specs))
    chosen = list(every if layers is None else layers)
    for number in chosen:
        if number not in every:
            refuse("layers", f"numbers from 0 to {len(every) - 1}", repr(number))
    return chosen


def one_module(network: Network, layers: Iterable[int] | None) -> list[tuple[int, Cell]]:
    """The recurrent layers with their numbers, once it is sure that one module can hold them."""
    chosen = [(number, network.specs[number]) for number in numbers(network, layers)]
    for number, spec in chosen:
        if problem := _unsupported(spec):
            expected = "what torch.nn.RNN, LSTM or GRU can hold"
            way_out = "choose the layers that it can hold with layers=[…]"
            refuse(f"layer {number}", expected, problem, way_out)
    _same_dropout([spec for _, spec in chosen])
    found = [(number, spec) for number, spec in chosen if isinstance(spec, Cell)]
    for (_, before), (number, cell) in pairwise(found):
        wide = before.output_size * (1 + before.bidirectional)
        if _form(cell) != _form(before) or cell.inputs != wide:
            expected = f"the kind, size and options of {before} and {wide} inputs"
            refuse(f"layer {number}", expected, cell, "one torch module has equal layers")
    return found


def _unsupported(spec: Spec) -> str:
    """What torch's modules have no place for; empty where there is nothing."""
    if isinstance(spec, LSTM) and spec.peepholes:
        return "an LSTM with peepholes"
    if isinstance(spec, LSTM) and spec.projection and spec.projection >= spec.units:
        return f"a projection to {spec.projection} of {spec.units} units (torch: to fewer)"
    if isinstance(spec, GRU) and not spec.reset_after:
        return "the original GRU (reset_after=False)"
    if not isinstance(spec, Cell | Dropout):
        return f"a layer {type(spec).__name__}"
    return ""


def _same_dropout(specs: list[Spec]) -> None:
    """Refuses what is neither recurrent layers alone nor the same dropout between all of them."""
    alone = [isinstance(spec, Cell) for spec in specs]
    between = len(specs) % 2 == 1 and alone == [place % 2 == 0 for place in range(len(specs))]
    rates = {spec.rate for spec in specs if isinstance(spec, Dropout)}
    if not (specs and (all(alone) or between) and len(rates) <= 1):
        actual = ", ".join(map(repr, specs)) or "none"
        refuse("layers", "recurrent ones, with the same Dropout between all or none", actual)


def _form(cell: Cell) -> tuple[object, ...]:
    nonlinearity = getattr(cell, "nonlinearity", None)
    return type(cell), cell.units, cell.output_size, cell.bidirectional, nonlinearity
