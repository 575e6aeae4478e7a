"""A loss whose terms and derivatives were worked out elsewhere, by torch for instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array, floats
from throughtime.network import Loss, Reduction


@dataclass(frozen=True)
class ExternalLoss(Loss):
    """E_t and ∂E_t/∂outputs as numbers, which hold at these outputs and at no others.

    They are added up as they are. Targets: (T, B, K + N + 1), the K derivatives, those of `also`,
    then E_t.

    Args:
        at_end: whether there is one loss a sequence, at its last step, instead of one a step.
        also: layer, part of its state, and size: what the loss also depends on directly, N
            numbers a step in all. `Network.backward` knows nothing of these.
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
        """(T, B, K + N) -> those by the outputs, and those of `also` by layer and part."""
        place = derivatives.shape[2] - self.extra
        outputs, found = derivatives[..., :place], dict[int, dict[str, Array]]()
        for layer, part, size in self.also:
            found.setdefault(layer, {})[part] = derivatives[..., place : place + size]
            place += size
        return outputs, found


def external_targets(
    outputs: Array, values: Array, also: Mapping[tuple[int, str], Array]
) -> tuple[tuple[tuple[int, str, int], ...], Array]:
    """`ExternalLoss.also` and the targets: (T, B, K), (T, B), and (T, B, ·) by layer and part."""
    names = tuple((layer, part, array.shape[2]) for (layer, part), array in also.items())
    targets = np.concatenate([outputs, *also.values(), values[..., None]], axis=2)
    return names, targets.astype(outputs.dtype, copy=False)
