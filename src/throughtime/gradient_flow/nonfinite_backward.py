"""The way back: derivatives of every step, and their sums."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from throughtime.arrays import Array, all_finite
from throughtime.gradient_flow.nonfinite_places import first_entry, largest
from throughtime.gradient_flow.nonfinite_result import NonFinite
from throughtime.network import Gradients, Network
from throughtime.parameters import Parameters

DELTAS = ("h", "c", "z")


def first_in_deltas(network: Network, found: Gradients, doutputs: Array) -> NonFinite | None:
    """From the loss down through the layers, in each from the last step to the first."""
    dtype = str(network.dtype)
    place = first_entry({"∂L/∂output": doutputs}, backward=True)
    if place is not None:
        return NonFinite(
            where="outputs",
            quantity="∂L/∂output",
            value=float(doutputs[place[1:]]),
            backward=True,
            step=place.step,
            sequence=place.sequence,
            unit=place.unit,
            dtype=dtype,
        )
    for number in reversed(range(len(network.layers))):
        own = found.deltas.get(number)
        if own is None:
            continue
        arrays = {name: own[name] for name in DELTAS if name in own}
        place = first_entry(arrays, backward=True)
        if place is not None:
            cell = getattr(network.layers[number], "cell", None)
            kind, gate, unit = type(network.specs[number]).__name__, "", place.unit
            if place.name == "z" and cell is not None:
                gate, unit = cell.gates[unit // cell.units], unit % cell.units
            return NonFinite(
                where=f"layer {number} ({kind})",
                quantity=f"δ{place.name}" if cell is not None else "δoutput",
                value=float(own[place.name][place[1:]]),
                backward=True,
                layer=number,
                gate=gate,
                step=place.step,
                sequence=place.sequence,
                unit=unit,
                sources=_sources_of_delta(network.of_layer(number), own, place.name, place.step),
                dtype=dtype,
            )
    return None


def _sources_of_delta(
    p: Mapping[str, Array], own: Mapping[str, Array], name: str, step: int
) -> dict[str, float]:
    """What a derivative was made of, as far as sizes tell."""
    found = {}
    if name == "z" and "h" in own:
        found = {
            f"largest |δ{part}|": largest(own[part][step]) for part in ("h", "c") if part in own
        }
    elif "z" in own and "U" in p and step + 1 < len(own["z"]):
        found = {f"largest |δz| at step {step + 1}": largest(own["z"][step + 1])}
        found["largest |U|"] = largest(p["U"])
    return found


def first_in_gradient(gradient: Parameters, found: Gradients) -> NonFinite | None:
    """Where sums over steps and sequences overflow, or the squares of their norm."""
    dtype = str(gradient.dtype)
    for name, array in gradient.items():
        if all_finite(array):
            continue
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        number = int(name.split(".")[0])
        own = found.deltas.get(number, {})
        return NonFinite(
            where="gradient",
            quantity="sum over all steps",
            value=float(array[place]),
            backward=True,
            layer=number,
            name=f"{name}{list(place)}",
            sources={"largest |δz|": largest(own["z"])} if "z" in own else {},
            dtype=dtype,
        )
    if np.isfinite(gradient.norm()):
        return None
    sources = {f"largest |{name}|": largest(array) for name, array in gradient.items()}
    worst = dict(sorted(sources.items(), key=lambda item: -item[1])[:1])
    return NonFinite("gradient", "norm", np.inf, True, sources=worst, dtype=dtype)
