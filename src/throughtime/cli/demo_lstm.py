"""An LSTM as one writes it by hand in NumPy, with two mistakes in its backward pass.

One hides the other: `averaged_over_steps` divides the gradient by T, which the loss does not, and
makes everything wrong alike; that `dc_next_missing` cuts the error carousel does not show then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from throughtime import Target, layouts
from throughtime.arrays import Array

MISTAKES = ("averaged_over_steps", "dc_next_missing")
STEPS = 39  # T
B, I, H, O = 2, 5, 5, 5  # noqa: E741  (sequences, inputs, hidden units, classes)


class StepCache(NamedTuple):
    """What the forward pass keeps of one step, all of it (B, ·)."""

    X: Array  # [h_{t−1}, x_t]
    i: Array
    f: Array
    o: Array
    g: Array
    c_prev: Array
    tanh_c: Array
    h: Array
    P: Array  # probabilities of the classes


def faulty_lstm(
    mistakes: Collection[str] = MISTAKES,
    T: int = STEPS,
    parameters: Mapping[str, Array] | None = None,
) -> Target:
    """The LSTM as something to check: its loss, its gradient, and how its arrays are laid out.

    Args:
        mistakes: which of `MISTAKES` the backward pass has.
        T: how many steps it runs.
        parameters: its arrays; without them, new ones.
    """
    p = new_parameters() if parameters is None else parameters
    xs, labels = data(T)
    layout = layouts.lstm(
        xs,
        labels,
        W="W",
        combined="hx",  # one matrix over [h, x],
        transposed=True,  # multiplied from the right,
        order="ifog",  # its gates in this order
        b="b",
        head="Wy",
        head_bias="by",
        head_transposed=True,
        time="sum",
        batch="mean",
    )
    return Target(
        p,
        lambda: loss(p, xs, labels),
        lambda: backward(p, forward(p, xs), labels, mistakes),
        steps=T,
        at_length=lambda shorter: faulty_lstm(mistakes, shorter, p),
        layout=layout,
    )


def new_parameters() -> dict[str, Array]:
    """W (H + I, 4H) and b (4H,) of the LSTM, Wy (H, O) and by (O,) of the output layer."""
    shapes = {"W": (H + I, 4 * H), "b": (4 * H,), "Wy": (H, O), "by": (O,)}
    return {
        name: np.random.default_rng([0, seed]).standard_normal(shape) * H**-0.5
        for seed, (name, shape) in zip((102, 103, 100, 101), shapes.items(), strict=True)
    }


def data(T: int) -> tuple[Array, Array]:
    """Inputs (T, B, I) and the classes (T, B) to answer with, those of fewer steps first."""
    xs = np.random.default_rng([0, 1]).standard_normal((T, B, I))
    return xs, np.random.default_rng([0, 2]).integers(0, O, (T, B))


def loss(p: Mapping[str, Array], xs: Array, labels: Array) -> float:
    """Cross-entropy, summed over the steps, averaged over the sequences."""
    steps = forward(p, xs)
    return -sum(
        float(np.log(step.P[np.arange(B), label]).sum()) / B
        for step, label in zip(steps, labels, strict=True)
    )


def forward(p: Mapping[str, Array], xs: Array) -> list[StepCache]:
    """Every step, from a state of zeros."""
    h, c = np.zeros((B, H)), np.zeros((B, H))
    steps = []
    for x in xs:
        X = np.hstack([h, x])
        z_i, z_f, z_o, z_g = np.split(X @ p["W"] + p["b"], 4, axis=1)
        i, f, o, g = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o), np.tanh(z_g)
        c_prev, c = c, i * g + f * c
        tanh_c = np.tanh(c)
        h = o * tanh_c
        exp = np.exp(h @ p["Wy"] + p["by"])
        steps.append(
            StepCache(X, i, f, o, g, c_prev, tanh_c, h, exp / exp.sum(axis=1, keepdims=True))
        )
    return steps


def backward(
    p: Mapping[str, Array], steps: list[StepCache], labels: Array, mistakes: Collection[str]
) -> dict[str, Array]:
    """The gradient by BPTT, with these mistakes; without one it is right."""
    d = {name: np.zeros_like(array) for name, array in p.items()}
    dh_next, dc_next = np.zeros((B, H)), np.zeros((B, H))
    for step, label in zip(reversed(steps), reversed(labels), strict=True):
        X, i, f, o, g, c_prev, tanh_c, h, P = step
        dy = (P - np.eye(O)[label]) / B
        if "averaged_over_steps" in mistakes:
            dy = dy / len(steps)  # the loss is a sum over the steps
        d["Wy"] += h.T @ dy
        d["by"] += dy.sum(axis=0)
        dh = dy @ p["Wy"].T + dh_next
        dc = dh * o * (1 - tanh_c**2)
        if "dc_next_missing" not in mistakes:
            dc = dc + dc_next
        dz = np.hstack(
            [
                dc * g * i * (1 - i),
                dc * c_prev * f * (1 - f),
                dh * tanh_c * o * (1 - o),
                dc * i * (1 - g**2),
            ]
        )
        d["W"] += X.T @ dz
        d["b"] += dz.sum(axis=0)
        dh_next = dz @ p["W"][:H].T
        dc_next = dc * f
    return d


def sigmoid(z: Array) -> Array:
    """σ(z)."""
    return np.asarray(1 / (1 + np.exp(-z)))
