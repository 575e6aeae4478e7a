"""The dense head: y_t = W x_t + b at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array, Shape, sizes
from throughtime.cells import (
    LocalGradients,
    State,
    added,
    dense_backward,
    dense_forward,
    input_gradient,
    is_indices,
    product,
    weight_gradient,
)
from throughtime.engine_settings import use_compiled
from throughtime.network.layers import Layer, LayerTape


class InputTape(NamedTuple):
    """The inputs alone, which is all that a linear layer needs."""

    inputs: Array

    def steps(self, start: int, stop: int) -> InputTape:
        return InputTape(self.inputs[start:stop])


@dataclass(frozen=True)
class Dense(Layer):
    """Dense layer, the same at every step. Parameters: `W (outputs, inputs)`, `b (outputs,)`.

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
