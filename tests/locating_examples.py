"""Gradients that are wrong in known places: a GRU, and smooth functions of any shape."""

from dataclasses import replace

import numpy as np

import throughtime as tt


def gru_target(seed=0, *, I=3, H=4, T=6, B=2, right=False):  # noqa: E741
    """A GRU as its author writes it: dU of the candidate lacks the factor r, unless it is right."""
    rng = np.random.default_rng(seed)
    shapes = {"W": (3 * H, I), "U": (3 * H, H), "b": (3 * H,)}
    p = {name: 0.6 * rng.standard_normal(shape) for name, shape in shapes.items()}
    x, weights = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, H))

    def forward():
        h, tape, outputs = np.zeros((B, H)), [], []
        for t in range(T):
            z_x, z_h = x[t] @ p["W"].T + p["b"], h @ p["U"].T
            r, z = (sigmoid((z_x + z_h)[:, k * H : (k + 1) * H]) for k in (0, 1))
            u = z_h[:, 2 * H :]
            n = np.tanh(z_x[:, 2 * H :] + r * u)
            tape.append((h, r, z, n, u))
            h = (1 - z) * n + z * h
            outputs.append(h)
        return np.array(outputs), tape

    def loss():
        return (forward()[0] * weights).sum(axis=(1, 2))

    def gradient():
        g, dh = {name: np.zeros(shape) for name, shape in shapes.items()}, np.zeros((B, H))
        for t, (h, r, z, n, u) in reversed(list(enumerate(forward()[1]))):
            dh = dh + weights[t]
            dn = dh * (1 - z) * (1 - n**2)
            dz = dh * (h - n) * z * (1 - z)
            dr = dn * u * r * (1 - r)
            d_x, d_h = (np.concatenate([dr, dz, last], axis=1) for last in (dn, dn * r))
            g["W"] += d_x.T @ x[t]
            g["b"] += d_x.sum(axis=0)
            g["U"] += (d_h if right else d_x).T @ h
            dh = dh * z + d_h @ p["U"]
        return g

    return tt.Target(p, loss, gradient, steps=T)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def smooth(shape, dtype="float64", *, seed=0, name="A", **beside):
    """A smooth loss of one tensor and of others beside it, name to shape, and its gradient."""
    rng = np.random.default_rng(seed)
    shapes = {name: shape, **beside}
    p = {n: (0.3 * rng.standard_normal(s)).astype(dtype) for n, s in shapes.items()}
    slopes = {n: rng.standard_normal(s).astype(dtype) for n, s in shapes.items()}

    def loss():
        return np.concatenate([(np.sin(p[n]) * slopes[n]).reshape(-1) for n in p])

    return tt.Target(p, loss, lambda: {n: np.cos(p[n]) * slopes[n] for n in p})


def spoilt(target, where, factor=-1.0, name="A"):
    """The target with some entries of one gradient multiplied by a factor."""

    def gradient():
        found = {n: np.array(g) for n, g in target.gradient().items()}
        found[name][where] *= found[name].dtype.type(factor)
        return found

    return replace(target, gradient=gradient)
