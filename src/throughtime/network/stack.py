"""Layers that feed one another: `forward` returns a tape, which `backward` consumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias, cast

import numpy as np

from throughtime.arrays import (
    Array,
    all_finite,
    finite,
    generator,
    matches,
    precision,
    refuse,
    same_names,
    step_counts,
)
from throughtime.cells import CELLS, Cell, Tape
from throughtime.network.bfloat16 import checked_products, in_bfloat16
from throughtime.network.data import Gradients, NetworkTape, checked_inputs, checked_state
from throughtime.network.layers import Dense, Dropout, Embedding, InputTape, Layer, LayerTape
from throughtime.network.recurrent import RecurrentLayer, RecurrentTape
from throughtime.parameters import Parameters

Spec: TypeAlias = Cell | Layer  # an entry of the list of layers that a user gives

KINDS: dict[str, Callable[..., Spec]] = {
    **CELLS,
    **{kind.__name__: kind for kind in (Dense, Embedding, Dropout)},
}


def as_layer(number: int, spec: object) -> Layer:
    """The layer for the user's specification at position `number`."""
    if isinstance(spec, Cell):
        return RecurrentLayer(spec)
    if isinstance(spec, Layer):
        return spec
    refuse(f"layer {number}", "one of " + ", ".join(KINDS), repr(spec), error=TypeError)


def describe(spec: Spec) -> dict[str, object]:
    """A layer as plain data, for a file."""
    if type(spec).__name__ not in KINDS:
        way_out = "save `parameters`, and load them into a network that is built in the same way"
        refuse("layer", "one that a file can describe", repr(spec), way_out, error=TypeError)
    return {"kind": type(spec).__name__, **asdict(cast(Any, spec))}


def build(description: Mapping[str, object]) -> Spec:
    """The layer that `describe` described."""
    options = dict(description)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        refuse("layer kind", "one of " + ", ".join(KINDS), repr(kind))
    try:
        return KINDS[str(kind)](**options)
    except TypeError as problem:
        refuse(f"layer {kind}", "its own options", problem)


