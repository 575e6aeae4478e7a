"""From what a module receives to what the engine walks over, and back.

The engine wants (T, B, I), time first, and its second direction in its own order of time. A
PackedSequence's rows are those of all steps, longest sequences first: each row has its place
among the T·B of the padded array, forwards and backwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from throughtime.arrays import Array


class Layout(NamedTuple):
    """One direction's order of rows.

    Attributes:
        steps, batch: T and B.
        lengths: (B,) steps of each sequence; None where all have T.
        packed: whether inputs come as a PackedSequence's rows (N, I).
        place: (N,) where each of these rows stands among T·B; None where they stand in order.
        reverse: whether time runs backwards.
    """

    steps: int
    batch: int
    lengths: Array | None = None
    packed: bool = False
    place: torch.Tensor | None = None
    reverse: bool = False

    @property
    def in_order(self) -> bool:
        """Whether rows come as the engine walks over them."""
        return self.place is None and not self.reverse

    def as_rows(self, array: Any) -> Any:
        """(T, B, ·) as rows (T·B, ·), where the inputs are rows."""
        return array.reshape(self.steps * self.batch, -1) if self.packed else array

    def lay(self, x: torch.Tensor) -> torch.Tensor:
        """Rows as they come -> (T, B, ·) in this direction's order of time."""
        if self.place is not None:
            padded = x.new_zeros(self.steps * self.batch, x.shape[-1])
            return padded.index_copy_(0, self.place, x).view(self.steps, self.batch, -1)
        if self.packed:
            x = x.reshape(self.steps, self.batch, -1)
        return x.flip(0) if self.reverse else x.contiguous()

    def back(self, y: torch.Tensor) -> torch.Tensor:
        """The inverse of `lay`."""
        if self.place is not None:
            return y.reshape(self.steps * self.batch, -1).index_select(0, self.place)
        if self.reverse:
            y = y.flip(0)
        return self.as_rows(y)


def dense(steps: int, batch: int) -> tuple[Layout, Layout]:
    """Both directions of inputs (T, B, I)."""
    return Layout(steps, batch), Layout(steps, batch, None, False, None, True)


def packed(batch_sizes: torch.Tensor) -> tuple[Layout, Layout]:
    """Both directions of a PackedSequence, from how many of its sequences run at each step."""
    running = batch_sizes.numpy()
    steps, batch = len(running), int(running[0])
    if running[-1] == batch:  # all have the same length
        return Layout(steps, batch, packed=True), Layout(steps, batch, packed=True, reverse=True)
    active = np.arange(batch) < running[:, None]
    lengths = active.sum(axis=0)
    t, b = np.nonzero(active)
    places = (t * batch + b, (lengths[b] - 1 - t) * batch + b)
    forwards, backwards = (
        Layout(steps, batch, lengths, True, torch.from_numpy(place), reverse)
        for place, reverse in zip(places, (False, True), strict=True)
    )
    return forwards, backwards
