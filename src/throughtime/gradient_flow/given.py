"""A loss whose terms and derivatives were worked out elsewhere, by torch for instance."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array, floats
from throughtime.losses import Loss, Reduction


@dataclass(frozen=True)
class Given(Loss):
    """E_t and ∂E_t/∂outputs as numbers, which hold at these outputs and at no others.

    They are added up as they are. Targets: (T, B, K + 1), the K derivatives, then E_t.

    Args:
        at_end: whether there is one loss a sequence, at its last step, instead of one a step.
    """

    at_end: bool = False
    time: Reduction = field(default="sum", kw_only=True)
    batch: Reduction = field(default="sum", kw_only=True)

    def check_targets(self, targets: object, outputs: Array) -> Array:
        return floats("targets", targets, outputs.dtype, (*outputs.shape[:2], outputs.shape[2] + 1))

    def errors(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        return targets[..., -1], targets[..., :-1]

    def weights(self, steps: int, batch: int, lengths: Array | None = None) -> Array:
        counts = np.full(batch, steps) if lengths is None else lengths
        t = np.arange(steps)[:, None]
        wanted = t == counts - 1 if self.at_end else t < counts
        return np.asarray(wanted.astype(np.float64))
