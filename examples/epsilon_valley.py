"""Which epsilon, and is d = 0.95 acceptable if all signs match?

An LSTM with 5 inputs, 5 units and 5 softmax outputs runs 39 steps in float32, and its loss is
one float32 number, as in a program that was written by hand. The discrepancy d of its gradient
is measured at steps from 1e-8 to 1: once with the gradient as it is, and once averaged over the
steps while the loss sums over them, which is a common slip.

    python examples/epsilon_valley.py [FIGURE.png]
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

import throughtime as tt
from throughtime.report.figures import new_axes, plot_sweep, save_figure

T = 39
GROUPS = {"LSTM: W, U, b": ["0.W", "0.U", "0.b"], "Dense: W, b": ["1.W", "1.b"]}


def make_target() -> tt.Target:
    """The network's loss as one float32 scalar, and its gradient."""
    layers = [tt.LSTM(5, 5), tt.Dense(5, 5)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(time="sum"), dtype="float32", seed=0)
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((T, 1, 5), dtype=np.float32)
    targets = rng.integers(0, 5, (T, 1))
    return tt.Target(
        net.parameters,
        lambda: np.float32(net.evaluate(inputs, targets).value),
        lambda: net.loss_and_gradient(inputs, targets)[1],
        steps=T,
    )


def averaged(target: tt.Target) -> tt.Target:
    """The slip: backward divides by T, the loss does not."""
    return replace(target, gradient=lambda: target.gradient() / T)


def main(figure: str | None = None, epsilons: tuple[float, ...] | None = None) -> list[tt.Sweep]:
    """Prints both sweeps and draws them."""
    options = {"epsilons": epsilons} if epsilons else {}
    sound = tt.sweep(make_target(), **options)
    faulty = tt.sweep(averaged(make_target()), **options)
    print("the gradient as it is\n")
    print(sound)
    print(
        f"\naveraged over T = {T} steps in backward only: (T − 1)/(T + 1) = {(T - 1) / (T + 1)}\n"
    )
    print(faulty)
    if figure:
        ax = plot_sweep(sound, new_axes(6.4, 4.2), groups=GROUPS)
        ax.loglog(faulty.epsilons, faulty.overall, "--", color="#D55E00", lw=1.6)
        text = f"averaged in backward only: d = {faulty.best[1]:.2f}"
        ax.annotate(text, (3e-6, 0.95), xytext=(0, 6), textcoords="offset points", fontsize=9)
        ax.set_ylim(top=6)
        save_figure(ax, figure)
    return [sound, faulty]


if __name__ == "__main__":
    main(*sys.argv[1:2])
