"""What a network's passes give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from throughtime.arrays import Array
from throughtime.network.layers import LayerTape
from throughtime.network.losses import LossValue
from throughtime.parameters import Parameters


class NetworkTape(NamedTuple):
    """What a forward pass keeps for the backward pass: one tape a layer."""

    layers: tuple[LayerTape, ...]

    def steps(self, start: int, stop: int) -> NetworkTape:
        """The tape of steps start … stop − 1 alone, as if the run had begun at `start`."""
        return NetworkTape(tuple(tape.steps(start, stop) for tape in self.layers))


@dataclass(frozen=True)
class Run:
    """A forward pass with its inside open. Layers are numbered as in the parameters' names.

    Attributes:
        outputs: (T, B, K).
        hidden: layer to hidden states after every step, (T, B, H); both directions of a
            bidirectional layer side by side, (T, B, 2H).
        cells: layer to cell states after every step, (T, B, H); LSTM layers only.
        gates: layer to gate to its values, (T, B, H).
        state: the final state, `"0.h" (B, H)` and so on: the initial state of a run that goes on.
    """

    outputs: Array
    hidden: dict[int, Array]
    cells: dict[int, Array]
    gates: dict[int, dict[str, Array]]
    state: Parameters


@dataclass(frozen=True)
class Gradients:
    """What a backward pass finds.

    Attributes:
        parameters: in the form of `Network.parameters`.
        inputs: ∂L/∂x (T, B, I); None for class indices.
        state: ∂L/∂(initial state), in the state's form.
        deltas: layer to "h", "c", "z": ∂L/∂h_t, ∂L/∂c_t, ∂L/∂z_t of every step, (T, B, ·); for
            Dense and Embedding "z" alone, their outputs. The second direction's names begin
            with "1.".
        loss: the loss and its terms, where the loss was computed along with them.
    """

    parameters: Parameters
    inputs: Array | None
    state: Parameters
    deltas: dict[int, dict[str, Array]]
    loss: LossValue | None = None
