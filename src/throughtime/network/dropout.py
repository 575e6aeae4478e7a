"""Dropout (Srivastava et al. 2014), between recurrent layers (Zaremba et al. 2014)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array, real, refuse
from throughtime.cells import LocalGradients, State
from throughtime.network.layers import Layer, LayerTape


class MaskTape(NamedTuple):
    """The mask that the forward pass multiplied with; None where nothing was dropped."""

    mask: Array | None

    def steps(self, start: int, stop: int) -> MaskTape:
        return MaskTape(None if self.mask is None else self.mask[start:stop])


@dataclass(frozen=True)
class Dropout(Layer):
    """Sets each number to 0 with probability `rate` and divides the others by 1 − rate.

    It acts where the network is given a `dropout_seed`, and only there: the same seed draws the
    same mask, so that a loss can be evaluated again.
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
        """The mask of the forward pass, again."""
        assert isinstance(tape, MaskTape)
        dinputs = doutputs if tape.mask is None else doutputs * tape.mask
        return LocalGradients({}, dinputs, {}, {})
