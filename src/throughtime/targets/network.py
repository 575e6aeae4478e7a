"""A network, its inputs and its targets as a target: its exact gradient, or the truncated one.

The windows of a truncated gradient begin at states that stand still during the check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array, positive, refuse, step_counts
from throughtime.diagnosis import NetworkLayout
from throughtime.gradcheck import Target, frozen
from throughtime.network import (
    MaskTape,
    Network,
    TruncationWindow,
    checked_inputs,
    merged_windows,
    one_direction,
    truncated_loss_and_gradient,
    windows,
)
from throughtime.parameters import Parameters


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
    network, inputs, targets = network.in_time(inputs, targets)
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


def truncated_target(
    network: Network,
    inputs: Array,
    targets: Array,
    *,
    k1: int,
    k2: int | None = None,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    dropout_seed: int | None = None,
) -> Target:
    """The truncated gradient of a network, and the loss of which it is the exact gradient.

    Each window runs forward from the state that the whole run carries into it; this state
    stands still while the check perturbs the network's parameters. The losses of a window that
    count are those that its gradient follows back.

    Args:
        network, inputs, targets, state, lengths, dropout_seed: as in
            `Network.loss_and_gradient`.
        k1, k2: as in `truncated_loss_and_gradient`.

    Raises:
        ValueError: for a bidirectional network.
    """
    one_direction(network)
    network, inputs, targets = network.in_time(inputs, targets)
    x = checked_inputs(network.layers[0], network.inputs, network.dtype, inputs)
    counts = step_counts(lengths, *x.shape[:2])
    plan = merged_windows(windows(len(x), k1, k1 if k2 is None else k2))

    def carried() -> list[_WindowStart]:
        _, _, tape = network.forward(x, state, counts, dropout_seed=dropout_seed)
        masks = {n: own.mask for n, own in enumerate(tape.layers) if isinstance(own, MaskTape)}
        dropped = {number: mask for number, mask in masks.items() if mask is not None}
        return [_WindowStart(network.state_after(tape, window.start), dropped) for window in plan]

    def loss(starts: Sequence[_WindowStart]) -> Array:
        outputs = np.concatenate(
            [_outputs(network, x, w, own) for w, own in zip(plan, starts, strict=True)]
        )
        steps = np.concatenate([np.arange(w.first, w.stop) for w in plan])
        assert network.loss is not None  # loss_and_gradient has refused its absence
        weights = network.loss.weights(x.shape[0], x.shape[1], counts)[steps]
        wanted = network.loss.check_targets(np.asarray(targets)[steps], outputs)
        terms: Array = weights * network.loss.evaluate(outputs, wanted, weights).terms
        return terms

    def gradient() -> Parameters:
        return truncated_loss_and_gradient(
            network,
            x,
            targets,
            k1=k1,
            k2=k2,
            state=state,
            lengths=counts,
            dropout_seed=dropout_seed,
        )[1]

    def at_length(steps: int) -> Target:
        if positive("steps", steps) > len(x):
            refuse("steps", f"1 to T = {len(x)}", steps)
        return truncated_target(
            network,
            x[:steps],
            targets[:steps],
            k1=k1,
            k2=k2,
            state=state,
            lengths=None if counts is None else np.minimum(counts, steps),
            dropout_seed=dropout_seed,
        )

    return frozen(network.parameters, loss, gradient, carried, at_length=at_length, steps=len(x))


@dataclass(frozen=True)
class _WindowStart:
    """Where a window begins: its state, and the whole run's dropout masks by layer."""

    state: Parameters
    masks: Mapping[int, Array]


def _outputs(network: Network, x: Array, window: TruncationWindow, begin: _WindowStart) -> Array:
    """The outputs of those steps of a window whose losses count.

    Lengths play no part, since what follows a sequence's end has the weight 0.
    """
    y = x[window.start : window.stop]
    for number, layer in enumerate(network.layers):
        if number in begin.masks:
            y = y * begin.masks[number][window.start : window.stop]
            continue
        own = {name: begin.state[f"{number}.{name}"] for name in layer.state_sizes()}
        y, _, _ = layer.forward(network.of_layer(number), y, own, None, None)
    return y[window.first - window.start :]
