"""What a notebook's program is like: its cell, head, loss and data, and how it stores its weights.

Nothing here comes from the four styles beside it, whose habits are other ones: wide output layers,
batches, time first, weights of order 1/√H.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array

CELLS = ("RNN", "LSTM", "GRU")
NO_HEAD = ("sum of h", "squared h")
HEADS = (
    *NO_HEAD,
    "one output",
    "linear",
    "softmax",
    "two layers",
    "sigmoid, cross-entropy",
    "sigmoid, squared",
    "outside",
)
STORED = ("gate by gate", "gate by gate, [x, h]", "gate by gate, [h, x]", "two", "[x, h]", "[h, x]")
GATES = {"RNN": "h", "LSTM": "figo", "GRU": "rzn"}
WORDS = 6  # rows of an embedding


@dataclass(frozen=True)
class Habits:
    """One program, its sizes and its data.

    Attributes:
        cell: "RNN", "LSTM" or "GRU".
        variant: of an RNN "tanh", "relu" or "sigmoid"; of an LSTM "", "peepholes", "coupled"
            (f = 1 − i) or "h = o c"; of a GRU where the reset gate stands and what z keeps, as
            "before, z", "before, 1-z", "after, z" or "after, 1-z".
        head: one of `HEADS`. "sum of h": L = Σ h ⊙ given numbers, for layers that are tested by
            themselves; "squared h": the states themselves are the answers; "outside": a linear
            head whose matrix is no parameter.
        stored: one of `STORED`: how W and U are held.
        names: which of the usual names, see `storage`.
        columns: whether vectors are columns, (H, 1), and z = W x; otherwise rows, and z = x W.
        biases: whether there are any.
        head_first: whether the head's parameters are the first.
        T, B, I, H, O: steps, sequences, inputs, hidden units, outputs.
        answers: "every step" or "last step".
        time, batch, outputs: "sum" or "mean".
        half, root: whether the squared error is halved, or its root taken.
        epsilon: added to p inside the logarithm.
        one_hot: whether inputs are one-hot; otherwise they are numbers.
        embedding: whether inputs are words whose vectors are parameters.
        layers: one or two.
        decay: λ of λ/2 Σ W² in the loss.
        scale: standard deviation of the weights.
        bias: that of the biases as a multiple of it; mostly 0.
        states: whether the initial states differ from 0.
        unused: whether there is a parameter on which the loss does not depend.
        dtype, seed: of parameters and data.
        longest: the number of steps for which there are data.
    """

    cell: str
    variant: str = ""
    head: str = "softmax"
    stored: str = "gate by gate"
    names: int = 0
    columns: bool = True
    biases: bool = True
    head_first: bool = False
    T: int = 5
    B: int = 1
    I: int = 3  # noqa: E741
    H: int = 4
    O: int = 3  # noqa: E741
    answers: str = "every step"
    time: str = "sum"
    batch: str = "mean"
    outputs: str = "sum"
    half: bool = False
    root: bool = False
    epsilon: float = 0.0
    one_hot: bool = False
    embedding: bool = False
    layers: int = 1
    decay: float = 0.0
    scale: float = 0.5
    bias: float = 0.0
    states: bool = False
    unused: bool = False
    dtype: str = "float64"
    seed: int = 0
    longest: int = 12

    def __str__(self) -> str:
        sizes = ",".join(str(getattr(self, name)) for name in "TBIHO")
        named = {
            "two layers of cells": self.layers == 2,
            "no biases": not self.biases,
            "(H, 1)": self.columns,
            "head first": self.head_first,
            "one-hot": self.one_hot,
            "embedding": self.embedding,
            "half": self.half,
            "root": self.root,
            f"ε={self.epsilon:g}": self.epsilon > 0,
            f"λ={self.decay:g}": self.decay > 0,
            "states": self.states,
            "unused parameter": self.unused,
            "last step": self.answers == "last step",
            f"outputs {self.outputs}": self.outputs == "mean",
        }
        cell = f"{self.cell} ({self.variant})" if self.variant else self.cell
        words = [cell, self.head, self.stored, sizes, self.dtype, f"weights {self.scale:.2g}"]
        words += [
            f"time {self.time}, batch {self.batch}",
            *(n for n, there in named.items() if there),
        ]
        return ", ".join(words)

    @property
    def gates(self) -> str:
        """The letters of the gates that have weights."""
        return GATES[self.cell].replace("f", "" if self.variant == "coupled" else "f")

    @property
    def error(self) -> str:
        """ "softmax", "squared", "binary" or "sum"."""
        kinds = {"sum of h": "sum", "softmax": "softmax", "sigmoid, cross-entropy": "binary"}
        return kinds.get(self.head, "squared")

    @property
    def last(self) -> bool:
        """Whether only the last step is answered."""
        return self.answers == "last step"

    def inputs(self) -> Array:
        """(longest, B, I), or words (longest, B)."""
        draw = self._draw(1)
        if self.embedding:
            return draw.integers(0, WORDS, (self.longest, self.B))
        if self.one_hot:
            return np.eye(self.I, dtype=self.dtype)[
                draw.integers(0, self.I, (self.longest, self.B))
            ]
        return draw.standard_normal((self.longest, self.B, self.I)).astype(self.dtype)

    def targets(self) -> Array:
        """Classes (longest, B), or numbers (longest, B, O)."""
        draw, shape = self._draw(2), (self.longest, self.B)
        if self.error == "softmax":
            return draw.integers(0, self.O, shape)
        if self.error == "binary":
            return draw.integers(0, 2, (*shape, self.O)).astype(self.dtype)
        found = draw.standard_normal((*shape, self.O))
        if self.head == "sigmoid, squared":
            found = (found > 0).astype(float)
        return found.astype(self.dtype)

    def start(self, layer: int, which: str) -> Array:
        """An initial state (B, H)."""
        if not self.states:
            return np.zeros((self.B, self.H), self.dtype)
        drawn = self._draw(10 + 2 * layer + (which == "c")).standard_normal((self.B, self.H))
        return (drawn * 0.5).astype(self.dtype)

    def weights(self, place: int, shape: tuple[int, ...]) -> Array:
        """Parameter number `place`."""
        drawn = self._draw(100 + place).standard_normal(shape) * self.scale
        return drawn.astype(self.dtype)

    def _draw(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])
