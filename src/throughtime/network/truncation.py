"""Truncated backpropagation through time (TBPTT): its windows, and what each differentiates.

Every k1 steps the losses of the last k1 steps are differentiated, and their gradient is followed
k2 steps back (Williams and Peng 1990, BPTT(k2; k1)). What lies before is a constant: the state
carried into the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array, positive, refuse
from throughtime.network.data import NetworkTape
from throughtime.network.network import Network
from throughtime.parameters import Parameters


@dataclass(frozen=True)
class TruncationWindow:
    """Consecutive steps that are differentiated together; steps count from 0.

    Attributes:
        start: the step at which the gradient stops; the state before it counts as a constant.
        first: the first step whose loss counts.
        stop: one past the last step.
    """

    start: int
    first: int
    stop: int


def windows(steps: int, k1: int, k2: int) -> list[TruncationWindow]:
    """The windows of a run of T steps; the last one is shorter if k1 does not divide T.

    If k2 < k1, the first k1 − k2 losses before each window's end lie beyond the gradient's reach
    and contribute nothing: `first` is then `start`.

    Example:
        >>> windows(7, k1=3, k2=4)
        [TruncationWindow(start=0, first=0, stop=3), TruncationWindow(start=2, first=3, stop=6),
         TruncationWindow(start=3, first=6, stop=7)]
    """
    for what, number in (("steps", steps), ("k1", k1), ("k2", k2)):
        positive(what, number)
    stops = [*range(k1, steps, k1), steps]
    found = []
    for before, stop in zip([0, *stops], stops, strict=False):
        start = max(0, stop - k2)
        found.append(TruncationWindow(start, max(before, start), stop))
    return found


def truncated_loss_and_gradient(
    network: Network,
    inputs: Array,
    targets: Array,
    *,
    k1: int,
    k2: int | None = None,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    dropout_seed: int | None = None,
) -> tuple[float, Parameters]:
    """The loss of all T steps, and its gradient by TBPTT, summed over the windows.

    The parameters do not change between windows, so that this differs from the full gradient only
    by what truncation gives up. Windows that begin at the same step are differentiated together,
    since backpropagation is linear in the losses: with k2 ≥ T this *is* full BPTT, bit for bit.

    Args:
        network: with a loss, and in one direction only.
        inputs, targets, state, lengths, dropout_seed: as in `Network.loss_and_gradient`.
        k1: the steps between the ends of two windows.
        k2: the steps that the gradient goes back from a window's end; k1 if not given.

    Raises:
        ValueError: for a bidirectional network, since its second direction begins at the end.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.RNN(2, 3)], tt.MeanSquaredError(), dtype="float64")
        >>> x, y = np.ones((9, 1, 2)), np.zeros((9, 1, 3))
        >>> _, full = net.loss_and_gradient(x, y)
        >>> _, short = tt.truncated_loss_and_gradient(net, x, y, k1=3)
        >>> _, whole = tt.truncated_loss_and_gradient(net, x, y, k1=3, k2=9)
        >>> bool((short - full).norm() > 0), whole == full
        (True, True)
    """
    one_direction(network)
    network, inputs, targets = network.in_time(inputs, targets)
    outputs, _, tape = network.forward(inputs, state, lengths, dropout_seed=dropout_seed)
    loss = network.loss_of(outputs, targets, lengths)
    gradient = network.parameters.zeros_like()
    for window in merged_windows(windows(len(outputs), k1, k1 if k2 is None else k2)):
        doutputs = loss.doutputs[window.start : window.stop].copy()
        doutputs[: window.first - window.start] = 0
        stretch = tape.steps(window.start, window.stop)
        network.backward(stretch, doutputs, need_inputs=False, need_deltas=False, gradient=gradient)
    return loss.value, gradient


def merged_windows(found: list[TruncationWindow]) -> list[TruncationWindow]:
    """The windows, those that begin at the same step merged into one."""
    merged: list[TruncationWindow] = []
    for window in found:
        if merged and merged[-1].start == window.start:
            merged[-1] = TruncationWindow(window.start, merged[-1].first, window.stop)
        else:
            merged.append(window)
    return merged


def one_direction(network: Network) -> None:
    """Refuses a bidirectional network."""
    if network.bidirectional:
        refuse(
            "network",
            "layers that run in one direction",
            "a bidirectional one",
            "its second direction begins at the end of the run: use full BPTT",
        )


def differentiate_window(
    network: Network,
    inputs: Array,
    targets: Array,
    *,
    first: int = 0,
    state: Mapping[str, Array] | None = None,
    dropout_seed: int | np.random.Generator | None = None,
) -> tuple[float, Parameters, NetworkTape]:
    """The loss and gradient of one window of training; its loss counts the steps from `first` on.

    Returns:
        the loss, its gradient back to the window's first step, and the tape, from which
        `Network.state_after` takes the state that the next window begins with.
    """
    outputs, _, tape = network.forward(inputs, state, dropout_seed=dropout_seed)
    loss = network.loss_of(outputs[first:], targets[first:])
    doutputs = loss.doutputs
    if first:
        doutputs = np.concatenate([np.zeros_like(outputs[:first]), doutputs])
    found = network.backward(tape, doutputs, need_inputs=False, need_deltas=False)
    return loss.value, found.parameters, tape
