"""Layers, head and loss, stacked: `forward` gives outputs and a tape, `backward` eats the tape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from typing import Any

import numpy as np

from throughtime import storage
from throughtime.arrays import (
    Array,
    all_finite,
    finite,
    floats,
    generator,
    matches,
    precision,
    refuse,
    same_names,
    step_counts,
)
from throughtime.cells import Cell, Tape
from throughtime.network.checkpointing import loss_and_gradient_within
from throughtime.network.data import checked_inputs, checked_state
from throughtime.network.dense import InputTape
from throughtime.network.layers import Layer, LayerTape
from throughtime.network.losses import LOSSES, Loss, LossValue
from throughtime.network.recurrent import Recurrent, RecurrentTape
from throughtime.network.results import Gradients, NetworkTape, Run
from throughtime.network.stack import Spec, as_layer, build, describe
from throughtime.parameters import Parameters


class Network:
    """Layers that feed one another, and a loss at the end.

    Args:
        layers: RNN, LSTM, GRU, Dense, Embedding and Dropout, in the order of the data.
        loss: MeanSquaredError, SoftmaxCrossEntropy or BinaryCrossEntropy; may be left out
            where only outputs are wanted.
        dtype: "float32" or "float64", of parameters, inputs, states and results alike.
        seed: of the initialisation.

    Attributes:
        parameters: writable views by name over one vector; `"0.W"` is W of layer 0, `"0.1.W"`
            that of its second direction.

    Raises:
        ValueError, TypeError: where layers do not fit together or an option is wrong.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> layers = [tt.LSTM(5, 5), tt.Dense(5, 5)]
        >>> net = tt.Network(layers, loss=tt.SoftmaxCrossEntropy(time="mean"), seed=0)
        >>> inputs = np.random.default_rng(0).standard_normal((39, 1, 5), dtype=np.float32)
        >>> targets = np.arange(39)[:, None] % 5
        >>> loss, gradient = net.loss_and_gradient(inputs, targets)
        >>> gradient["0.U"].shape
        (20, 5)
        >>> net.run(inputs).cells[0].shape
        (39, 1, 5)
    """

    def __init__(
        self,
        layers: Sequence[Spec],
        loss: Loss | None = None,
        *,
        dtype: object = "float32",
        seed: int = 0,
    ) -> None:
        if isinstance(layers, Cell | Layer):
            refuse("layers", "a list of layers", repr(layers), "put it into one", error=TypeError)
        if not layers:
            refuse("layers", "at least one layer", "none")
        if loss is not None and not isinstance(loss, Loss):
            way_out = f"call it: {loss.__name__}()" if isinstance(loss, type) else ""
            refuse("loss", "one of " + ", ".join(LOSSES), repr(loss), way_out, error=TypeError)
        self.specs: tuple[Spec, ...] = tuple(layers)
        self.loss = loss
        self.layers: tuple[Layer, ...] = tuple(as_layer(i, s) for i, s in enumerate(layers))
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
    def recurrent(self) -> dict[int, Recurrent]:
        """The recurrent layers by number."""
        return {i: x for i, x in enumerate(self.layers) if isinstance(x, Recurrent)}

    @property
    def bidirectional(self) -> bool:
        """Whether some layer also runs backwards: then a run cannot go on from another's end."""
        return any(layer.cell.bidirectional for layer in self.recurrent.values())

    def __repr__(self) -> str:
        inside = ", ".join(repr(spec) for spec in self.specs)
        return f"Network([{inside}], loss={self.loss!r}, dtype={str(self.dtype)!r})"

    def of_layer(self, number: int) -> dict[str, Array]:
        """The parameters of one layer, by their names within it."""
        return _of_layer(self.parameters, self._parameter_names[number])

    # --- forward and backward ---

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
            state: initial state by name (`zero_state` shows the names); zeros without it.
            lengths: (B,) steps of each sequence, from 1 to T. Beyond them recurrent layers give
                0 and stand still.
            dropout_seed: draws the dropout masks, by itself or as a generator; without it
                nothing is dropped.

        Returns:
            outputs (T, B, K), the final state, and the tape for `backward`.
        """
        x = checked_inputs(self.layers[0], self.inputs, self.dtype, inputs)
        steps, batch = x.shape[:2]
        lengths = step_counts(lengths, steps, batch)
        initial = None if state is None else checked_state(state, self.zero_state(batch))
        self.check_parameters()
        rng = _dropout_rng(dropout_seed)
        return self.walk(x, initial, lengths, rng)

    def check_parameters(self) -> None:
        """Refuses NaN and infinity in the parameters, by name."""
        if all_finite(self.parameters.flat):
            return
        for name, array in self.parameters.items():
            finite(f"parameters[{name!r}]", array)

    def walk(
        self,
        x: Array,
        initial: Parameters | None,
        lengths: Array | None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, Parameters, NetworkTape]:
        """`forward`, of what is known to fit; lengths may be 0 here."""
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
            tape: from `forward`, or a stretch of it; the parameters must be those of that run.
            doutputs: ∂L/∂outputs, (T, B, K).
            dstate: ∂L/∂(final state), in the state's form; 0 without it.
            need_inputs: whether ∂L/∂inputs is wanted.
            need_deltas: whether the gradients of every step's inner values are wanted.
            gradient: what the parameters' gradient is added to; zeros without it.
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

    # --- what a user calls ---

    def run(
        self,
        inputs: Array,
        state: Mapping[str, Array] | None = None,
        lengths: Array | None = None,
        *,
        dropout_seed: int | None = None,
    ) -> Run:
        """A forward pass with its inside open; arguments as in `forward`."""
        outputs, final, tape = self.forward(inputs, state, lengths, dropout_seed=dropout_seed)
        hidden, cells, gates = {}, {}, {}
        for number, layer in self.recurrent.items():
            own = tape.layers[number]
            assert isinstance(own, RecurrentTape)
            hidden[number] = layer.states(own, "h")
            if "c" in layer.cell.state_sizes:
                cells[number] = layer.states(own, "c")
            gates[number] = layer.kept(own)
        return Run(outputs, hidden, cells, gates, final)

    def evaluate(
        self,
        inputs: Array,
        targets: Array,
        *,
        state: Mapping[str, Array] | None = None,
        lengths: Array | None = None,
        dropout_seed: int | None = None,
    ) -> LossValue:
        """The loss and its terms; arguments as in `forward`, targets as the loss wants them."""
        outputs, _, _ = self.forward(inputs, state, lengths, dropout_seed=dropout_seed)
        return self.loss_of(outputs, targets, lengths)

    def loss_and_gradient(
        self,
        inputs: Array,
        targets: Array,
        *,
        state: Mapping[str, Array] | None = None,
        lengths: Array | None = None,
        dropout_seed: int | None = None,
        memory_limit: int | str | None = None,
    ) -> tuple[float, Parameters]:
        """The loss and its gradient by exact backpropagation through all T steps.

        Arguments as in `forward`, targets as the loss wants them. The gradient has the names
        and shapes of `parameters`.

        Args:
            memory_limit: bytes, or text such as "64MB", for what the backward pass needs of the
                forward pass. Where all of it does not fit, states are kept at intervals and the
                rest is computed again (Gruslys et al. 2016, in its simplest form), which costs
                one more forward pass and gives the same bits.

        Raises:
            ValueError: where `memory_limit` is too small, naming the smallest that works; or
                together with dropout or with a bidirectional network.
        """
        if memory_limit is not None:
            given = (inputs, targets, state, lengths, dropout_seed)
            return loss_and_gradient_within(self, memory_limit, *given)
        outputs, _, tape = self.forward(inputs, state, lengths, dropout_seed=dropout_seed)
        loss = self.loss_of(outputs, targets, lengths)
        found = self.backward(tape, loss.doutputs, need_inputs=False, need_deltas=False)
        return loss.value, found.parameters

    def gradients(
        self,
        inputs: Array,
        targets: Array,
        *,
        state: Mapping[str, Array] | None = None,
        lengths: Array | None = None,
        dropout_seed: int | None = None,
    ) -> Gradients:
        """The loss, and its gradients with respect to parameters, inputs, initial state and
        every inner state; arguments as in `loss_and_gradient`."""
        outputs, _, tape = self.forward(inputs, state, lengths, dropout_seed=dropout_seed)
        loss = self.loss_of(outputs, targets, lengths)
        found = self.backward(tape, loss.doutputs)
        return Gradients(found.parameters, found.inputs, found.state, found.deltas, loss)

    def loss_of(self, outputs: Array, targets: object, lengths: Array | None = None) -> LossValue:
        """The loss of given outputs (T, B, K)."""
        if self.loss is None:
            refuse("loss", "a loss", "none", "build the network with loss=…")
        steps, batch = outputs.shape[:2]
        weights = self.loss.weights(steps, batch, step_counts(lengths, steps, batch))
        return self.loss.evaluate(outputs, self.loss.check_targets(targets, outputs), weights)

    def state_after(self, tape: NetworkTape, steps: int) -> Parameters:
        """The carried state after the first `steps` steps of a run; not for bidirectional ones."""
        parts: list[Array] = []
        for number, layer in self.recurrent.items():
            own = tape.layers[number]
            assert isinstance(own, RecurrentTape)
            parts += layer.state_after(own, steps).values()
        return self._state_of(_extent(tape)[1], parts)

    def zero_state(self, batch: int) -> Parameters:
        """The state of B sequences that have not begun; its names are those of every state."""
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

    # --- copies and files ---

    def copy(self) -> Network:
        """The same layers and numbers in memory of their own."""
        return self.astype(self.dtype)

    def astype(self, dtype: object) -> Network:
        """A copy in float32 or float64."""
        twin = Network(self.specs, self.loss, dtype=dtype)
        twin.parameters.flat[...] = self.parameters.flat
        return twin

    def describe(self) -> str:
        """Layers, loss and dtype as JSON, from which `from_description` builds the same network."""
        loss = self.loss and {"kind": type(self.loss).__name__, **asdict(self.loss)}
        layers = [describe(spec) for spec in self.specs]
        return json.dumps({"layers": layers, "loss": loss, "dtype": str(self.dtype)})

    @classmethod
    def from_description(cls, description: str) -> Network:
        """A network with the layers, loss and dtype of `describe`, newly initialised."""
        try:
            plan = json.loads(description)
            layers, loss, dtype = plan["layers"], plan["loss"], plan["dtype"]
            chosen = loss and LOSSES[loss.pop("kind")](**loss)
            specs = [build(layer) for layer in layers]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
            reason = f"no {problem}" if isinstance(problem, KeyError) else problem
            actual = f"{str(description)[:60]!r} ({reason})"
            refuse("description", "what Network.describe gives", actual)
        return cls(specs, chosen, dtype=dtype)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes description and parameters to one safetensors file."""
        self.parameters.save(path, {"network": self.describe()})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Network:
        """Reads what `save` wrote.

        Raises:
            ValueError, TypeError, OSError: for a file that is missing, not whole, or no network's.
        """
        arrays, metadata = storage.read(path)
        if "network" not in metadata:
            refuse(str(path), "a network's file", "one without a network's description")
        network = cls.from_description(metadata["network"])
        same_names(str(path), arrays, network.parameters)
        for name, array in arrays.items():
            shape = network.parameters.shapes[name]
            network.parameters[name] = floats(f"{path}: {name}", array, network.dtype, shape)
        return network


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
    """T and B of the run, or of the stretch of it."""
    first = tape.layers[0]
    own = first.directions[0] if isinstance(first, RecurrentTape) else first
    assert isinstance(own, Tape | InputTape)  # dropout is never the first layer
    return own.inputs.shape[0], own.inputs.shape[1]


def _chain(layers: Sequence[Layer]) -> tuple[int, int]:
    """Number of input and of output features, once it is sure that the layers fit together."""
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
