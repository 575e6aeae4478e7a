"""What the network asks of a layer, recurrent or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.cells import LocalGradients, State


class LayerTape(Protocol):
    """What a layer's forward pass keeps; it can be cut to a stretch of steps."""

    def steps(self, start: int, stop: int) -> Self:
        """The tape of steps start … stop − 1 alone."""
        ...


class Layer(ABC):
    """One layer of a network: its sizes and options; parameters and states are passed in."""

    @abstractmethod
    def output_size(self, inputs: int) -> int:
        """Number of output features, given the number of input features."""

    def input_size(self) -> int | None:
        """Number of input features or classes that it needs; None where any number will do."""
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
        """Fills the parameters; a layer without parameters has nothing to do."""

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

        Without `state` it begins at zero, without `rng` nothing is dropped.
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
