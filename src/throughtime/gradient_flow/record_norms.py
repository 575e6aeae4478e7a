"""Norms of gradients since the last look."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from throughtime.gradient_flow.tolerances import RECORDED_NORMS, USUAL_NORM_QUANTILE


@dataclass
class NormsSince:
    """What the updates since the last look had to say.

    Attributes:
        threshold: of clipping, or None.
        count, clipped: updates, and those whose norm was above it.
        largest: norm.
    """

    threshold: float | None
    count: int = 0
    clipped: int = 0
    largest: float = 0.0
    _newest: list[float] = field(default_factory=list)

    def add(self, norm: float) -> None:
        """One update's norm, before clipping."""
        self.count += 1
        self.clipped += self.threshold is not None and norm > self.threshold
        self.largest = max(self.largest, norm)
        if len(self._newest) == RECORDED_NORMS:
            self._newest.pop(0)
        self._newest.append(norm)

    @property
    def median(self) -> float:
        """NaN without any."""
        return float(np.median(self._newest)) if self._newest else float("nan")

    @property
    def usual(self) -> float:
        """What nine of ten stay below; NaN without any."""
        if not self._newest:
            return float("nan")
        return float(np.quantile(self._newest, USUAL_NORM_QUANTILE))

    @property
    def share(self) -> float | None:
        """Of the updates that were clipped; None without a threshold or an update."""
        if self.threshold is None or not self.count:
            return None
        return self.clipped / self.count
