"""How the entries of a torch loss are the losses of steps and sequences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.torch.models.observed_run import Seen

EXPECTED = "the loss of each step, (T, B) or (T,), of each sequence, (B,), or one number"


@dataclass(frozen=True)
class Layout:
    """One way to read the loss's entries as terms of steps.

    Attributes:
        place: (T, B), which entry is the term of a step of a sequence; −1 where none is.
        share: how many sequences one entry belongs to.
        at_end: whether an entry is the loss of a whole sequence or run, at its last step.
    """

    place: Array
    share: int = 1
    at_end: bool = False

    def values(self, entries: Array) -> Array:
        """(T, B)."""
        terms = entries.reshape(-1)[self.place] / self.share
        return np.where(self.place < 0, entries.dtype.type(0), terms)

    def seed(self, found: Any) -> Any:
        """1 for every entry that is a term."""
        return self.of_steps(found, np.arange(len(self.place)))

    def of_steps(self, found: Any, steps: Array) -> Any:
        """1 for the entries of these steps."""
        weights = np.zeros(found.numel())
        own = self.place[steps]
        weights[own[own >= 0]] = 1
        return _like(found, weights)

    def spread(self, weights: Array, found: Any, axis: int) -> Any:
        """Weights of the steps, (T,), or along axis 1 of the sequences, (B,), to the entries."""
        entries = np.zeros(found.numel())
        inside = self.place >= 0
        each = np.broadcast_to(weights[:, None] if axis == 0 else weights, inside.shape)
        entries[self.place[inside]] = each[inside]
        return _like(found, entries)


def _like(found: Any, entries: Array) -> Any:
    return import_module("torch").from_numpy(entries.reshape(tuple(found.shape))).to(found)


def layouts(seen: Seen, shape: tuple[int, ...]) -> Iterator[Layout]:
    """Those that the shape allows; more than one where T = B, or where it is flat."""
    T, B = seen.inputs.shape[:2]
    packed, grid = seen.form.packed, np.arange(T * B)
    if packed is not None and shape == tuple(packed.data.shape[:1]):
        numbers = import_module("torch").arange(1, len(packed.data) + 1)[:, None]
        yield Layout(seen.form.time_major(numbers).numpy()[..., 0] - 1)  # padded with 0
    lasting = np.arange(T)[:, None] <= seen.last
    for batch_first in (seen.form.batch_first, not seen.form.batch_first):
        if shape in ((B, T) if batch_first else (T, B), (T * B,)):
            place = grid.reshape(B, T).T if batch_first else grid.reshape(T, B)
            yield Layout(np.where(lasting, place, -1))
    if shape == (T,):  # added up over sequences
        place = np.repeat(np.arange(T)[:, None], B, axis=1)
        yield Layout(np.where(lasting, place, -1), share=B)
    if shape == (B,):
        yield Layout(np.repeat(np.arange(B)[None], T, axis=0), at_end=True)
    if not shape:
        yield Layout(np.zeros((T, B), np.intp), share=B, at_end=True)
