"""What the losses of a model hand to a recurrent module inside it, past the recurrence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from throughtime.arrays import Array


@dataclass(frozen=True)
class UpstreamGradient:
    """Of n losses side by side, the derivatives with respect to what the module gives.

    Attributes:
        outputs: (n, T, B, ·), both directions side by side.
        final: by the names of a network's state ("0.h", "1.1.c"), (n, B, ·): with respect to the
            state after each sequence's last step, of a second direction after its first one.
    """

    outputs: Array
    final: Mapping[str, Array]

    def of_sequences(self, chosen: Array | slice) -> UpstreamGradient:
        """Of some of the sequences."""
        final = {name: part[:, chosen] for name, part in self.final.items()}
        return UpstreamGradient(self.outputs[:, :, chosen], final)


class UpstreamSource(Protocol):
    """Where the derivatives come from; losses are asked for some at a time.

    Attributes:
        single: whether there is one loss a sequence, or one in all, instead of one a step. It
            stands at the sequence's end, for a second direction at its beginning.
        own_steps: whether each loss looks at its own step's output alone.
    """

    @property
    def single(self) -> bool:
        """See above."""

    @property
    def own_steps(self) -> bool:
        """See above."""

    def gradients(self, steps: Array) -> UpstreamGradient:
        """By the losses of these steps; by the single one, whatever the steps are."""


@dataclass(frozen=True)
class OwnStepSource:
    """Losses of which each looks at its own step alone: an `UpstreamSource` from (T, B, ·)."""

    outputs: Array
    single: bool = False
    own_steps: bool = True

    def gradients(self, steps: Array) -> UpstreamGradient:
        """By the losses of these steps."""
        found = np.zeros((len(steps), *self.outputs.shape), self.outputs.dtype)
        found[np.arange(len(steps)), steps] = self.outputs[steps]
        return UpstreamGradient(found, {})


@dataclass(frozen=True)
class Losses:
    """The losses of a model, as a recurrent module inside it sees them.

    Attributes:
        source: what each of them hands down.
        whole: what all of them together do; n = 1.
        values: (T, B), the losses themselves, at the steps at which they stand.
    """

    source: UpstreamSource
    whole: UpstreamGradient
    values: Array

    def of(self, chosen: Array) -> Losses:
        """Of some of the sequences."""
        some = _Some(self.source, chosen)
        return Losses(some, self.whole.of_sequences(chosen), self.values[:, chosen])


@dataclass(frozen=True)
class _Some:
    """A source of some of the sequences."""

    source: UpstreamSource
    chosen: Array

    @property
    def single(self) -> bool:
        return self.source.single

    @property
    def own_steps(self) -> bool:
        return self.source.own_steps

    def gradients(self, steps: Array) -> UpstreamGradient:
        return self.source.gradients(steps).of_sequences(self.chosen)
