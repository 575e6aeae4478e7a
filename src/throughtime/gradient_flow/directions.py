"""A module's recurrences, each as a network of its own with what arrives there as its loss.

What truncation gives up, by which path gradients go, and for how long units remember, are facts
of a recurrence. The layers of a stack that runs in one direction are one: time goes the same way in
all of them. Of layers that run both ways each direction is one by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.descent import Line, Stack
from throughtime.gradient_flow.external_loss import ExternalLoss, external_targets
from throughtime.gradient_flow.upstream import Losses, UpstreamGradient
from throughtime.network import Network


@dataclass(frozen=True)
class Recurrence:
    """What `Network.loss_and_gradient` takes, in the recurrence's own time.

    Attributes:
        first: the number of its first layer, where both directions of all layers are counted.
        backwards: whether its time runs from the end to the beginning.
    """

    network: Network
    inputs: Array
    targets: Array
    state: Mapping[str, Array] | None
    first: int = 0
    backwards: bool = False


def recurrences(
    network: Network,
    inputs: Array,
    losses: Losses,
    state: Mapping[str, Array] | None,
    stack: Stack,
) -> Iterator[Recurrence]:
    """Of a module whose layers run in one direction, or both."""
    if not network.bidirectional:
        own, targets = _with_loss(network, losses.whole, losses.values, stack.last)
        yield Recurrence(own, inputs, targets, state)
        return
    for passing in stack.descend(losses.whole):
        for _ in passing.walk(0):
            pass  # the layer below receives what is left
        line = passing.line
        arriving = np.ldexp(passing.arriving.parts["h"], passing.arriving.powers[..., None])
        final = {f"0.{part}": end for part, end in passing.final.items()}
        upstream = UpstreamGradient(arriving, final)
        values = losses.values if line.number == 0 else np.zeros_like(losses.values)  # once
        own, targets = _with_loss(_alone(line), upstream, values, stack.last)
        begin = {f"0.{part}": array[0] for part, array in line.tape.states.items()}
        x = np.ascontiguousarray(line.tape.inputs)
        yield Recurrence(own, x, targets, begin, line.number, line.backwards)


def _alone(line: Line) -> Network:
    found = Network([replace(line.linear.cell, bidirectional=False)], dtype=line.linear.dtype)
    for name, array in line.p.items():
        found.parameters[f"0.{name}"] = array
    return found


def _with_loss(
    network: Network, whole: UpstreamGradient, values: Array, last: Array
) -> tuple[Network, Array]:
    """The network with what arrives as its loss, and its targets."""
    also = {}
    for name, part in whole.final.items():
        layer, letter = name.split(".")
        array = np.zeros((*values.shape, part.shape[2]), part.dtype)
        array[last, np.arange(len(last))] = part[0]
        also[int(layer), letter] = array
    names, targets = external_targets(whole.outputs[0], values, also)
    found = Network(network.specs, ExternalLoss(also=names), dtype=network.dtype)
    found.parameters.flat[...] = network.parameters.flat
    return found, targets
