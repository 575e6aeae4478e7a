"""How far back does a trained network's gradient reach? A task whose answer is known.

A symbol is shown, and 20 steps later a cue asks for it; in between nothing happens. An LSTM with
32 units learns this within a minute. Its flow is then looked at on data that it has not seen, its
gradient is checked, and both are written as one page.

    python examples/flow_report.py [REPORT.html] [--updates 1500]
"""

from __future__ import annotations

import argparse

import numpy as np

import throughtime as tt
from throughtime.training import Adam, clip

DELAY, SYMBOLS = 20, 4
BLANK, CUE = 0, SYMBOLS + 1
T, B, H = 96, 16, 32


def recall(rng: np.random.Generator, steps: int = T, batch: int = B) -> tuple[np.ndarray, ...]:
    """Classes (T, B): inputs, and what should be said: the symbol at its cue, else nothing."""
    inputs = np.full((steps, batch), BLANK)
    targets = np.full((steps, batch), BLANK)
    for b in range(batch):
        shown = int(rng.integers(0, 8))
        while shown + DELAY < steps:
            symbol = rng.integers(1, SYMBOLS + 1)
            inputs[shown, b], inputs[shown + DELAY, b] = symbol, CUE
            targets[shown + DELAY, b] = symbol
            shown += DELAY + int(rng.integers(1, 9))
    return inputs, targets


def train(updates: int, seed: int = 0) -> tt.Network:
    """An LSTM that was trained on `updates` batches, each of new data."""
    layers = [tt.LSTM(CUE + 1, H, chrono=DELAY), tt.Dense(H, SYMBOLS + 1)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(), dtype="float32", seed=seed)
    rng = np.random.default_rng(seed)
    optimiser = Adam(net.parameters.flat.size)
    for update in range(1, updates + 1):
        loss, gradient = net.loss_and_gradient(*recall(rng))
        clip(gradient, 1.0)
        optimiser.update(net.parameters.flat, gradient.flat, 0.01)
        if update % 250 == 0:
            print(f"update {update:,}: loss {loss:.4f}")
    return net


def look(net: tt.Network) -> tuple[tt.Flow, tt.Report]:
    """Its flow on new data, and a check of its gradient on a short stretch of them."""
    inputs, targets = recall(np.random.default_rng(1))
    flow = tt.flow(net, inputs, targets, k2=T // 4, clip=1.0, memory=DELAY)
    return flow, tt.check(net, inputs[:32, :2], targets[:32, :2])


def main(arguments: list[str] | None = None) -> tuple[tt.Flow, tt.Report]:
    """Trains, looks, prints, and writes the page where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?")
    parser.add_argument("--updates", type=int, default=1500)
    options = parser.parse_args(arguments)
    flow, report = look(train(options.updates))
    print(f"\n{flow}\n\n{report.headline()}")
    if options.page:
        flow.to_html(options.page, check=report)
    return flow, report


if __name__ == "__main__":
    main()
