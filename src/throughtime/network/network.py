"""A network: layers that feed one another, a loss at the end, and files."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from typing import Any

import numpy as np

from throughtime import storage
from throughtime.arrays import Array, floats, precision, refuse, same_names, step_counts
from throughtime.network.axes import (
    checked_targets,
    swapped,
    swapped_gradients,
    swapped_loss,
    swapped_run,
)
from throughtime.network.checkpointing import loss_and_gradient_within
from throughtime.network.data import Gradients, NetworkTape, Run, checked_inputs
from throughtime.network.losses import LOSSES, Loss, LossValue
from throughtime.network.recurrent import RecurrentTape
from throughtime.network.stack import LayerStack, Spec, as_layer, build, describe
from throughtime.parameters import Parameters

FEW_MORE = 2**20  # parameters, which take no memory worth speaking of


class Network(LayerStack):
    """Layers that feed one another, and a loss at the end.

    Args:
        layers: RNN, LSTM, GRU, Dense, Embedding and Dropout, in the order of the data.
        loss: MeanSquaredError, SoftmaxCrossEntropy or BinaryCrossEntropy; may be left out if
            only outputs are wanted.
        dtype: "float32" or "float64", for parameters, inputs, states and results alike.
        seed: random seed of the initialisation.
        batch_first: whether all arrays of a run, which this package otherwise has time-major, are
            (B, T, ·): inputs, targets, outputs, inner values and their gradients. States are
            (B, ·) either way, and parameters the same.
        products: "bfloat16" rounds both factors of every product of matrices to that, and sums in
            float32, which is up to twice as fast where the processor has such products
            (AVX512_BF16, or BF16 of AArch64). All else stays float32. For RNN, LSTM, GRU, Dense,
            and cells of one's own that multiply vectors by parameters alone.

    Attributes:
        parameters: writable views by name over one vector; `"0.W"` is W of layer 0, `"0.1.W"`
            that of its second direction.

    Raises:
        ValueError, TypeError: if layers do not fit together, an option is wrong, or this processor
            has no products in bfloat16.

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
        >>> turned = tt.Network([tt.LSTM(5, 5)], batch_first=True)
        >>> turned.run(np.zeros((2, 39, 5), np.float32)).outputs.shape
        (2, 39, 5)
    """

    def __init__(
        self,
        layers: Sequence[Spec],
        loss: Loss | None = None,
        *,
        dtype: object = "float32",
        seed: int = 0,
        batch_first: bool = False,
        products: str = "float32",
    ) -> None:
        super().__init__(layers, dtype, seed, products)
        if loss is not None and not isinstance(loss, Loss):
            way_out = f"call it: {loss.__name__}()" if isinstance(loss, type) else ""
            refuse("loss", "one of " + ", ".join(LOSSES), repr(loss), way_out, error=TypeError)
        self.loss = loss
        if not isinstance(batch_first, bool):
            refuse("batch_first", "True or False", repr(batch_first), error=TypeError)
        self.batch_first = batch_first

    def viewed(self, *, batch_first: bool) -> Network:
        """The same network, with the same parameters, for arrays in this order."""
        if batch_first == self.batch_first:
            return self
        twin = copy.copy(self)
        twin.batch_first = batch_first
        return twin

    def in_time(self, inputs: Array, targets: Any = None) -> tuple[Network, Array, Any]:
        """The network for time-major arrays, and these arrays as such.

        Raises:
            ValueError, TypeError: for arrays that do not fit a network that takes the batch first.
        """
        if not self.batch_first:
            return self, inputs, targets
        x = checked_inputs(self.layers[0], self.inputs, self.dtype, inputs, ("B", "T"))
        if targets is not None and self.loss is not None:
            like = np.broadcast_to(self.dtype.type(0), (*x.shape[:2], self.outputs))
            targets = swapped(checked_targets(self.loss, targets, like))
        return self.viewed(batch_first=False), swapped(x), targets

    def forward(
        self,
        inputs: Array,
        state: Mapping[str, Array] | None = None,
        lengths: Array | None = None,
        *,
        dropout_seed: int | np.random.Generator | None = None,
    ) -> tuple[Array, Parameters, NetworkTape]:
        if not self.batch_first:
            return super().forward(inputs, state, lengths, dropout_seed=dropout_seed)
        _, x, _ = self.in_time(inputs)
        outputs, final, tape = super().forward(x, state, lengths, dropout_seed=dropout_seed)
        return swapped(outputs), final, tape

    forward.__doc__ = LayerStack.forward.__doc__

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
        turned = swapped(doutputs) if self.batch_first else doutputs
        found = super().backward(
            tape,
            turned,
            dstate,
            need_inputs=need_inputs,
            need_deltas=need_deltas,
            gradient=gradient,
        )
        return swapped_gradients(found) if self.batch_first else found

    backward.__doc__ = LayerStack.backward.__doc__

    def __repr__(self) -> str:
        inside = ", ".join(repr(spec) for spec in self.specs)
        order = ", batch_first=True" * self.batch_first
        order += f", products={self.products!r}" * (self.products != "float32")
        return f"Network([{inside}], loss={self.loss!r}, dtype={str(self.dtype)!r}{order})"

    def run(
        self,
        inputs: Array,
        state: Mapping[str, Array] | None = None,
        lengths: Array | None = None,
        *,
        dropout_seed: int | None = None,
    ) -> Run:
        """A forward pass with all its inner values; arguments as in `forward`."""
        if self.batch_first:
            network, x, _ = self.in_time(inputs)
            return swapped_run(network.run(x, state, lengths, dropout_seed=dropout_seed))
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
        """The loss and its terms; arguments as in `forward`, targets as the loss requires them."""
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

        Arguments as in `forward`, targets as the loss requires them. The gradient has the names
        and shapes of `parameters`.

        Args:
            memory_limit: bytes, or text such as "64MB", for what the backward pass needs of the
                forward pass. If it does not fit as a whole, states are kept at intervals and the
                rest is recomputed (Gruslys et al. 2016, in its simplest form), which costs one
                more forward pass and gives the same bits.

        Raises:
            ValueError: if `memory_limit` is too small, naming the smallest that works; or if it is
                given together with dropout or for a bidirectional network.
        """
        if memory_limit is not None:
            network, x, y = self.in_time(inputs, targets)
            given = (x, y, state, lengths, dropout_seed)
            return loss_and_gradient_within(network, self.loss, memory_limit, *given)
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
        if self.batch_first:
            wanted = swapped(checked_targets(self.loss, targets, outputs))
            network = self.viewed(batch_first=False)
            return swapped_loss(network.loss_of(swapped(outputs), wanted, lengths))
        steps, batch = outputs.shape[:2]
        weights = self.loss.weights(steps, batch, step_counts(lengths, steps, batch))
        return self.loss.evaluate(outputs, self.loss.check_targets(targets, outputs), weights)

    # --- copies and files ---

    def copy(self) -> Network:
        """A copy with parameters of its own."""
        return self.astype(self.dtype)

    def astype(self, dtype: object, *, products: str | None = None) -> Network:
        """A copy in float32 or float64; its products are as before, or those of float64.

        Args:
            dtype: "float32" or "float64".
            products: as for a new network, for other ones than before.
        """
        kept = self.products if precision(dtype) == np.float32 else "float32"
        twin = Network(
            self.specs,
            self.loss,
            dtype=dtype,
            batch_first=self.batch_first,
            products=kept if products is None else products,
        )
        twin.parameters.flat[...] = self.parameters.flat
        return twin

    def describe(self) -> str:
        """Layers, loss and dtype as JSON, from which `from_description` builds the same network."""
        loss = self.loss and {"kind": type(self.loss).__name__, **asdict(self.loss)}
        layers = [describe(spec) for spec in self.specs]
        order: dict[str, object] = {"batch_first": True} if self.batch_first else {}
        if self.products != "float32":
            order["products"] = self.products
        return json.dumps({"layers": layers, "loss": loss, "dtype": str(self.dtype), **order})

    @classmethod
    def from_description(
        cls,
        description: str,
        arrays: Mapping[str, Array] | None = None,
        *,
        products: str | None = None,
    ) -> Network:
        """A network with the layers, loss and dtype of `describe`, newly initialised.

        Args:
            description: the text.
            arrays: what the parameters will be; a description that needs more is refused before
                any memory is taken.
            products: others than those of the description, as for a new network.
        """
        try:
            plan = json.loads(description)
            layers, loss, dtype = plan["layers"], plan["loss"], plan["dtype"]
            batch_first = bool(plan.get("batch_first", False))
            products = str(plan.get("products", "float32")) if products is None else products
            chosen = loss and LOSSES[loss.pop("kind")](**loss)
            specs = [build(layer) for layer in layers]
            if arrays is not None:
                _has_room(arrays, specs)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
            reason = f"no {problem}" if isinstance(problem, KeyError) else problem
            actual = f"{str(description)[:60]!r} ({reason})"
            refuse("description", "what Network.describe gives", actual)
        return cls(specs, chosen, dtype=dtype, batch_first=batch_first, products=products)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes description and parameters to one safetensors file."""
        self.parameters.save(path, {"network": self.describe()})

    @classmethod
    def load(cls, path: str | PathLike[str], *, products: str | None = None) -> Network:
        """Reads what `save` wrote.

        Args:
            path: the file.
            products: others than those of the file, as for a new network: what was trained with
                products in bfloat16 runs anywhere with "float32".

        Raises:
            ValueError, TypeError, OSError: for a file that is missing, incomplete, or not of a
                network.
        """
        arrays, metadata = storage.read(path, own=True)
        if "network" not in metadata:
            refuse(str(path), "a network's file", "one without a network's description")
        network = cls.from_description(metadata["network"], arrays, products=products)
        same_names(str(path), arrays, network.parameters)
        for name, array in arrays.items():
            shape = network.parameters.shapes[name]
            network.parameters[name] = floats(f"{path}: {name}", array, network.dtype, shape)
        return network


def _has_room(arrays: Mapping[str, Array], specs: Sequence[Spec]) -> None:
    """Refuses layers with far more parameters than these arrays have entries.

    With a few more or less the names tell better what is wrong.
    """
    layers = [as_layer(number, spec) for number, spec in enumerate(specs)]
    needed = sum(math.prod(shape) for layer in layers for shape in layer.shapes().values())
    there = sum(array.size for array in arrays.values())
    if needed > there + FEW_MORE:
        refuse("layers", f"at most the {there:,} parameters of the file", f"{needed:,}")
