"""The terms that backpropagation through time sums: one step's loss, by the step it passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from throughtime.arrays import Array, positive, refuse
from throughtime.network.network import Network
from throughtime.network.truncation import one_direction
from throughtime.parameters import Parameters


@dataclass(frozen=True)
class Contributions:
    """The gradient of one step's loss, term by term.

    Every step uses the same weights, so ∂E_t/∂W = Σ_{k≤t} (what W did at step k):
    the term "from s_k" is δz_k x_kᵀ for W, δz_k s_{k−1}ᵀ for U, and δz_k for b.

    Attributes:
        step: t, counted from 0.
        loss: E_t, weighted as in the network's loss.
        terms: by lag: `terms[0]` is from s_t, `terms[1]` from s_{t−1}, … `terms[t]` from the
            first step; each has the names and shapes of the gradient. A layer without a
            state contributes to the first one only.
    """

    step: int
    loss: float
    terms: list[Parameters]

    @property
    def gradient(self) -> Parameters:
        """The sum of all terms: ∂E_t/∂(parameters)."""
        return reduce(add, self.terms)

    def norms(self, name: str) -> Array:
        """‖term‖₂ of one parameter by lag, (t + 1,)."""
        return np.array([np.linalg.norm(term[name]) for term in self.terms], np.float64)


def contributions(
    network: Network,
    inputs: Array,
    targets: Array,
    *,
    step: int,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
) -> Contributions:
    """Splits the gradient of one step's loss by the steps that it passed through.

    Args:
        network: with a loss, and in one direction only.
        inputs, targets, state, lengths: as in `Network.loss_and_gradient`.
        step: t, counted from 0.

    Raises:
        ValueError: for a bidirectional network, or a step beyond the run.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.RNN(2, 3), tt.Dense(3, 1)], tt.MeanSquaredError(), seed=1)
        >>> x, y = np.ones((4, 1, 2), np.float32), np.zeros((4, 1, 1), np.float32)
        >>> found = tt.contributions(net, x, y, step=3)
        >>> [len(found.norms(name)) for name in ("0.U", "1.W")]
        [4, 4]
        >>> found.norms("1.W")[1:]  # the head has no memory
        array([0., 0., 0.])
    """
    one_direction(network)
    network, inputs, targets = network.in_time(inputs, targets)
    outputs, _, tape = network.forward(inputs, state, lengths)
    if positive("step", step, at_least=0) >= len(outputs):
        refuse("step", f"0 to T − 1 = {len(outputs) - 1}", step)
    loss = network.loss_of(outputs, targets, lengths)
    doutputs = np.zeros_like(outputs)
    doutputs[step] = loss.doutputs[step]
    deltas = network.backward(tape, doutputs, need_inputs=False).deltas
    terms = []
    for k in range(step, -1, -1):
        cut = tape.steps(k, k + 1)
        term = network.parameters.zeros_like()
        for number, layer in enumerate(network.layers):
            own = {name: array[k : k + 1] for name, array in deltas.get(number, {}).items()}
            p = network.of_layer(number)
            for name, array in layer.parameter_gradients(p, cut.layers[number], own).items():
                term[f"{number}.{name}"] = array
        terms.append(term)
    weighted = loss.weights[step] * loss.terms[step]
    return Contributions(step, float(weighted.sum()), terms)
