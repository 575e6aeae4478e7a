"""A many-to-one RNN in NumPy, of column vectors, with a gradient written by hand.

throughtime check numpy_rnn.py:target
"""

import numpy as np

import throughtime as tt

T, I, H, O = 12, 3, 4, 2  # noqa: E741

rng = np.random.default_rng(0)
xs, y = rng.standard_normal((2 * T, I, 1)), rng.standard_normal((O, 1))
weights = {
    "Wxh": rng.standard_normal((H, I)) / 2,
    "Whh": rng.standard_normal((H, H)) / 2,
    "bh": np.zeros((H, 1)),
    "Why": rng.standard_normal((O, H)) / 2,
}


def forward(w, steps):
    """hs[t + 1] is h_t, hs[0] the initial state; the error is that of the last output."""
    hs = [np.zeros((H, 1))]
    for x in xs[:steps]:
        hs.append(np.tanh(w["Wxh"] @ x + w["Whh"] @ hs[-1] + w["bh"]))
    return hs, w["Why"] @ hs[-1] - y


def gradient(w, steps):
    """Backpropagation through time."""
    hs, error = forward(w, steps)
    g = {name: np.zeros_like(array) for name, array in w.items()}
    g["Why"] += error @ hs[-1].T
    dh = w["Why"].T @ error
    for t in reversed(range(steps)):
        dz = dh * (1 - hs[t + 1] ** 2)
        g["Wxh"] += dz @ xs[t].T
        g["Whh"] += dz @ hs[t].T
        g["bh"] += dz
        dh = w["Whh"].T @ dz
    return g


def target(steps=T):
    """L = ½ ‖error‖², as its terms; the check also asks for it on fewer and more steps."""
    if steps > len(xs):
        raise ValueError(f"there are {len(xs)} steps of data")
    return tt.Target(
        weights,
        lambda w: forward(w, steps)[1] ** 2 / 2,
        lambda w: gradient(w, steps),
        at_length=target,
        steps=steps,
    )
