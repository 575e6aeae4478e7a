"""Outputs that are the memory of the backward pass, and whether a model changed them."""

from __future__ import annotations

import torch

NOTHING = {dtype: torch.empty(0, dtype=dtype) for dtype in (torch.float32, torch.float64)}


class Changes:
    """Whether outputs were changed in place: torch counts that, for all who share a tensor."""

    def __init__(self, outputs: torch.Tensor) -> None:
        self.counter = outputs.detach()
        self.counter.data = NOTHING[outputs.dtype]  # it shares the count but not the memory
        self.before = self.counter._version

    def any(self) -> bool:
        return bool(self.counter._version != self.before)
