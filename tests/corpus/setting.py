"""What an implementation is asked for: sizes, precision, initialisation, how the loss is reduced.

Data are drawn step by step, so that the first T steps of a longer sequence are those of a shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from throughtime.arrays import Array

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Setting:
    """One network, its data and the mistakes in its backward pass.

    Attributes:
        cell: "RNN", "GRU" or "LSTM".
        T, B, I, H, O: steps, sequences, inputs, hidden units, classes or outputs.
        dtype: "float32" or "float64", of everything.
        seed: of parameters and data.
        init: standard deviation of the weights; None: 1/√H.
        time, batch: how the loss is reduced over steps and over sequences.
        task: "softmax" answers at every step with a class, "regression" at the last with O numbers.
        activation: of an RNN, "tanh" or "relu".
        layers: how many recurrent layers lie on one another.
        dropout: share of hidden units that the head does not see.
        decay: λ of an L2 term λ/2 Σ W² over all matrices.
        ragged: whether sequences differ in length, T down to T/2.
        states: whether the initial state is other than 0.
        projection: whether an LSTM's hidden state is projected to one unit less, P = H − 1.
        bidirectional: whether every layer also runs backwards through time.
        root: whether the root of the mean squared error is the loss.
        terms: whether the loss comes as terms, one a step, instead of one number.
        faults: names of mistakes, see `faults.FAULTS`.
    """

    cell: str
    T: int = 6
    B: int = 2
    I: int = 3  # noqa: E741  (the field's name for the number of inputs)
    H: int = 4
    O: int = 3  # noqa: E741
    dtype: str = "float64"
    seed: int = 0
    init: float | None = None
    time: Reduction = "mean"
    batch: Reduction = "mean"
    task: Literal["softmax", "regression"] = "softmax"
    activation: Literal["tanh", "relu"] = "tanh"
    layers: int = 1
    dropout: float = 0.0
    decay: float = 0.0
    ragged: bool = False
    states: bool = False
    projection: bool = False
    bidirectional: bool = False
    root: bool = False
    terms: bool = False
    faults: frozenset[str] = frozenset()

    def inputs(self) -> Array:
        """(T, B, I)."""
        return self._numbers(1, (self.T, self.B, self.I))

    def labels(self) -> Array:
        """Class indices (T, B)."""
        return self._generator(2).integers(0, self.O, (self.T, self.B))

    def answers(self) -> Array:
        """What the last step should say, (B, O)."""
        return self._numbers(3, (self.B, self.O))

    def start(self, which: int) -> Array:
        """Initial state number `which`, (B, H)."""
        if not self.states:
            return np.zeros((self.B, self.H), self.dtype)
        return self._numbers(4 + which, (self.B, self.H)) * 0.5

    @property
    def P(self) -> int:
        """The size of the hidden state in one direction."""
        return self.H - self.projection

    @property
    def D(self) -> int:
        """How many directions there are."""
        return 1 + self.bidirectional

    def lengths(self) -> Array:
        """Steps of every sequence, (B,)."""
        shortest = (self.T + 1) // 2 if self.ragged else self.T
        return np.linspace(self.T, shortest, self.B).astype(int)

    def weights(self, place: int, *shape: int) -> Array:
        """Parameter number `place`, before anything was learnt."""
        scale = self.H**-0.5 if self.init is None else self.init
        return np.asarray(self._numbers(100 + place, shape) * scale, self.dtype)

    def _numbers(self, stream: int, shape: tuple[int, ...]) -> Array:
        return self._generator(stream).standard_normal(shape).astype(self.dtype)

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])
