"""The errors of a step as functions of their targets, which are linear or quadratic in these.

So targets that are unknown are eliminated by least squares, whatever else is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.tolerances import NO_SLOPE


@dataclass(frozen=True)
class InTargets:
    """Errors as functions of their targets: e = `constant` + `slope`·y + `bend` |y|².

    An absolute error |a − y| of outputs between 0 and 1 is a + (1 − 2a) y for targets of 0 and 1.
    """

    constant: Array
    slope: Array
    bend: float

    @classmethod
    def of(cls, loss: ModelLoss, outputs: Array) -> InTargets:
        """Of the errors of outputs (…, O); `constant` is (…), `slope` (…, O)."""
        O = outputs.shape[-1]  # noqa: E741  (the field's name for the number of outputs)
        straight = loss.kind == "absolute_error"
        each = np.eye(O)  # one target is 1, the others are 0
        targets = np.concatenate([np.zeros((1, O)), each] + ([] if straight else [-each[:1]]))
        targets = targets.reshape(len(targets), *[1] * (outputs.ndim - 1), O)
        whole = (len(targets), *outputs.shape)
        e = loss.errors(np.broadcast_to(outputs, whole), np.broadcast_to(targets, whole))[0]
        constant, one = e[0], e[1 : 1 + O]
        bend = 0.0 if straight else float(np.median((one[0] + e[-1]) / 2 - constant))
        bend = bend if abs(bend) > 1e-9 else 0.0
        slope = np.moveaxis(one - constant - bend, 0, -1)
        return cls(constant, slope, bend)

    def errors(self, y: Array) -> Array:
        """The errors with these targets, (…)."""
        curved = self.bend * (y * y).sum(axis=-1)
        return np.asarray(self.constant + (self.slope * y).sum(axis=-1) + curved)

    def solved(self, wanted: Array) -> tuple[Array, Array]:
        """Targets (B, O) with which the errors (K, B) of K points add up to what is wanted (K,).

        Some of them show in |y|² alone: those of an output without weights, and the difference
        between those of two sequences that have been the same so far. Of these, any numbers with
        that |y|² are right.

        Returns:
            the targets and what is left (K,).
        """
        _, B, O = self.slope.shape  # noqa: E741
        columns = self.columns()
        rest = wanted - self.constant.sum(axis=1)
        found, *_ = np.linalg.lstsq(columns, rest, rcond=NO_SLOPE)
        y = found[: B * O]
        short = float(found[-1] - y @ y) if self.bend else 0.0
        if short > 0:
            _, sizes, axes = np.linalg.svd(columns[:, :-1])
            seen = int((sizes > NO_SLOPE * sizes.max(initial=0.0)).sum())
            if seen < B * O:
                y = y + np.sqrt(short) * axes[-1]
        return y.reshape(B, O), columns @ found - rest

    def settled(self, y: Array, wanted: Array) -> Array:
        """Targets (B, O) near these whose own |y|² is the one that the errors show."""
        if not self.bend:
            return y
        slope = self.slope.reshape(len(self.slope), -1)
        left = wanted - self.errors(y).sum(axis=1)
        move, *_ = np.linalg.lstsq(slope + 2 * self.bend * y.reshape(-1), left, rcond=NO_SLOPE)
        return np.asarray(y + move.reshape(y.shape))

    def columns(self) -> Array:
        """The derivatives of the sum over sequences by the targets, and by |y|² where it counts."""
        flat = self.slope.reshape(len(self.slope), -1)
        return np.column_stack([flat, np.full(len(flat), self.bend)]) if self.bend else flat
