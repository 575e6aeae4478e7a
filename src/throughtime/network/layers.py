"""What the network asks of a layer, and the layers that are not recurrent.

These are the dense head, the embedding, and dropout; `recurrent.py` holds the recurrent layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np

from throughtime.arrays import Array, Shape, real, refuse, sizes
from throughtime.cells import (
    LocalGradients,
    State,
    added,
    dense_backward,
    dense_forward,
    embedding_backward,
    input_gradient,
    is_indices,
    product,
    weight_gradient,
)
from throughtime.engine_settings import use_compiled


class LayerTape(Protocol):
    """What a layer's forward pass keeps for its backward pass; any run of steps can be cut out."""

    def steps(self, start: int, stop: int) -> Self:
        """The tape of steps start … stop − 1 alone."""
        ...


class Layer(ABC):
    """One layer of a network: its sizes and options; parameters and states are passed in."""

    @abstractmethod
    def output_size(self, inputs: int) -> int:
        """Number of output features, given the number of input features."""

    def input_size(self) -> int | None:
        """Number of input features or classes that the layer needs; None if any number will do."""
        return None

    def takes_indices(self) -> bool:
        """Whether its inputs may be class indices (T, B)."""
        return False

    def takes_numbers(self) -> bool:
        """Whether its inputs may be numbers (T, B, I)."""
        return True

    def shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter."""
        return {}

    def state_sizes(self) -> dict[str, int]:
        """Name and size of every part of the state that is carried from step to step."""
        return {}

    def initialise(self, p: Mapping[str, Array], rng: np.random.Generator) -> None:
        """Fills the parameters in; a layer without parameters does nothing."""

    @abstractmethod
    def forward(
        self,
        p: Mapping[str, Array],
        inputs: Array,
        state: State | None,
        lengths: Array | None,
        rng: np.random.Generator | None,
    ) -> tuple[Array, State, LayerTape]:
        """Outputs (T, B, ·), final state, tape.

        Without `state` the run begins at zero; without `rng` nothing is dropped.
        """

    def parameter_gradients(
        self, p: Mapping[str, Array], tape: LayerTape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The sums over the tape's steps that make up the gradient of each parameter."""
        return {}

    @abstractmethod
    def backward(
        self,
        p: Mapping[str, Array],
        tape: LayerTape,
        doutputs: Array,
        dstate: State | None,
        need_inputs: bool,
        need_deltas: bool,
        gradient: Mapping[str, Array],
    ) -> LocalGradients:
        """Gradients of parameters, inputs and initial state.

        Args:
            p, tape: those of the forward pass.
            doutputs: ∂L/∂outputs, (T, B, ·).
            dstate: ∂L/∂(final state).
            need_inputs: whether ∂L/∂inputs is wanted.
            need_deltas: whether the gradients of every step's inner values are wanted.
            gradient: arrays of the parameters' names and shapes, to which theirs is added.
        """


class InputTape(NamedTuple):
    """The inputs, which are all that the backward pass of a linear layer needs."""

    inputs: Array

    def steps(self, start: int, stop: int) -> InputTape:
        return InputTape(self.inputs[start:stop])


