"""What of a module decides how the engine computes it: kind, sizes and options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from throughtime import _engine
from throughtime.cells import KEPT, Cell, compiled
from throughtime.torch.weights import Weights, cell_of


@dataclass(frozen=True)
class Form:
    """As torch's constructors have it; every module of one form shares one.

    Attributes:
        mode, inputs, units, layers: torch's `mode`, `input_size`, `hidden_size`, `num_layers`.
        projection: `proj_size`, 0 for none.
        directions: 1 or 2.
        biases, peepholes, reset_after: what the cell has, and which GRU it is.
    """

    mode: str
    inputs: int
    units: int
    layers: int
    projection: int
    directions: int
    biases: bool
    peepholes: bool
    reset_after: bool

    @property
    def outputs(self) -> int:
        """The size of h, in one direction."""
        return self.projection or self.units

    @cached_property
    def width(self) -> int:
        """The size of a layer's outputs."""
        return self.directions * self.outputs

    @property
    def sides(self) -> int:
        """Directions of all layers."""
        return self.directions * self.layers

    @cached_property
    def lstm(self) -> bool:
        """Whether there is a cell state."""
        return self.mode == "LSTM"

    @cached_property
    def stack(self) -> _engine.Stack:
        """The engine's."""
        return _engine.Stack(compiled.twin(self.cell(0)), self.layers, self.directions, self.biases)

    @cached_property
    def kept(self) -> int:
        """Numbers that a step of one sequence keeps in one direction, states not counted."""
        return len(self.names) * self.units

    @property
    def names(self) -> tuple[str, ...]:
        """What a step keeps: `kept_names` of the cell, without making one."""
        return KEPT[self.mode.split("_")[0]] if self.reset_after else ("r", "z", "n", "reset_h")

    def cell(self, layer: int) -> Cell:
        """The cell of a layer."""
        inputs = self.width if layer else self.inputs
        options = (self.units, self.projection, self.peepholes, self.reset_after)
        return cell_of(self.mode, inputs, *options)

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of all weights, one direction after the other."""
        rows = len(self.cell(0).gates) * self.units
        shapes: list[tuple[int, ...]] = []
        for layer in range(self.layers):
            bias = (rows,) if self.biases else None
            inputs = self.width if layer else self.inputs
            own = Weights(
                (rows, inputs),
                (rows, self.outputs),
                bias,
                bias,
                (self.outputs, self.units) if self.projection else None,
                (3 * self.units,) if self.peepholes else None,
            )
            shapes += own.present() * self.directions
        return tuple(shapes)

    def by_side(self, weights: Any) -> list[Weights]:
        """The same weights as `shapes` has, a direction at a time."""
        each = 2 + 2 * self.biases + bool(self.projection) + self.peepholes
        found = []
        for first in range(0, len(weights), each):
            W, U, *rest = weights[first : first + each]
            b_ih, b_hh = (rest.pop(0), rest.pop(0)) if self.biases else (None, None)
            R = rest.pop(0) if self.projection else None
            found.append(Weights(W, U, b_ih, b_hh, R, rest.pop() if self.peepholes else None))
        return found


def choices_of(module: Any) -> tuple[Any, ...]:
    """What `Form` is made of, as the module's attributes are now."""
    return (
        module.mode,
        module.input_size,
        module.hidden_size,
        module.num_layers,
        module.proj_size,
        1 + module.bidirectional,
        module.bias,
        module.peepholes,
        module.reset_after,
    )


_shared = lru_cache(maxsize=256)(Form)


def form_of(module: Any) -> Form:
    """The module's form, one object for all alike; compilers, who cannot share, make their own."""
    return _shared(*choices_of(module))
