"""Losses that were evaluated elsewhere, by torch for instance, as a recurrent module sees them.

`UpstreamGradient` is what the losses of a model hand down to a recurrent module inside it, past the
recurrence. `ExternalLoss` makes a loss of a `Network` from such derivatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from throughtime.arrays import Array, floats
from throughtime.network import Loss, Reduction


@dataclass(frozen=True)
class UpstreamGradient:
    """The derivatives of n losses, side by side, with respect to what the module returns.

    Attributes:
        outputs: (n, T, B, ·), both directions side by side.
        final: by the names of a network's state ("0.h", "1.1.c"), (n, B, ·): with respect to the
            state after each sequence's last step; for a second direction, after its first step.
        inner: by the same names, (n, T, B, ·): with respect to the state after every step, where
            the rest of a model uses that too. Of modules that run in one direction.
    """

    outputs: Array
    final: Mapping[str, Array]
    inner: Mapping[str, Array] = field(default_factory=dict)

    def of_sequences(self, chosen: Array | slice) -> UpstreamGradient:
        """The same for some of the sequences."""
        final = {name: part[:, chosen] for name, part in self.final.items()}
        inner = {name: part[:, :, chosen] for name, part in self.inner.items()}
        return UpstreamGradient(self.outputs[:, :, chosen], final, inner)


class UpstreamSource(Protocol):
    """Where the derivatives come from; the caller asks for some losses at a time.

    Attributes:
        single: whether there is one loss per sequence, or one in all, instead of one per step. It
            belongs to the sequence's end; for a second direction, to its beginning.
        own_steps: whether each loss looks at its own step's output alone.
    """

    @property
    def single(self) -> bool:
        """See above."""

    @property
    def own_steps(self) -> bool:
        """See above."""

    def gradients(self, steps: Array) -> UpstreamGradient:
        """Those of the losses of these steps; of the single loss, whatever the steps are."""


@dataclass(frozen=True)
class OwnStepSource:
    """Losses of which each looks at its own step alone, as an `UpstreamSource`: (T, B, ·)."""

    outputs: Array
    single: bool = False
    own_steps: bool = True

    def gradients(self, steps: Array) -> UpstreamGradient:
        """Those of the losses of these steps."""
        found = np.zeros((len(steps), *self.outputs.shape), self.outputs.dtype)
        found[np.arange(len(steps)), steps] = self.outputs[steps]
        return UpstreamGradient(found, {})


@dataclass(frozen=True)
class Losses:
    """The losses of a model, as a recurrent module inside it sees them.

    Attributes:
        source: what each of them hands down to the module.
        whole: what all of them together hand down; n = 1.
        values: (T, B), the losses themselves, at the steps that they belong to.
    """

    source: UpstreamSource
    whole: UpstreamGradient
    values: Array

    def of(self, chosen: Array) -> Losses:
        """The same for some of the sequences."""
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


@dataclass(frozen=True)
class ExternalLoss(Loss):
    """A loss given as numbers, E_t and ∂E_t/∂outputs, which hold at these outputs only.

    They are added up without further weights. The targets are (T, B, K + N + 1): the K derivatives,
    those of `also`, then E_t.

    Args:
        at_end: whether there is one loss per sequence, at its last step, instead of one per step.
        also: layer, part of its state, and size of what the loss also depends on directly, N
            numbers per step in all. `Network.backward` does not know of these.
    """

    at_end: bool = False
    also: tuple[tuple[int, str, int], ...] = ()
    time: Reduction = field(default="sum", kw_only=True)
    batch: Reduction = field(default="sum", kw_only=True)

    @property
    def extra(self) -> int:
        """N."""
        return sum(size for _, _, size in self.also)

    def check_targets(self, targets: object, outputs: Array) -> Array:
        size = outputs.shape[2] + self.extra + 1
        return floats("targets", targets, outputs.dtype, (*outputs.shape[:2], size))

    def errors(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        return targets[..., -1], targets[..., :-1]

    def weights(self, steps: int, batch: int, lengths: Array | None = None) -> Array:
        counts = np.full(batch, steps) if lengths is None else lengths
        t = np.arange(steps)[:, None]
        wanted = t == counts - 1 if self.at_end else t < counts
        return np.asarray(wanted.astype(np.float64))

    def split(self, derivatives: Array) -> tuple[Array, dict[int, dict[str, Array]]]:
        """Splits (T, B, K + N) into derivatives by outputs, and `also` by layer and part."""
        place = derivatives.shape[2] - self.extra
        outputs, found = derivatives[..., :place], dict[int, dict[str, Array]]()
        for layer, part, size in self.also:
            found.setdefault(layer, {})[part] = derivatives[..., place : place + size]
            place += size
        return outputs, found


def external_targets(
    outputs: Array, values: Array, also: Mapping[tuple[int, str], Array]
) -> tuple[tuple[tuple[int, str, int], ...], Array]:
    """`ExternalLoss.also`, and the targets.

    Args:
        outputs, values, also: (T, B, K), (T, B), and (T, B, ·) by layer and part.
    """
    names = tuple((layer, part, array.shape[2]) for (layer, part), array in also.items())
    targets = np.concatenate([outputs, *also.values(), values[..., None]], axis=2)
    return names, targets.astype(outputs.dtype, copy=False)
