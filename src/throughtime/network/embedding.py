"""The embedding: a learned vector for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array, Shape, sizes
from throughtime.cells import (
    LocalGradients,
    State,
    added,
    embedding_backward,
    weight_gradient,
)
from throughtime.engine_settings import use_compiled
from throughtime.network.dense import InputTape
from throughtime.network.layers import Layer, LayerTape


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
