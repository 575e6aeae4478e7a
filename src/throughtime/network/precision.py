"""What a network's precision costs: how far its gradient is from that in float64, and whether
that is the same everywhere nearby.

Rounding errors of a gradient are e(θ) = g(θ) − g₆₄(θ). At parameters moved by less than a rounding
all of them are drawn anew. What they have in common is the bias: every update of a training run
feels it. The rest is noise, which averages out as that of minibatches does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime.arrays import Array, generator, positive, refuse, step_counts
from throughtime.network.network import Network
from throughtime.parameters import Parameters

MOVE = 2.0**-8  # relative, at most: half the distance of neighbours in bfloat16, to either side
SHORTER = 4  # times: each length but the first, down to one step


@dataclass(frozen=True)
class PrecisionCost:
    """The errors of a gradient, relative to the gradient in float64, ‖·‖ / ‖g₆₄‖.

    Attributes:
        steps: T, the longest first.
        bias: for each tensor, at each of these lengths, the part of the error that stays when
            parameters move by less than a rounding.
        noise: the root mean square of the rest.
        draws: at how many places the gradient was taken.
    """

    steps: tuple[int, ...]
    bias: dict[str, Array]
    noise: dict[str, Array]
    draws: int

    def __str__(self) -> str:
        width = max(map(len, self.bias))
        lengths = "".join(f"{f'T = {T}':>21}" for T in self.steps)
        titles = f"{'tensor':{width}}" + "       bias     noise" * len(self.steps)
        lines = [f"{'':{width}}{lengths}", titles]
        for name, own in self.bias.items():
            pairs = zip(own, self.noise[name], strict=True)
            lines.append(f"{name:{width}}" + "".join(f"{b:11.1e}{n:10.1e}" for b, n in pairs))
        return "\n".join(lines)


def precision_cost(
    network: Network,
    inputs: Array,
    targets: Any,
    *,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    steps: Sequence[int] | None = None,
    draws: int = 8,
    seed: int = 0,
) -> PrecisionCost:
    """What float32, or products in bfloat16, do to the gradient of each tensor, by T.

    Args:
        network: in float32, with a loss; its parameters stay as they are.
        inputs, targets, state, lengths: as in `Network.loss_and_gradient`, for the longest T.
        steps: the lengths T; if not given the whole, and a quarter of the one before down to 1.
        draws: at how many places the gradient is taken, two at least.
        seed: of these places.

    Raises:
        ValueError: for a network in float64, and lengths or draws that cannot be.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.LSTM(3, 8), tt.Dense(8, 2)], tt.MeanSquaredError())
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal((16, 4, 3), dtype=np.float32)
        >>> y = rng.standard_normal((16, 4, 2), dtype=np.float32)
        >>> cost = tt.precision_cost(net, x, y)
        >>> cost.steps, bool(cost.noise["0.U"][0] < 1e-5)
        ((16, 4, 1), True)
    """
    if network.dtype != np.float32:
        refuse("network", "one in float32", str(network.dtype), "float64 is what it is held to")
    network, inputs, targets = network.in_time(inputs, targets)
    T, B = inputs.shape[:2]
    counts = step_counts(lengths, T, B)
    positive("draws", draws, at_least=2)
    chosen = tuple(_lengths(T) if steps is None else steps)
    for length in chosen:
        if positive("steps", length) > T:
            refuse("steps", f"1 to T = {T}", length)
    rng = generator("seed", seed)
    bias: dict[str, list[float]] = {name: [] for name in network.parameters}
    noise: dict[str, list[float]] = {name: [] for name in network.parameters}
    for length in chosen:
        own = None if counts is None else np.minimum(counts, length)
        run = (inputs[:length], np.asarray(targets)[:length], state, own)
        errors, exact = _errors(network, run, draws, rng)
        for name in bias:
            every = np.array([one[name].ravel() for one in errors], np.float64)
            every /= float(np.linalg.norm(exact[name])) or 1.0
            mean = every.mean(axis=0)
            spread = float(((every - mean) ** 2).sum()) / (draws - 1)
            left = float(mean @ mean) - spread / draws  # less what noise leaves in a mean of few
            bias[name].append(max(left, 0.0) ** 0.5)
            noise[name].append(spread**0.5)
    return PrecisionCost(chosen, _arrays(bias), _arrays(noise), draws)


def _errors(
    network: Network, run: tuple[Any, ...], draws: int, rng: np.random.Generator
) -> tuple[list[Parameters], Parameters]:
    """The gradient's errors at places nearby, and the mean gradient in float64."""
    x, y, state, lengths = run
    doubles = [a.astype(np.float64) if a.dtype == np.float32 else a for a in (x, y)]
    before = None if state is None else {n: a.astype(np.float64) for n, a in state.items()}
    twin, double = network.copy(), network.astype("float64")
    exact, errors = double.parameters.zeros_like(), []
    for _ in range(draws):
        moved = 1 + rng.uniform(-MOVE, MOVE, network.parameters.flat.shape)
        twin.parameters.flat[...] = network.parameters.flat * moved
        double.parameters.flat[...] = twin.parameters.flat
        truth = double.loss_and_gradient(*doubles, state=before, lengths=lengths)[1]
        found = twin.loss_and_gradient(x, y, state=state, lengths=lengths)[1]
        errors.append(truth.like(found.flat - truth.flat))
        exact.flat[...] += truth.flat / draws
    return errors, exact


def _arrays(lists: Mapping[str, list[float]]) -> dict[str, Array]:
    return {name: np.array(own) for name, own in lists.items()}


def _lengths(steps: int) -> list[int]:
    found = [steps]
    while found[-1] > 1:
        found.append(max(1, found[-1] // SHORTER))
    return found
