"""The first value of a run that is NaN or infinite, and what it was made of.

The run is made again, layer by layer, and searched in the order in which it is computed: first the
way to the loss, with every inner value of a layer; then the way back, with the derivatives of every
step and their sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array, all_finite, step_counts
from throughtime.cells import Cell, Tape
from throughtime.gradient_flow.step_values import (
    Parts,
    delta_name,
    first_step_value,
    pre_activations,
)
from throughtime.network import (
    Gradients,
    LayerTape,
    LossValue,
    Network,
    NetworkTape,
    RecurrentLayer,
    RecurrentTape,
)
from throughtime.parameters import Parameters


@dataclass(frozen=True)
class NonFinite:
    """The first value of a run that is NaN or infinite, in the order in which it is computed.

    Attributes:
        where: "parameters", "inputs", "layer 1 (LSTM)", "outputs", "loss", "gradient", …
        quantity: what it is: "pre-activation", "gate f", "c", "h", "output", "δc", …
        value: nan or ±inf; for a float32 pre-activation the number that no float32 can hold.
        backward: whether it is on the way back, everything on the way to the loss being finite.
        layer: its number, or None.
        gate: its letter, or "".
        step, sequence, unit: from 0; None if it belongs to none.
        name: of a parameter, or "".
        sources: what the value was computed from, by name.
        dtype: of the run.
        line: file, line and source of what computes it, of a cell whose equations alone are known.
    """

    where: str
    quantity: str
    value: float
    backward: bool = False
    layer: int | None = None
    gate: str = ""
    step: int | None = None
    sequence: int | None = None
    unit: int | None = None
    name: str = ""
    sources: Mapping[str, float] = field(default_factory=dict)
    dtype: str = "float32"
    line: str = ""

    def __str__(self) -> str:
        """One line, such as "layer 1 (LSTM), step 17, sequence 3, gate f, unit 5: pre-activation
        8.1e+38, beyond float32, from W x = 8.1e+38, U h = 0.25, b = 1"."""
        way_back = "on the way back: " * self.backward
        line = f"{way_back}{self.place}: {self.quantity} {_three_digits(self.value)}"
        if math.isfinite(self.value):
            line += f", beyond {self.dtype}"
        if self.sources:
            sources = (f"{n} = {_three_digits(v)}" for n, v in self.sources.items())
            line += ", from " + ", ".join(sources)
        return line + f" ({self.line})" * bool(self.line)

    @property
    def place(self) -> str:
        """The place in words."""
        parts = [self.where]
        for what in ("step", "sequence"):
            if getattr(self, what) is not None:
                parts.append(f"{what} {getattr(self, what)}")
        if self.gate:
            parts.append(f"gate {self.gate}")
        if self.unit is not None:
            parts.append(f"unit {self.unit}")
        if self.name:
            parts.append(self.name)
        return ", ".join(parts)


class DivergedError(ValueError):
    """Raised while training, if the loss, the gradient or a parameter is no longer finite.

    Attributes:
        update: the number of the update.
        finding: the first value that is NaN or infinite, and what it was computed from; None if it
            was not found again, for instance since it is in the streams of another process.
    """

    def __init__(self, message: str, update: int = 0, finding: NonFinite | None = None) -> None:
        super().__init__(message)
        self.update, self.finding = update, finding


def _three_digits(value: float) -> str:
    """The number with three digits.

    Example:
        >>> _three_digits(8.1e38), _three_digits(float("nan")), _three_digits(2.0)
        ('8.1e+38', 'nan', '2')
    """
    return f"{value:.3g}"


class Entry(NamedTuple):
    """An entry of one of several arrays (T, B, ·)."""

    name: str
    step: int
    sequence: int
    unit: int


def first_entry(arrays: Mapping[str, Array], *, backward: bool = False) -> Entry | None:
    """The first entry that is NaN or infinite: by step, and within a step by array.

    Args:
        arrays: by name, (T, B, ·), in the order in which a step computes them.
        backward: whether the last step is the first one to be computed.

    Example:
        >>> import numpy as np
        >>> z, c = np.zeros((3, 1, 2)), np.zeros((3, 1, 2))
        >>> z[2], c[1, 0, 1] = np.inf, np.nan
        >>> first_entry({"z": z, "c": c})
        Entry(name='c', step=1, sequence=0, unit=1)
    """
    found = []
    for name, array in arrays.items():
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            order = -wrong[:, 0] if backward else wrong[:, 0]
            found.append(Entry(name, *map(int, wrong[order.argmin()])))
    return min(found, key=lambda one: -one.step if backward else one.step, default=None)


