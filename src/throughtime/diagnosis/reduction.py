"""What kind of loss it is and how many terms it sums, read off its course along a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from throughtime.diagnosis.laboratory import Laboratory
from throughtime.diagnosis.roles import Roles

FAR = 64.0  # logits: there a cross-entropy is a straight line
ALIKE = 1e-3  # relative
WHOLE = 1e-2


@dataclass(frozen=True)
class Reduction:
    """A loss as a function of the output layer's bias.

    Attributes:
        kind: "square", a squared error; "root", the root of one; "classes", a softmax with
            cross-entropy; "": none of these, or not known.
        total: of a cross-entropy, the weights of all its terms together: 1 for a mean over
            everything, T·B for a sum.
        outputs: how many outputs there are; 0 where that is not known.
    """

    kind: Literal["square", "root", "classes", ""] = ""
    total: float = np.nan
    outputs: int = 0

    def sequences(self, steps: int | None) -> int | None:
        """B, where the loss sums over sequences; None where nothing shows it."""
        if not steps or not np.isfinite(self.total):
            return None
        for count in (self.total / steps, self.total):
            if count > 1.5 and abs(count - round(count)) < WHOLE and round(count) != steps:
                return round(count)
        return None

    def said(self, steps: int | None) -> str:
        """In words."""
        if self.kind in ("square", "root"):
            root = "the root of " if self.kind == "root" else ""
            return f"Along the output's bias the loss is {root}a parabola: a squared error."
        if self.kind != "classes":
            return ""
        of = f", where T = {steps}" if steps else ""
        return (
            f"The weights of your loss's terms add up to {self.total:.4g}{of}: its slope far out "
            "along the output layer's bias says so."
        )


def reduction_of(lab: Laboratory, roles: Roles, steps: int | None = None) -> Reduction:
    """The reduction of a target's loss, which an output layer with a bias shows.

    Args:
        lab: where the loss is evaluated.
        roles: of its tensors.
        steps: another length than the target's own.
    """
    name = roles.head_bias
    if roles.head is None or name is None:
        return Reduction()
    bias = np.asarray(lab.values[name])
    zero = {roles.head: np.zeros_like(lab.values[roles.head])}

    def loss(place: int, value: float) -> float:
        moved = np.zeros(bias.size)
        moved[place] = value
        return lab.loss({**zero, name: moved.reshape(bias.shape)}, steps)

    along = np.array([loss(0, value) for value in (-2, -1, 0, 1, 2, 3)])
    for kind, values in (("square", along), ("root", along**2)):
        bend = np.abs(np.diff(values, 2)).max()
        if bend > 0 and np.abs(np.diff(values, 3)).max() < ALIKE * bend:
            return Reduction(kind, outputs=bias.size)  # type: ignore[arg-type]
    far = np.array([[loss(k, FAR * part) for part in (0.5, 1.0, 1.5)] for k in range(bias.size)])
    slopes, bends = (far[:, 2] - far[:, 0]) / FAR, np.diff(far, 2)
    if not np.abs(bends).max() <= ALIKE * FAR * np.abs(slopes).max():
        return Reduction(outputs=bias.size)
    total = float(slopes.sum()) / max(bias.size - 1, 1)
    return Reduction("classes", total, bias.size) if total > 0 else Reduction(outputs=bias.size)