@dataclass(frozen=True)
class Dense(Layer):
    """The Dense layer, y_t = W x_t + b. Parameters: `W (outputs, inputs)`, `b (outputs,)`.

    Example:
        >>> from throughtime import Dense
        >>> Dense(3, 2).shapes()
        {'W': (2, 3), 'b': (2,)}
    """

    inputs: int
    outputs: int
    bias: bool = True

    def __post_init__(self) -> None:
        sizes(self, "inputs", "outputs")

    def input_size(self) -> int:
        return self.inputs

    def output_size(self, inputs: int) -> int:
        return self.outputs

    def takes_indices(self) -> bool:
        return True

    def shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"W": (self.outputs, self.inputs)}
        return shapes | ({"b": (self.outputs,)} if self.bias else {})

    def initialise(self, p: Mapping[str, Array], rng: np.random.Generator) -> None:
        """Weights uniform in ±1/√inputs, biases 0."""
        p["W"][...] = rng.uniform(-1, 1, p["W"].shape) / np.sqrt(self.inputs)

    def forward(
        self,
        p: Mapping[str, Array],
        inputs: Array,
        state: State | None,
        lengths: Array | None,
        rng: np.random.Generator | None,
    ) -> tuple[Array, State, LayerTape]:
        if use_compiled():
            return dense_forward(p, inputs), {}, InputTape(inputs)
        outputs = product(p["W"], inputs)
        return outputs + p["b"] if self.bias else outputs, {}, InputTape(inputs)

    def parameter_gradients(
        self, p: Mapping[str, Array], tape: LayerTape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        """δW = Σ_t δy_t x_tᵀ, δb = Σ_t δy_t."""
        assert isinstance(tape, InputTape)
        gradients = {"W": weight_gradient(deltas["z"], tape.inputs, self.inputs)}
        if self.bias:
            gradients["b"] = deltas["z"].sum(axis=(0, 1))
        return gradients

    def backward(
        self,
        p: Mapping[str, Array],
        tape: LayerTape,
        doutputs: Array,
        dstate: State | None,
        need_inputs: bool,
        need_deltas: bool,
        gradient: Mapping[str, Array],
    ) -> LocalGradients:
        """δx_t = Wᵀ δy_t."""
        assert isinstance(tape, InputTape)
        wanted = need_inputs and not is_indices(tape.inputs)
        deltas = {"z": doutputs}
        if use_compiled():
            dinputs = dense_backward(p, tape.inputs, doutputs, wanted, gradient)
        else:
            dinputs = input_gradient(doutputs, p["W"]) if wanted else None
            added(gradient, self.parameter_gradients(p, tape, deltas))
        return LocalGradients(dict(gradient), dinputs, {}, deltas)


@dataclass(frozen=True)
class Embedding(Layer):
    """Turns class indices (T, B) into vectors (T, B, features). Parameter: `E (classes, features)`.

    Example:
        >>> from throughtime import Embedding
        >>> Embedding(100, 16).shapes()
        {'E': (100, 16)}
    """

    classes: int
    features: int

    def __post_init__(self) -> None:
        sizes(self, "classes", "features")

    def input_size(self) -> int:
        return self.classes

    def output_size(self, inputs: int) -> int:
        return self.features

    def takes_indices(self) -> bool:
        return True

    def takes_numbers(self) -> bool:
        return False

    def shapes(self) -> dict[str, Shape]:
        return {"E": (self.classes, self.features)}

    def initialise(self, p: Mapping[str, Array], rng: np.random.Generator) -> None:
        """Normal with standard deviation 1, so that a cell sees inputs of the usual size."""
        p["E"][...] = rng.standard_normal(p["E"].shape)

    def forward(
        self,
        p: Mapping[str, Array],
        inputs: Array,
        state: State | None,
        lengths: Array | None,
        rng: np.random.Generator | None,
    ) -> tuple[Array, State, LayerTape]:
        return p["E"][inputs], {}, InputTape(inputs)

    def parameter_gradients(
        self, p: Mapping[str, Array], tape: LayerTape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        """δE_k = Σ δy_t over the steps whose class is k."""
        assert isinstance(tape, InputTape)
        return {"E": weight_gradient(deltas["z"], tape.inputs, self.classes).T}

    def backward(
        self,
        p: Mapping[str, Array],
        tape: LayerTape,
        doutputs: Array,
        dstate: State | None,
        need_inputs: bool,
        need_deltas: bool,
        gradient: Mapping[str, Array],
    ) -> LocalGradients:
        assert isinstance(tape, InputTape)
        deltas = {"z": doutputs}
        if use_compiled():
            embedding_backward(tape.inputs, doutputs, gradient["E"])
        else:
            added(gradient, self.parameter_gradients(p, tape, deltas))
        return LocalGradients(dict(gradient), None, {}, deltas)


class MaskTape(NamedTuple):
    """The mask that the forward pass multiplied by; None if nothing was dropped."""

    mask: Array | None

    def steps(self, start: int, stop: int) -> MaskTape:
        return MaskTape(None if self.mask is None else self.mask[start:stop])


@dataclass(frozen=True)
class Dropout(Layer):
    """Sets each number to 0 with probability `rate` and divides the others by 1 − rate.

    It stands between recurrent layers (Srivastava et al. 2014; Zaremba et al. 2014). It acts only
    if the network is given a `dropout_seed`; the same seed draws the same mask, so that a loss can
    be evaluated again.
    """

    rate: float

    def __post_init__(self) -> None:
        # A NumPy float64 would turn float32 masks into float64.
        object.__setattr__(self, "rate", real("rate", self.rate))
        if not 0 <= self.rate < 1:
            refuse("rate", "a number from 0 to below 1", self.rate)

    def output_size(self, inputs: int) -> int:
        return inputs

    def forward(
        self,
        p: Mapping[str, Array],
        inputs: Array,
        state: State | None,
        lengths: Array | None,
        rng: np.random.Generator | None,
    ) -> tuple[Array, State, LayerTape]:
        if rng is None or self.rate == 0:
            return inputs, {}, MaskTape(None)
        kept = rng.random(inputs.shape, dtype=np.float32) >= self.rate
        mask = kept.astype(inputs.dtype) / (1 - self.rate)
        return inputs * mask, {}, MaskTape(mask)

    def backward(
        self,
        p: Mapping[str, Array],
        tape: LayerTape,
        doutputs: Array,
        dstate: State | None,
        need_inputs: bool,
        need_deltas: bool,
        gradient: Mapping[str, Array],
    ) -> LocalGradients:
        """δx_t = mask ⊙ δy_t."""
        assert isinstance(tape, MaskTape)
        dinputs = doutputs if tape.mask is None else doutputs * tape.mask
        return LocalGradients({}, dinputs, {}, {})