def largest(array: Array) -> float:
    """max |·| over all that is not NaN."""
    size = np.abs(array[~np.isnan(array)])
    return float(size.max()) if size.size else float("nan")


def first_in_cell(number: int, cell: Cell, p: Mapping[str, Array], tape: Tape) -> NonFinite | None:
    """The first value of a recurrent layer that is NaN or infinite."""
    if not cell.gates:
        return _first_in_equations(number, cell, p, tape)
    with np.errstate(over="ignore", invalid="ignore"):
        parts = pre_activations(cell, p, tape)
        z = sum(parts.values(), np.float64(0))
        dtype = p["W"].dtype
        arrays = {"pre-activation": np.asarray(z).astype(dtype)}
    arrays |= {gate: tape.kept[gate] for gate in cell.gates}
    arrays |= {name: tape.states[name][1:] for name in ("c", "h") if name in tape.states}
    place = first_entry({name: _within(tape, array) for name, array in arrays.items()})
    if place is None:
        return None
    gate, unit = "", place.unit
    value = float(arrays[place.name][place[1:]])
    if place.name == "pre-activation":
        gate, unit = cell.gates[unit // cell.units], unit % cell.units
        value = float(np.asarray(z)[place[1:]])
        sources = {name: float(part[place[1:]]) for name, part in parts.items()}
    else:
        sources = _sources_of_value(cell, place, arrays, tape, parts)
    return NonFinite(
        where=f"layer {number} ({cell.title})",
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


def _first_in_equations(
    number: int, cell: Cell, p: Mapping[str, Array], tape: Tape
) -> NonFinite | None:
    """Of a cell without gates: by the name and the line of its equations."""
    found = first_step_value(cell, p, tape)
    if found is None:
        return None
    return NonFinite(
        where=f"layer {number} ({cell.title})",
        quantity=found.name,
        value=found.value,
        layer=number,
        step=found.step,
        sequence=found.sequence,
        unit=found.unit,
        sources=found.sources,
        dtype=str(tape.states["h"].dtype),
        line=found.line,
    )


def _sources_of_value(
    cell: Cell, place: Entry, arrays: Mapping[str, Array], tape: Tape, parts: Parts
) -> dict[str, float]:
    """What a gate, c or h was computed from."""
    at = place[1:]
    if place.name in cell.gates:  # a partial sum overflowed, although the whole sum would not
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
    """The array with zeros beyond each sequence's length, where nothing is kept."""
    return array if tape.active is None else np.where(tape.active, array, array.dtype.type(0))


def first_in_deltas(network: Network, found: Gradients, doutputs: Array) -> NonFinite | None:
    """The first derivative that is NaN or infinite.

    The order is from the loss down through the layers, and in each from the last step to the first.
    """
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
        arrays = {name: own[name] for name in sorted(own, key=lambda name: name == "z")}
        place = first_entry(arrays, backward=True)
        if place is not None:
            cell = getattr(network.layers[number], "cell", None)
            kind = type(network.specs[number]).__name__ if cell is None else cell.title
            gate, unit = "", place.unit
            name = f"δ{place.name}"
            if place.name == "z" and cell is not None and cell.gates:
                gate, unit = cell.gates[unit // cell.units], unit % cell.units
            elif place.name == "z" and cell is not None:
                name, unit = delta_name(cell, unit)
            return NonFinite(
                where=f"layer {number} ({kind})",
                quantity=name if cell is not None else "δoutput",
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
    """What a derivative was computed from, as far as sizes tell."""
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
    """The first sum over steps and sequences that overflows, or their norm if that does."""
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


class NonFiniteSearch:
    """Runs a network and keeps the first value that is NaN or infinite.

    Attributes:
        found: that value; None if there is none so far.
        tape, outputs: of the run, once it has been completed.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.dtype = network, str(network.dtype)
        self.found: NonFinite | None = None
        self.tape: NetworkTape | None = None
        self.outputs = np.zeros((0, 0, 0), network.dtype)

    def arrays(self, where: str, arrays: Mapping[str, Array]) -> None:
        """Searches what the run is given: parameters, inputs, states."""
        for name, array in arrays.items():
            if self.found is None and array.dtype.kind == "f" and not all_finite(array):
                place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                title = f"{name}{list(place)}"
                self.found = NonFinite(
                    where, "value", float(array[place]), name=title, dtype=self.dtype
                )

    def forward(
        self,
        x: Array,
        state: Mapping[str, Array] | None,
        lengths: Array | None,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Runs the layers, one after another, until something is found."""
        tapes: list[LayerTape] = []
        initial = state or self.network.zero_state(x.shape[1])
        for number, layer in enumerate(self.network.layers):
            p = self.network.of_layer(number)
            own = {name: initial[f"{number}.{name}"] for name in layer.state_sizes()}
            before = x
            x, _, tape = layer.forward(p, x, own, lengths, rng)
            tapes.append(tape)
            if isinstance(layer, RecurrentLayer):
                assert isinstance(tape, RecurrentTape)
                for prefix, one in zip(layer.prefixes, tape.directions, strict=True):
                    named = {name: p[prefix + name] for name in layer.cell.shapes()}
                    self.found = self.found or first_in_cell(number, layer.cell, named, one)
            if self.found is None:
                self._layer_output(number, p, before, x)
            if self.found is not None:
                return
        self.tape, self.outputs = NetworkTape(tuple(tapes)), x

    def _layer_output(
        self, number: int, p: Mapping[str, Array], inputs: Array, outputs: Array
    ) -> None:
        """Searches the output of Dense, Embedding and Dropout."""
        place = first_entry({"output": outputs})
        if place is None:
            return
        sources = {f"largest |{name}|": largest(array) for name, array in p.items()}
        if inputs.dtype.kind == "f":
            sources["largest |input|"] = largest(inputs[place.step, place.sequence])
        self.found = NonFinite(
            where=f"layer {number} ({type(self.network.specs[number]).__name__})",
            quantity="output",
            value=float(outputs[place[1:]]),
            layer=number,
            step=place.step,
            sequence=place.sequence,
            unit=place.unit,
            sources=sources,
            dtype=self.dtype,
        )

    def loss(self, loss: LossValue, first: int = 0) -> None:
        """Searches the terms of the steps from `first` on, and their sum."""
        place = first_entry({"loss": loss.terms[..., None]})
        if place is None and np.isfinite(loss.value):
            return
        if place is None:
            value, sources = loss.value, {"largest |term|": largest(loss.terms)}
            self.found = NonFinite("loss", "sum", value, sources=sources, dtype=self.dtype)
            return
        step, sequence = place.step + first, place.sequence
        self.found = NonFinite(
            where="loss",
            quantity="term",
            value=float(loss.terms[place.step, sequence]),
            step=step,
            sequence=sequence,
            sources={"largest |output|": largest(self.outputs[step, sequence])},
            dtype=self.dtype,
        )

    def backward(self, doutputs: Array, dstate: Mapping[str, Array] | None = None) -> None:
        """Differentiates, and searches every step's derivatives and their sums."""
        assert self.tape is not None
        found = self.network.backward(self.tape, doutputs, dstate, need_inputs=False)
        self.found = first_in_deltas(self.network, found, doutputs)
        self.found = self.found or first_in_gradient(found.parameters, found)


def first_in_network(
    network: Network,
    inputs: Array,
    targets: Array | None = None,
    *,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    dropout_seed: int | np.random.Generator | None = None,
    first: int = 0,
) -> NonFinite | None:
    """The first value of a network's run, forward and backward, that is NaN or infinite.

    The run is made again, and everything is searched in the order in which it is computed:
    parameters, inputs, each layer's pre-activations, gates, c and h, outputs, the terms of the
    loss, then the derivatives from the loss down and from the last step back, and their sums.

    Args:
        network, inputs, targets, state, lengths, dropout_seed: as in
            `Network.loss_and_gradient`; without targets there is no way back.
        first: the first step whose loss counts.

    Returns:
        None if every number is finite.
    """
    turned = network.batch_first
    network = network.viewed(batch_first=False)
    search, x = NonFiniteSearch(network), np.asarray(inputs)
    search.arrays("parameters", network.parameters)
    search.arrays("inputs", {"inputs": x})
    search.arrays("state", {} if state is None else dict(state))
    if search.found is not None:
        return search.found
    x = np.swapaxes(x, 0, 1) if turned and x.ndim > 1 else x
    counts = step_counts(lengths, *x.shape[:2])
    rng = None if dropout_seed is None else np.random.default_rng(dropout_seed)
    with np.errstate(all="ignore"):
        search.forward(x, state, counts, rng)
        if search.found is None and targets is not None:
            y = np.asarray(targets)
            search.arrays("targets", {"targets": y})
            if search.found is None:
                y = np.swapaxes(y, 0, 1) if turned and y.ndim > 1 else y
                _way_back(search, y, counts, first)
    return search.found


def _way_back(search: NonFiniteSearch, targets: Array, lengths: Array | None, first: int) -> None:
    loss = search.network.loss_of(search.outputs[first:], targets[first:], lengths)
    search.loss(loss, first)
    if search.found is None:
        none = np.zeros_like(search.outputs[:first])
        search.backward(np.concatenate([none, loss.doutputs]))
