"""The lag profile of a long stream, beside one training pass over it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.engine import Row
from benchmarks.timing import clock, take_turns
from throughtime.arrays import Array
from throughtime.cells import LSTM
from throughtime.network import Dense, Network, SoftmaxCrossEntropy, differentiate_window
from throughtime.parameters import Parameters
from throughtime.questions import flow

STEPS = 100_000
QUICK = 10_000
LAGS = 100
WINDOW = 100
CLASSES = 64
UNITS = 128


def stream_rows(quick: bool) -> list[Row]:
    """Seconds of the profile, with and without carousel and spectrum, and of a training pass."""
    steps = QUICK if quick else STEPS
    recurrent, head = LSTM(CLASSES, UNITS), Dense(UNITS, CLASSES)
    network = Network([recurrent, head], SoftmaxCrossEntropy(), dtype="float32", seed=0)
    symbols = np.random.default_rng(0).integers(0, CLASSES, (steps + 1, 1))
    given = (network, symbols[:-1], symbols[1:])
    lags: dict[str, Any] = {"max_lag": LAGS, "carousel": False, "spectrum": False}
    best = take_turns(
        {
            "profile": clock(partial(flow, *given, **lags)),
            "everything": clock(partial(flow, *given, max_lag=LAGS)),
            "windows": clock(partial(in_windows, *given)),
            "whole": clock(partial(network.loss_and_gradient, *given[1:])),
        },
        0,
        1 if quick else 2,
    )
    training = min(best["windows"], best["whole"])
    return [
        {
            "part": "stream",
            "case": f"LSTM 1,{steps},{CLASSES},{UNITS} float32",
            "what": what,
            "seconds": best[name],
            "windows_seconds": best["windows"],
            "whole_seconds": best["whole"],
            "ratio": best[name] / training,
        }
        for name, what in (
            ("profile", f"lags to {LAGS}, shares, bias, advice"),
            ("everything", "with carousel and spectrum"),
        )
    ]


def in_windows(network: Network, inputs: Array, targets: Array) -> float:
    """Both passes in windows with a carried state and without updates: ‖∇‖ of the last window."""
    state: Parameters | None = None
    norm = 0.0
    for begin in range(0, len(inputs), WINDOW):
        part = slice(begin, begin + WINDOW)
        _, gradient, tape = differentiate_window(network, inputs[part], targets[part], state=state)
        state = network.state_after(tape, len(inputs[part]))
        norm = gradient.norm()
    return norm