class LayerStack:
    """What a `Network` is without its loss: layers, parameters, and both passes.

    Attributes:
        specs: the layers as the user specified them.
        layers: the layers that run.
        inputs, outputs: the numbers of input and output features.
        products: "bfloat16" where products of matrices are in that, or "float32".
        parameters: writable views by name over one vector.
    """

    def __init__(
        self, layers: Sequence[Spec], dtype: object, seed: int, products: str = "float32"
    ) -> None:
        if isinstance(layers, Cell | Layer):
            refuse("layers", "a list of layers", repr(layers), "put it into one", error=TypeError)
        if not layers:
            refuse("layers", "at least one layer", "none")
        self.specs: tuple[Spec, ...] = tuple(layers)
        self.layers: tuple[Layer, ...] = tuple(as_layer(i, s) for i, s in enumerate(layers))
        if checked_products(products, precision(dtype)):
            self.layers = tuple(in_bfloat16(i, layer) for i, layer in enumerate(self.layers))
        self.products = products
        self.inputs, self.outputs = _chain(self.layers)
        self._parameter_names = _names([layer.shapes() for layer in self.layers])
        self._state_names = _names([layer.state_sizes() for layer in self.layers])
        shapes = {
            full: layer.shapes()[name]
            for names, layer in zip(self._parameter_names, self.layers, strict=True)
            for name, full in names.items()
        }
        self.parameters = Parameters(shapes, precision(dtype))
        self._zero_states: dict[int, Parameters] = {}
        rng = generator("seed", seed)
        for number, layer in enumerate(self.layers):
            layer.initialise(self.of_layer(number), rng)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.parameters.dtype

    @property
    def recurrent(self) -> dict[int, RecurrentLayer]:
        """The recurrent layers by number."""
        return {i: x for i, x in enumerate(self.layers) if isinstance(x, RecurrentLayer)}

    @property
    def bidirectional(self) -> bool:
        """Whether some layer also runs backwards: then a run cannot go on from another's end."""
        return any(layer.cell.bidirectional for layer in self.recurrent.values())

    def of_layer(self, number: int) -> dict[str, Array]:
        """The parameters of one layer, by their names within it."""
        return _of_layer(self.parameters, self._parameter_names[number])

    def forward(
        self,
        inputs: Array,
        state: Mapping[str, Array] | None = None,
        lengths: Array | None = None,
        *,
        dropout_seed: int | np.random.Generator | None = None,
    ) -> tuple[Array, Parameters, NetworkTape]:
        """Runs all steps.

        Args:
            inputs: (T, B, I) in the network's dtype, or class indices (T, B).
            state: initial state by name (`zero_state` has the names); zeros if not given.
            lengths: (B,) steps of each sequence, from 1 to T. Beyond them the outputs of
                recurrent layers are 0 and their states do not change.
            dropout_seed: a seed or a generator for the dropout masks; nothing is dropped if it
                is not given.

        Returns:
            outputs (T, B, K), the final state, and the tape for `backward`.
        """
        x = checked_inputs(self.layers[0], self.inputs, self.dtype, inputs)
        steps, batch = x.shape[:2]
        lengths = step_counts(lengths, steps, batch)
        initial = None if state is None else checked_state(state, self.zero_state(batch))
        self.check_parameters()
        rng = _dropout_rng(dropout_seed)
        return self.forward_unchecked(x, initial, lengths, rng)

    def check_parameters(self) -> None:
        """Refuses NaN and infinity in the parameters, by name."""
        if all_finite(self.parameters.flat):
            return
        for name, array in self.parameters.items():
            finite(f"parameters[{name!r}]", array)

    def forward_unchecked(
        self,
        x: Array,
        initial: Parameters | None,
        lengths: Array | None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, Parameters, NetworkTape]:
        """`forward`, whose arguments the caller must validate; lengths may be 0 here."""
        tapes: list[LayerTape] = []
        final: list[Array] = []
        batch = x.shape[1]
        for number, layer in enumerate(self.layers):
            own = None if initial is None else _of_layer(initial, self._state_names[number])
            x, end, tape = layer.forward(self.of_layer(number), x, own, lengths, rng)
            final += end.values()  # in the order of the state's names
            tapes.append(tape)
        return x, self._state_of(batch, final), NetworkTape(tuple(tapes))

    def backward(
        self,
        tape: NetworkTape,
        doutputs: Array,
        dstate: Mapping[str, Array] | None = None,
        *,
        need_inputs: bool = True,
        need_deltas: bool = True,
        gradient: Parameters | None = None,
    ) -> Gradients:
        """Backpropagation through time, over all steps of the tape.

        Args:
            tape: from `forward`, or some steps of it; the parameters must be those of that run.
            doutputs: ∂L/∂outputs, (T, B, K).
            dstate: ∂L/∂(final state), with the state's names; 0 if not given.
            need_inputs: whether ∂L/∂inputs is wanted.
            need_deltas: whether the gradients of every step's inner values are wanted.
            gradient: to which the parameters' gradient is added; zeros if not given.
        """
        steps, batch = _extent(tape)
        matches("doutputs", doutputs, self.dtype, (steps, batch, self.outputs))
        if gradient is None:
            gradient = self.parameters.zeros_like()
        deltas = {}
        if dstate is not None:
            zero = self.zero_state(batch)
            same_names("dstate", dstate, zero)
            for name, array in dstate.items():
                matches(f"dstate[{name!r}]", array, self.dtype, zero.shapes[name])
        dinitial: list[Array] = []
        dx: Array | None = doutputs
        for number in reversed(range(len(self.layers))):
            layer = self.layers[number]
            p = self.of_layer(number)
            dend = None if dstate is None else _of_layer(dstate, self._state_names[number])
            assert dx is not None  # only the first layer takes class indices
            wanted = need_inputs or number > 0
            own = _of_layer(gradient, self._parameter_names[number])
            found = layer.backward(p, tape.layers[number], dx, dend, wanted, need_deltas, own)
            dinitial[:0] = found.state.values()
            if found.deltas:
                deltas[number] = found.deltas
            dx = found.inputs
        return Gradients(gradient, dx, self._state_of(batch, dinitial), deltas)

    def state_after(self, tape: NetworkTape, steps: int) -> Parameters:
        """The state after the first `steps` steps of a run; not for bidirectional networks."""
        parts: list[Array] = []
        for number, layer in self.recurrent.items():
            own = tape.layers[number]
            assert isinstance(own, RecurrentTape)
            parts += layer.state_after(own, steps).values()
        return self._state_of(_extent(tape)[1], parts)

    def zero_state(self, batch: int) -> Parameters:
        """The initial state of B sequences, all zeros; every state has its names."""
        return self._zero_state(batch).copy()

    def _state_of(self, batch: int, parts: list[Array]) -> Parameters:
        """A state from its parts, in the order of its names."""
        zero = self._zero_state(batch)
        return zero.like(np.concatenate([part.ravel() for part in parts])) if parts else zero

    def _zero_state(self, batch: int) -> Parameters:
        if batch not in self._zero_states:
            shapes = {
                f"{number}.{name}": (batch, size)
                for number, layer in enumerate(self.layers)
                for name, size in layer.state_sizes().items()
            }
            self._zero_states = {batch: Parameters(shapes, self.dtype)}  # the last one asked for
        return self._zero_states[batch]


def _dropout_rng(seed: object) -> np.random.Generator | None:
    if seed is None or isinstance(seed, np.random.Generator):
        return seed
    return generator("dropout_seed", seed)


def _names(layers: Sequence[Mapping[str, object]]) -> list[dict[str, str]]:
    """For each layer, its own names and the network's: "U" and "0.U"."""
    return [{name: f"{number}.{name}" for name in own} for number, own in enumerate(layers)]


def _of_layer(arrays: Mapping[str, Array], names: Mapping[str, str]) -> dict[str, Array]:
    return {name: arrays[full] for name, full in names.items()}


def _extent(tape: NetworkTape) -> tuple[int, int]:
    """T and B of the run, or of the part of it."""
    first = tape.layers[0]
    own = first.directions[0] if isinstance(first, RecurrentTape) else first
    assert isinstance(own, Tape | InputTape)  # dropout is never the first layer
    return own.inputs.shape[0], own.inputs.shape[1]


def _chain(layers: Sequence[Layer]) -> tuple[int, int]:
    """Number of input and of output features; refuses layers that do not fit together."""
    first = layers[0].input_size()
    if first is None:
        refuse("layer 0", "a layer that fixes the number of inputs", type(layers[0]).__name__)
    size = layers[0].output_size(first)
    for number, layer in enumerate(layers[1:], start=1):
        wanted = layer.input_size()
        if not layer.takes_numbers():
            refuse(f"layer {number}", "a layer that takes numbers", type(layer).__name__)
        if wanted not in (None, size):
            refuse(f"layer {number}: inputs", f"{size}, the outputs of layer {number - 1}", wanted)
        size = layer.output_size(size)
    return first, size
