"""A network, its inputs and its targets as a target of the checker."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from throughtime.arrays import Array, positive, refuse
from throughtime.diagnosis import NetworkLayout
from throughtime.gradcheck import Target
from throughtime.network import Network


def network_target(
    network: Network,
    inputs: Array,
    targets: Array,
    *,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    dropout_seed: int | None = None,
) -> Target:
    """The loss of a network by its weighted terms (T, B), and its gradient by exact BPTT.

    The network's own parameters are perturbed and put back.
    """
    options = {"state": state, "lengths": lengths, "dropout_seed": dropout_seed}

    def loss() -> Array:
        value = network.evaluate(inputs, targets, **options)  # type: ignore[arg-type]
        terms: Array = value.weights * value.terms
        return terms

    def gradient() -> Mapping[str, Array]:
        return network.loss_and_gradient(inputs, targets, **options)[1]  # type: ignore[arg-type]

    def at_length(steps: int) -> Target:
        if positive("steps", steps) > len(inputs):
            refuse("steps", f"1 to T = {len(inputs)}", steps)
        shorter = None if lengths is None else np.minimum(lengths, steps)
        return network_target(
            network,
            inputs[:steps],
            targets[:steps],
            state=state,
            lengths=shorter,
            dropout_seed=dropout_seed,
        )

    return Target(
        network.parameters,
        loss,
        gradient,
        at_length=at_length,
        steps=len(inputs),
        layout=NetworkLayout(network, inputs, targets, state, lengths),
    )
