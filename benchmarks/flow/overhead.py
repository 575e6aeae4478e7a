"""The cost of watching the flow while a network trains: the same updates with it and without."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from benchmarks.engine import Row
from throughtime.cells import LSTM
from throughtime.gradient_flow import FlowRecorder
from throughtime.network import Dense, Network, SoftmaxCrossEntropy
from throughtime.training import Adam

STEPS, BATCH, UNITS, CLASSES = 64, 16, 128, 64
SECONDS, QUICK = 20.0, 1.0  # about the length of one run
TURNS = 2


def overhead_rows(quick: bool) -> list[Row]:
    """Seconds of the same updates with a recorder and without, in turns; the better of each."""
    updates = max(1, int((QUICK if quick else SECONDS) / (_train(10, None) / 10)))
    plain, watched = [], []
    for _ in range(1 if quick else TURNS):
        plain.append(_train(updates, None))
        with FlowRecorder(live=False) as recorder:
            seconds = _train(updates, recorder)
            watched.append((seconds, recorder.budget.looks, recorder.budget.taken))
    seconds, looks, taken = min(watched)
    return [
        {
            "part": "overhead",
            "case": f"LSTM {BATCH},{STEPS},{CLASSES},{UNITS} float32",
            "updates": updates,
            "seconds": seconds,
            "plain_seconds": min(plain),
            "overhead": seconds / min(plain) - 1,
            "looks": looks,
            "taken": taken,
        }
    ]


def _train(updates: int, recorder: FlowRecorder | None) -> float:
    """Seconds of that many updates of a new network."""
    recurrent, head = LSTM(CLASSES, UNITS), Dense(UNITS, CLASSES)
    network = Network([recurrent, head], SoftmaxCrossEntropy(), dtype="float32", seed=0)
    symbols = np.random.default_rng(0).integers(0, CLASSES, (STEPS + 1, BATCH))
    inputs, targets = symbols[:-1], symbols[1:]
    optimiser = Adam(network.parameters.flat.size)
    began = perf_counter()
    for _ in range(updates):
        _, gradient = network.loss_and_gradient(inputs, targets)
        norm = gradient.norm()  # clipping needs it too
        if recorder is not None:
            recorder.observe(network, inputs, targets, norm=norm)
        optimiser.update(network.parameters.flat, gradient.flat, 1e-3)
    return perf_counter() - began
