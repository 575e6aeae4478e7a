"""What of a module decides how the engine computes it: its kind, sizes and options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from throughtime import _engine
from throughtime.cells import Cell, engine_cell
from throughtime.torch.models.weights import TorchWeights, cell_of, kind_of, torch_shapes


@dataclass(frozen=True)
class ModuleConfig:
    """The options of torch's constructors; modules with the same options share one.

    Attributes:
        mode, inputs, units, layers: torch's `mode`, `input_size`, `hidden_size`, `num_layers`.
        projection: `proj_size`, 0 for none.
        directions: of each layer, 1 or 2.
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
        """The size of a layer's outputs, both directions side by side."""
        return self.directions * self.outputs

    @property
    def direction_count(self) -> int:
        """How many directions all layers have together."""
        return self.directions * self.layers

    @cached_property
    def lstm(self) -> bool:
        """Whether there is a cell state."""
        return self.mode == "LSTM"

    @cached_property
    def stack(self) -> _engine.Stack:
        """The engine's description of all layers."""
        return self._stack(False)

    @cached_property
    def stack_in_bfloat16(self) -> _engine.Stack:
        """The same, with products in bfloat16."""
        return self._stack(True)

    def _stack(self, bfloat16: bool) -> _engine.Stack:
        cell = engine_cell(self.cell(0), bfloat16)
        return _engine.Stack(cell, self.layers, self.directions, self.biases)

    @cached_property
    def kept(self) -> int:
        """Numbers that a step of one sequence keeps in one direction, besides its states."""
        return len(self.kept_names) * self.units

    @property
    def kept_names(self) -> tuple[str, ...]:
        """What a step keeps; without making a cell, which compilers could not trace."""
        return kind_of(self.mode).kept_with(reset_after=self.reset_after)

    def cell(self, layer: int) -> Cell:
        """The cell of a layer."""
        inputs = self.width if layer else self.inputs
        options = (self.units, self.projection, self.peepholes, self.reset_after)
        return cell_of(self.mode, inputs, *options)

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of all weights, one direction after the other."""
        shapes: list[tuple[int, ...]] = []
        for layer in range(self.layers):
            shapes += torch_shapes(self.cell(layer), self.biases).present() * self.directions
        return tuple(shapes)

    def by_direction(self, weights: Any) -> list[TorchWeights]:
        """The weights, which come as `shapes` do, one direction at a time."""
        each = 2 + 2 * self.biases + bool(self.projection) + self.peepholes
        found = []
        for first in range(0, len(weights), each):
            W, U, *rest = weights[first : first + each]
            b_ih, b_hh = (rest.pop(0), rest.pop(0)) if self.biases else (None, None)
            R = rest.pop(0) if self.projection else None
            found.append(TorchWeights(W, U, b_ih, b_hh, R, rest.pop() if self.peepholes else None))
        return found


def config_fields(module: Any) -> tuple[Any, ...]:
    """The fields of `ModuleConfig`, as the module's attributes are now."""
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


_shared = lru_cache(maxsize=256)(ModuleConfig)


def config_of(module: Any) -> ModuleConfig:
    """The module's configuration; equal modules share one object.

    A compiler that traces cannot share objects: it makes its own from `config_fields`.
    """
    return _shared(*config_fields(module))
