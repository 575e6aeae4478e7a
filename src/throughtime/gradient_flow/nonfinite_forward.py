"""The way to the loss: every inner value of a layer's run, and what each was made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import GRU, LSTM, Cell, Tape, product
from throughtime.gradient_flow.nonfinite_places import Place, first_place
from throughtime.gradient_flow.nonfinite_result import NonFinite

Parts = dict[str, Array]  # "W x", "U h", "b", …, (T, B, G·H) in float64


def pre_activations(cell: Cell, p: Mapping[str, Array], tape: Tape) -> Parts:
    """What adds up to the pre-activations of every step, in float64.

    A number that overflows float32 is then still a number, and says which part is to blame.
    """
    q = {name: array.astype(np.float64) for name, array in p.items()}
    x = tape.inputs if tape.inputs.dtype.kind in "iu" else tape.inputs.astype(np.float64)
    h = tape.states["h"][:-1].astype(np.float64)
    parts = {"W x": product(q["W"], x), "U h": product(q["U"], h)}
    parts["b"] = np.broadcast_to(q["b"], parts["W x"].shape)
    n = slice(2 * cell.units, None)
    if isinstance(cell, GRU):
        r = tape.kept["r"].astype(np.float64)
        if cell.reset_after:
            parts["U h"][..., n] = r * (parts["U h"][..., n] + q["c"])
        else:
            parts["U h"][..., n] = product(q["U"][n], r * h)
    if isinstance(cell, LSTM) and cell.peepholes:
        c = tape.states["c"].astype(np.float64)
        p_i, p_f, p_o = np.split(q["p"], 3)
        zero = np.zeros_like(c[1:])
        parts["p c"] = np.concatenate([p_i * c[:-1], p_f * c[:-1], zero, p_o * c[1:]], axis=2)
    return parts


def first_in_cell(number: int, cell: Cell, p: Mapping[str, Array], tape: Tape) -> NonFinite | None:
    """The first value of a recurrent layer that is NaN or infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        parts = pre_activations(cell, p, tape)
        z = sum(parts.values(), np.float64(0))
        dtype = p["W"].dtype
        arrays = {"pre-activation": np.asarray(z).astype(dtype)}
    arrays |= {gate: tape.kept[gate] for gate in cell.gates}
    arrays |= {name: tape.states[name][1:] for name in ("c", "h") if name in tape.states}
    place = first_place({name: _within(tape, array) for name, array in arrays.items()})
    if place is None:
        return None
    gate, unit = "", place.unit
    value = float(arrays[place.name][place[1:]])
    if place.name == "pre-activation":
        gate, unit = cell.gates[unit // cell.units], unit % cell.units
        value = float(np.asarray(z)[place[1:]])
        sources = {name: float(part[place[1:]]) for name, part in parts.items()}
    else:
        sources = _sources(cell, place, arrays, tape, parts)
    return NonFinite(
        where=f"layer {number} ({type(cell).__name__})",
        quantity=f"gate {place.name}" if place.name in cell.gates else place.name,
        value=value,
        layer=number,
        gate=gate,
        step=place.step,
        sequence=place.sequence,
        unit=unit,
        sources=sources,
        dtype=str(dtype),
    )


def _sources(
    cell: Cell, place: Place, arrays: Mapping[str, Array], tape: Tape, parts: Parts
) -> dict[str, float]:
    """What a gate, c or h was made of."""
    at = place[1:]
    if place.name in cell.gates:  # its sum overflowed on the way, and is a number as a whole
        row = (*at[:2], cell.gates.index(place.name) * cell.units + place.unit)
        return {name: float(part[row]) for name, part in parts.items()}
    wanted = {state.name: state.gates for state in cell.state_specs}.get(place.name, "")
    found = {f"gate {gate}": float(tape.kept[gate][at]) for gate in wanted if gate in tape.kept}
    if place.name in tape.states:
        found[f"{place.name} before"] = float(tape.states[place.name][at])
    if place.name == "h" and "R" in cell.shapes():
        return {"largest |c|": float(np.abs(arrays["c"][at[:2]]).max())}
    return found


def _within(tape: Tape, array: Array) -> Array:
    """0 beyond a sequence's length, where nothing is kept."""
    return array if tape.active is None else np.where(tape.active, array, array.dtype.type(0))
