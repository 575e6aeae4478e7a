"""What truncated backpropagation through time keeps, and what it gives up."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.explain.bptt import network, reach, terms, truncated
from throughtime.explain.derivation import Derivation, Line, Quantity, Section
from throughtime.explain.example import Example, example
from throughtime.network import differentiate_window

STEPS = 4


def _example(seed: int) -> Example:
    return example("rnn", seed, steps=STEPS)


def _sum_of_terms(e: Example, which: Array) -> Array:
    """Σ of the terms of ∂E_t/∂U from s_k over the marked pairs (t, k): (H, H)."""
    total = np.zeros_like(e.p["U"])
    for t in range(1, STEPS + 1):
        total += terms(e, t)[which[t - 1, :t]].sum(axis=0)
    return total


def _numerical_sum(e: Example, which: Array) -> Array:
    """The same, from moving U at step k alone and looking at E_t alone."""
    total: Array = e.terms("U")[which].sum(axis=0)
    return total


def _kept(label: str, k1: int, k2: int) -> Quantity:
    which = reach(STEPS, k1, k2)
    return Quantity(
        label,
        lambda e: _sum_of_terms(e, which),
        lambda e: _numerical_sum(e, which),
        lambda e: truncated(e, k1, k2),
        per_step=False,
    )


def _given_up(label: str, k1: int, k2: int) -> Quantity:
    which = np.tri(STEPS, dtype=bool) & ~reach(STEPS, k1, k2)
    return Quantity(
        label,
        lambda e: _sum_of_terms(e, which),
        lambda e: _numerical_sum(e, which),
        lambda e: e["δU"] - truncated(e, k1, k2),
        per_step=False,
    )


def _window_losses(e: Example) -> Array:
    """The losses of steps 1 – 2 and of 3 – 4, each window run on its own from the carried state."""
    net, state = network(e)
    losses = []
    for start in (0, 2):
        x, y = e.x[start : start + 2, None], e.y[start : start + 2, None]
        loss, _, tape = differentiate_window(net, x, y, state=state)
        losses.append(loss)
        state = dict(net.state_after(tape, 2))
    return np.array(losses)


def _whole_run_losses(e: Example) -> Array:
    errors = e.errors(lambda name, t, value: value)
    return np.array([errors[:2].sum(), errors[2:].sum()])


def _share(e: Example) -> str:
    full, short = e["δU"], truncated(e, 2, 2)
    share = np.linalg.norm(full - short) / np.linalg.norm(full)
    cosine = (full * short).sum() / (np.linalg.norm(full) * np.linalg.norm(short))
    return (
        f"Here ‖what is given up‖ / ‖full gradient‖ = {share:.4f}, and the truncated gradient "
        f"has a cosine of {cosine:.4f} with the full one."
    )


WINDOWS = (
    Line(
        "state entering window 2 = state leaving window 1",
        "Truncation cuts the backward pass only. Forwards the state is carried over, so that "
        "every output and every loss is that of the uncut run. (Compared: two values of the "
        "loss, not derivatives.)",
        ("outputs, _, tape = network.forward(inputs, state, dropout_seed=dropout_seed)",),
        (Quantity("L of steps 1–2, of 3–4", _window_losses, _whole_run_losses, per_step=False),),
    ),
    Line(
        "∂L/∂U ≈ Σ_t Σ_{k in t's window} (term from s_k of E_t)",
        "To window 2 the carried s_2 is a constant: no gradient leaves it backwards. What is "
        "left are the pairs (1,1) (2,1) (2,2) and (3,3) (4,3) (4,4): 6 of 10.",
        ("stretch = tape.steps(window.start, window.stop)",),
        (_kept("∂L/∂U by TBPTT", 2, 2),),
    ),
    Line(
        "given up = Σ_t Σ_{k before t's window} (term from s_k of E_t)",
        "The pairs (3,1) (3,2) (4,1) (4,2): what U did in steps 1 and 2 for the losses of steps "
        "3 and 4. The missing part is a bias, not noise: no number of updates averages it out, "
        "and no dependence longer than a window gets a gradient at all.",
        ("start = max(0, stop - k2)",),
        (_given_up("full − truncated", 2, 2),),
        _share,
    ),
)

OTHER = (
    Line(
        "k1 = 1, k2 = 2: every E_t reaches steps t and t − 1",
        "A window ends at every step and reaches over the one before, so that every loss but the "
        "first has a past. Kept are 7 of 10 pairs, all with t − k ≤ 1. The price: each step is "
        "walked backwards k2/k1 times, here twice.",
        ("doutputs[: window.first - window.start] = 0",),
        (_kept("∂L/∂U, k1 = 1, k2 = 2", 1, 2), _given_up("full − truncated", 1, 2)),
    ),
    Line(
        "k1 = 4, k2 = 2: the losses of steps 1 and 2 give nothing",
        "With k2 < k1 the gradient does not reach back to the window before: whole losses are "
        "left out, not only their past.",
        ("found.append(TruncationWindow(start, max(before, start), stop))",),
        (_kept("∂L/∂U, k1 = 4, k2 = 2", 4, 2), _given_up("full − truncated", 4, 2)),
    ),
    Line(
        "k2 ≥ T: nothing is given up",
        "All windows begin at step 1: this is full BPTT.",
        ("for window in merged_windows(",),
        (
            Quantity(
                "∂L/∂U, k1 = 1, k2 = 4",
                lambda e: e["δU"],
                lambda e: e.numerical_at_all_steps("U"),
                lambda e: truncated(e, 1, STEPS),
                per_step=False,
            ),
        ),
    ),
)

TBPTT = Derivation(
    "tbptt",
    "Truncated backpropagation through time: what is given up",
    ("network/truncation.py",),
    (
        Section(
            "windows of two steps: k1 = k2 = 2",
            ("s_t = tanh(W x_t + U s_{t−1} + b)",),
            _example,
            WINDOWS,
        ),
        Section(
            "other windows",
            ("k1: steps from window's end to window's end   k2: steps back from an end",),
            _example,
            OTHER,
        ),
    ),
)
