"""The search: a run is made again, layer by layer, and looked at as it goes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from throughtime.arrays import Array, all_finite, step_counts
from throughtime.gradient_flow.nonfinite_backward import first_in_deltas, first_in_gradient
from throughtime.gradient_flow.nonfinite_forward import first_in_cell
from throughtime.gradient_flow.nonfinite_places import first_place, largest
from throughtime.gradient_flow.nonfinite_result import NonFinite
from throughtime.network import LayerTape, LossValue, Network, NetworkTape, Recurrent, RecurrentTape


class NonFiniteSearch:
    """Runs a network and keeps the first value that is NaN or infinite.

    Attributes:
        found: that value; None as long as there is none.
        tape, outputs: of the run, where it came to its end.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.dtype = network, str(network.dtype)
        self.found: NonFinite | None = None
        self.tape: NetworkTape | None = None
        self.outputs = np.zeros((0, 0, 0), network.dtype)

    def arrays(self, where: str, arrays: Mapping[str, Array]) -> None:
        """Looks at what is given: parameters, inputs, states."""
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
            if isinstance(layer, Recurrent):
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
        """Of Dense, Embedding and Dropout."""
        place = first_place({"output": outputs})
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
        """Looks at the terms of the steps from `first` on, and at their sum."""
        place = first_place({"loss": loss.terms[..., None]})
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
        """Differentiates, and looks at every step's derivatives and at their sums."""
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

    The run is made again, and everything is looked at in the order in which it is computed:
    parameters, inputs, each layer's pre-activations, gates, c and h, outputs, the terms of the
    loss, then the derivatives from the loss down and from the last step back, and their sums.

    Args:
        network, inputs, targets, state, lengths, dropout_seed: as in
            `Network.loss_and_gradient`; without targets the way back is left out.
        first: the first step whose loss counts.

    Returns:
        None where every number is finite.
    """
    search, x = NonFiniteSearch(network), np.asarray(inputs)
    search.arrays("parameters", network.parameters)
    search.arrays("inputs", {"inputs": x})
    search.arrays("state", {} if state is None else dict(state))
    if search.found is not None:
        return search.found
    counts = step_counts(lengths, *x.shape[:2])
    rng = None if dropout_seed is None else np.random.default_rng(dropout_seed)
    with np.errstate(all="ignore"):
        search.forward(x, state, counts, rng)
        if search.found is None and targets is not None:
            _way_back(search, np.asarray(targets), counts, first)
    return search.found


def _way_back(search: NonFiniteSearch, targets: Array, lengths: Array | None, first: int) -> None:
    search.arrays("targets", {"targets": targets})
    if search.found is not None:
        return
    loss = search.network.loss_of(search.outputs[first:], targets[first:], lengths)
    search.loss(loss, first)
    if search.found is None:
        none = np.zeros_like(search.outputs[:first])
        search.backward(np.concatenate([none, loss.doutputs]))
