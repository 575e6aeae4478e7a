"""The loss on text that is not trained on."""

from __future__ import annotations

import math

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.network import Network
from throughtime.training.processes import Processes
from throughtime.training.streams import parallel

STREAMS = 64  # each begins with a zero state, so that more of them cost a little of the score
SHORTEST = 100  # characters a stream
STEPS = 256  # run at once


def bits_per_character(network: Network, codes: Array, processes: Processes | None = None) -> float:
    """Mean −log₂ p of each character of a text after its first, given those before it.

    The text runs in up to 64 parallel streams, the state carried from end to end in each of
    them; without dropout. Several processes share the streams.
    """
    if len(codes) < 2:
        refuse("held-out text", "at least 2 characters", len(codes), "give more text")
    inputs, targets = parallel(codes, max(1, min(STREAMS, len(codes) // SHORTEST)))
    processes = processes or Processes()
    own = processes.share(inputs.shape[1])
    state, total = None, 0.0
    for start in range(0, len(inputs) if own.stop > own.start else 0, STEPS):
        stretch = slice(start, start + STEPS), own
        with np.errstate(over="ignore", invalid="ignore"):  # the result shows it
            outputs, state, _ = network.forward(inputs[stretch], state)
            loss = network.loss_of(outputs, targets[stretch])
        total += float(loss.terms.sum(dtype="float64"))
    return processes.total(total) / inputs.size / math.log(2)
