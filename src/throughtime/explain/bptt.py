"""What backpropagation through time sums, and what truncated backpropagation gives up of it."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.explain.derivation import (
    Derivation,
    DerivationLine,
    DerivationSection,
    Quantity,
    Values,
    at_all_steps,
    at_each_step,
)
from throughtime.explain.example import Example, example
from throughtime.network import (
    MeanSquaredError,
    Network,
    contributions,
    differentiate_window,
    truncated_loss_and_gradient,
)


def network(e: Example) -> tuple[Network, dict[str, Array]]:
    """The example's cell as a network with the example's loss, and its initial state.

    The loss is a mean over two outputs, Σ_j (h_j − y_j)² / 2, which is ½‖h − y‖².
    """
    net = Network([e.cell], MeanSquaredError(time="sum", batch="sum"), dtype="float64")
    net.parameters.flat[...] = e.p.flat
    return net, {f"0.{name}": array[None] for name, array in e.state.items()}


def terms(e: Example, t: int) -> Array:
    """∂E_t/∂U from s_1, s_2 … s_t as the package splits it; t counts from 1: (t, H, H)."""
    net, state = network(e)
    found = contributions(net, e.x[:, None], e.y[:, None], step=t - 1, state=state)
    return np.stack([term["0.U"] for term in reversed(found.terms)])


def truncated(e: Example, k1: int, k2: int) -> Array:
    """∂L/∂U by TBPTT, as the package computes it."""
    net, state = network(e)
    x, y = e.x[:, None], e.y[:, None]
    return truncated_loss_and_gradient(net, x, y, k1=k1, k2=k2, state=state)[1]["0.U"]


def reach(steps: int, k1: int, k2: int) -> Array:
    """(T, T): whether E_t's gradient gets as far as step k, by the definition of TBPTT.

    Every k1 steps, and at the end, a window ends. E_t is differentiated at the first end that
    it comes before, as far as k2 steps back from that end.
    """
    t, k = np.arange(1, steps + 1)[:, None], np.arange(1, steps + 1)
    end = np.minimum(-(-t // k1) * k1, steps)
    reached: Array = (k > end - k2) & (k <= t)
    return reached


def _jacobian_product(e: Example, t: int, k: int) -> Array:
    """∂E_t/∂s_k = (∂s_{k+1}/∂s_k)ᵀ … (∂s_t/∂s_{t−1})ᵀ ∂E_t/∂s_t; steps count from 1: (H,)."""
    ds: Array = e["δE"][t - 1]
    for step in range(t, k, -1):
        jacobian = np.diag(1 - e["s"][step - 1] ** 2) @ e.p["U"]
        ds = jacobian.T @ ds
    return ds


def _term(e: Example, t: int, k: int) -> Array:
    """∂E_t/∂U from s_k, by the equation: (H, H)."""
    dz = (1 - e["s"][k - 1] ** 2) * _jacobian_product(e, t, k)
    return np.outer(dz, e["h_before"][k - 1])


def _once(label: str, right: Values, numerical: Values, own: Values | None = None) -> Quantity:
    return Quantity(label, right, numerical, own, per_step=False)


def _state_of_last_loss(k: int) -> Quantity:
    return _once(
        f"∂E_3/∂s_{k}",
        lambda e: _jacobian_product(e, 3, k),
        lambda e: e.terms("h")[2, k - 1],
    )


def _term_of_last_loss(k: int) -> Quantity:
    return _once(
        f"from s_{k}",
        lambda e: _term(e, 3, k),
        lambda e: e.terms("U")[2, k - 1],
        lambda e: terms(e, 3)[k - 1],
    )


def _sizes(e: Example) -> str:
    norms = [f"{np.linalg.norm(term):.4f}" for term in reversed(terms(e, 3))]
    return f"Norms of the terms from s_3, s_2, s_1: {', '.join(norms)}."


ONE_LOSS = (
    DerivationLine(
        "∂E_3/∂s_k = (∂s_{k+1}/∂s_k)ᵀ … (∂s_3/∂s_2)ᵀ ∂E_3/∂s_3,   ∂s_t/∂s_{t−1} = diag(1 − s_t²) U",
        "Unrolled, the network is a chain s_1 → s_2 → s_3, and the chain rule multiplies one "
        "Jacobian a step. The farther back, the more factors: their product shrinks or grows "
        "about geometrically, which is the vanishing or exploding gradient.",
        (
            'dz = ds * (tanh_slope(s) if self.nonlinearity == "tanh" else relu_slope(s))',
            'return dz, {"h": dz @ p["U"]}, {"h": ds}',
        ),
        (_state_of_last_loss(3), _state_of_last_loss(2), _state_of_last_loss(1)),
    ),
    DerivationLine(
        "∂E_3/∂U = Σ_{k=1}^{3} (∂E_3/∂s_k ⊙ (1 − s_k²)) s_{k−1}ᵀ",
        "One and the same U was used at steps 1, 2 and 3, and each use is a path to E_3. Term k "
        "is what U did at step k, carried to E_3 by the chain: it is found numerically by "
        "moving U at step k alone. The gradient is the sum of the terms.",
        ("for k in range(step, -1, -1):",),
        (
            _term_of_last_loss(3),
            _term_of_last_loss(2),
            _term_of_last_loss(1),
            _once(
                "∂E_3/∂U, the sum",
                lambda e: _term(e, 3, 3) + _term(e, 3, 2) + _term(e, 3, 1),
                lambda e: e.terms("U")[2].sum(axis=0),
                lambda e: terms(e, 3).sum(axis=0),
            ),
        ),
        _sizes,
    ),
)

ALL_LOSSES = (
    DerivationLine(
        "∂L/∂U = Σ_t ∂E_t/∂U = Σ_t Σ_{k≤t} (term from s_k)",
        "L = Σ_t E_t, so the gradients of the losses add: a double sum with T(T+1)/2 terms, "
        "here 6. A mean over time would divide all of them by T, loss and gradient alike.",
        ("def gradient(self) -> Parameters:",),
        (
            _once(
                "Σ_t ∂E_t/∂U",
                lambda e: sum(
                    (_term(e, t, k) for t in (1, 2, 3) for k in range(1, t + 1)), np.zeros((2, 2))
                ),
                lambda e: e.terms("U").sum(axis=(0, 1)),
                lambda e: sum((terms(e, t).sum(axis=0) for t in (1, 2, 3)), np.zeros((2, 2))),
            ),
        ),
    ),
    DerivationLine(
        "Σ_t Σ_{k≤t} = Σ_k Σ_{t≥k}:   δs_k = Σ_{t≥k} ∂E_t/∂s_k = ∂E_k/∂s_k + Uᵀ δz_{k+1}",
        "Sum by k first. All later losses go back through the same Jacobians, so that their "
        "gradients can be added up before they are multiplied: one walk from T to 1, with one "
        "product a step, gives all the terms. This reordering is backpropagation through time.",
        ('arriving = dlater | {"h": dlater["h"] + doutputs[t]}', "dlater = dbefore"),
        (
            at_each_step("δs_k", "h", "δh"),
            at_each_step("U moved at step k alone", "U"),
            at_all_steps("δU = Σ_k δz_k s_{k−1}ᵀ", "U"),
        ),
    ),
)

BPTT = Derivation(
    "bptt",
    "Backpropagation through time: what is summed",
    ("network/per_step_gradients.py", "cells/rnn.py", "cells/recurrence.py"),
    (
        DerivationSection(
            "the loss of one step, from s_3, s_2, s_1",
            ("s_t = tanh(W x_t + U s_{t−1} + b)",),
            lambda seed: example("rnn", seed),
            ONE_LOSS,
        ),
        DerivationSection(
            "the losses of all steps in one pass",
            ("L = E_1 + E_2 + E_3",),
            lambda seed: example("rnn", seed),
            ALL_LOSSES,
        ),
    ),
)

# Truncated backpropagation through time.

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
    errors = e.errors()[:, 0]
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
    DerivationLine(
        "state entering window 2 = state leaving window 1",
        "Truncation cuts the backward pass only. Forwards the state is carried over, so that "
        "every output and every loss is that of the uncut run. (Compared: two values of the "
        "loss, not derivatives.)",
        ("outputs, _, tape = network.forward(inputs, state, dropout_seed=dropout_seed)",),
        (Quantity("L of steps 1–2, of 3–4", _window_losses, _whole_run_losses, per_step=False),),
    ),
    DerivationLine(
        "∂L/∂U ≈ Σ_t Σ_{k in t's window} (term from s_k of E_t)",
        "To window 2 the carried s_2 is a constant: no gradient leaves it backwards. What is "
        "left are the pairs (1,1) (2,1) (2,2) and (3,3) (4,3) (4,4): 6 of 10.",
        ("stretch = tape.steps(window.start, window.stop)",),
        (_kept("∂L/∂U by TBPTT", 2, 2),),
    ),
    DerivationLine(
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
    DerivationLine(
        "k1 = 1, k2 = 2: every E_t reaches steps t and t − 1",
        "A window ends at every step and reaches over the one before, so that every loss but the "
        "first has a past. Kept are 7 of 10 pairs, all with t − k ≤ 1. The price: each step is "
        "walked backwards k2/k1 times, here twice.",
        ("doutputs[: window.first - window.start] = 0",),
        (_kept("∂L/∂U, k1 = 1, k2 = 2", 1, 2), _given_up("full − truncated", 1, 2)),
    ),
    DerivationLine(
        "k1 = 4, k2 = 2: the losses of steps 1 and 2 give nothing",
        "With k2 < k1 the gradient does not reach back to the window before: whole losses are "
        "left out, not only their past.",
        ("found.append(TruncationWindow(start, max(before, start), stop))",),
        (_kept("∂L/∂U, k1 = 4, k2 = 2", 4, 2), _given_up("full − truncated", 4, 2)),
    ),
    DerivationLine(
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
        DerivationSection(
            "windows of two steps: k1 = k2 = 2",
            ("s_t = tanh(W x_t + U s_{t−1} + b)",),
            _example,
            WINDOWS,
        ),
        DerivationSection(
            "other windows",
            ("k1: steps from window's end to window's end   k2: steps back from an end",),
            _example,
            OTHER,
        ),
    ),
)
