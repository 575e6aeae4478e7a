"""Problems with known memory: copying, adding, and a linear network in closed form.

In the copying problem (Hochreiter and Schmidhuber 1997; Arjovsky, Shah and Bengio 2016) symbols are
shown, and the network must repeat them `lag` steps later. In the adding problem two numbers are
marked, `lag` steps apart, and the last step asks for their sum. Only steps that ask have a loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.cases import CELLS
from throughtime.arrays import Array
from throughtime.network import Dense, Loss, MeanSquaredError, Network, SoftmaxCrossEntropy
from throughtime.training import Adam, clip

SYMBOLS = 8
SHOWN = 10  # symbols to be copied; steps in which the first number may be marked
UNITS, BATCH = 32, 32
UPDATES, RATE = 200, 3e-3


class AtTheEnd(Loss):
    """Mixed into a loss, so that only the last steps count."""

    last: int

    def weights(self, steps: int, batch: int, lengths: Array | None = None) -> Array:
        """(T, B)."""
        found = np.zeros((steps, batch))
        found[-self.last :] = 1 / (self.last * batch)
        return found


class Recall(AtTheEnd, SoftmaxCrossEntropy):
    """The loss of the copied symbols."""

    last = SHOWN


class Answer(AtTheEnd, MeanSquaredError):
    """The loss of the sum."""

    last = 1


@dataclass(frozen=True)
class Task:
    """One problem.

    Attributes:
        name: "copying" or "adding".
        lag: the number of steps between what is shown and the answer.
    """

    name: str
    lag: int

    def network(self, cell: str, seed: int) -> Network:
        """One recurrent layer and a head, untrained."""
        classes = SYMBOLS + 1
        inputs, outputs = (classes, SYMBOLS) if self.name == "copying" else (2, 1)
        loss: Loss = Recall() if self.name == "copying" else Answer()
        recurrent, head = CELLS[cell](inputs, UNITS), Dense(UNITS, outputs)
        return Network([recurrent, head], loss, dtype="float32", seed=seed)

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """The inputs and targets of B sequences of lag + 10 steps."""
        T = self.lag + SHOWN
        if self.name == "copying":
            seen = rng.integers(0, SYMBOLS, (SHOWN, BATCH))
            inputs, targets = np.full((T, BATCH), SYMBOLS), np.zeros((T, BATCH), np.intp)
            inputs[:SHOWN], targets[-SHOWN:] = seen, seen
            return inputs, targets
        first = rng.integers(0, SHOWN, BATCH)
        numbers, marks, sums = rng.random((T, BATCH)), np.zeros((T, BATCH)), np.zeros((T, BATCH))
        for place in (first, first + self.lag):
            marks[place, np.arange(BATCH)] = 1
        sums[-1] = (numbers * marks).sum(axis=0)
        x, y = np.stack([numbers, marks], axis=2), sums[..., None]
        return x.astype(np.float32), y.astype(np.float32)

    def train(self, network: Network, rng: np.random.Generator, updates: int | None = None) -> None:
        """Makes some updates by Adam, each on new sequences."""
        optimiser = Adam(network.parameters.flat.size)
        for _ in range(UPDATES if updates is None else updates):
            _, gradient = network.loss_and_gradient(*self.draw(rng))
            clip(gradient, 1.0)
            optimiser.update(network.parameters.flat, gradient.flat, RATE)


class LinearNetwork:
    """s_t = U s_{t−1} + b at s = 0, with a symmetric U.

    The gradient of a loss with respect to b decays as λˡ along each eigenvector.

    The gradient that passes through the lags from K on is Σ_t Σ_{K ≤ l ≤ t} Uˡ δh_t.
    """

    def __init__(self, rng: np.random.Generator, units: int = 8) -> None:
        self.eigenvalues = rng.uniform(-0.5, 0.97, units)
        self.vectors = np.linalg.qr(rng.standard_normal((units, units)))[0]
        loss = MeanSquaredError(time="sum", batch="sum")
        self.network = Network([CELLS["RNN"](1, units)], loss, dtype="float64")
        self.network.parameters.flat[...] = 0
        U = self.vectors * self.eigenvalues @ self.vectors.T
        self.network.parameters["0.U"] = U
        self.mean = rng.standard_normal(units)

    def draw(self, rng: np.random.Generator, steps: int = 200) -> tuple[Array, Array]:
        """Inputs of 0, and targets around a mean."""
        units = len(self.mean)
        targets = self.mean + 2 * rng.standard_normal((steps, BATCH, units))
        return np.zeros((steps, BATCH, 1)), targets

    def bias(self, targets: Array, K: int) -> float:
        """‖R_K‖ / ‖∇L‖ in closed form."""
        T, _, units = targets.shape
        dh = (-2 / units * targets.sum(axis=1)) @ self.vectors  # (T, units), in eigenvectors
        t, powers = np.arange(T)[:, None], self.eigenvalues

        def through(first: int) -> float:
            geometric = (powers**first - powers ** (t + 1)) / (1 - powers)
            return float(np.linalg.norm(np.where(t >= first, dh * geometric, 0).sum(axis=0)))

        return through(K) / through(0)
