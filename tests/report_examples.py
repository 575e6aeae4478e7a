"""Reports to be shown: every verdict, located entries, several points, notes, a valley."""

from dataclasses import replace

import numpy as np

import throughtime as tt
from throughtime.gradcheck.report import Direction, Point, TensorReport, Valley, Worst, WrongArea


def tensor(verdict, shape, seed, wrong=0, remedy=""):
    """A tensor of which 24 entries and two directions were looked at."""
    rng = np.random.default_rng(seed)
    numerical = rng.standard_normal(24) * 10 ** rng.uniform(-3, 0, 24)
    gradient = numerical + 1e-9 * rng.standard_normal(24)
    indices = np.sort(rng.choice(np.prod(shape), 24, replace=False))
    gradient[:wrong] *= 3
    error = 0.3 if verdict == "unresolved" else 1e-8
    entries = [
        Worst(
            tuple(map(int, np.unravel_index(indices[k], shape))), gradient[k], numerical[k], error
        )
        for k in range(24)
    ]
    return TensorReport(
        verdict,
        0.5 if wrong else 1e-9,
        0.2 if verdict == "unresolved" else 1e-9,
        shape,
        step=0.03,
        indices=indices,
        gradient=gradient,
        numerical=numerical,
        errors=np.full(24, error),
        worst=entries[0],
        smallest_error=np.inf if verdict == "unresolved" else 1e-8,
        order=6,
        wrong=tuple(entries[:wrong]),
        areas=(WrongArea((2, 3), (0, 4), "rows 2–3", 6, 5),) if wrong else (),
        directions=(Direction("all", 1.25, 1.25, 1e-9), Direction("rows 0–4", -0.5, -0.5, 1e-9)),
        remedy=remedy,
    )


def full_report():
    """A report in which everything occurs."""
    remedy = "compute the loss in float64"
    tensors = {
        "0.W": tensor("agree", (20, 5), 0),
        "0.U": tensor("disagree", (20, 5), 1, wrong=3),
        "0.b <tag> & more": tensor("unresolved", (4, 6), 2, remedy=remedy),
    }
    steps = np.geomspace(1e-4, 1, 25)
    points = (
        Point("as given", 39, "disagree", 0.5, 0.2, tensors),
        Point("T = 1", 1, "agree", 1e-9, 1e-9, {"0.W": tensors["0.W"]}),
    )
    return tt.Report(
        verdict="disagree",
        discrepancy=0.5,
        floor=0.2,
        tensors=tensors,
        evaluations=412,
        noise=1e-16,
        loss=62.9,
        dtype="float32",
        steps=39,
        smallest_error=np.inf,
        points=points,
        seconds=1.5,
        remedy=remedy,
        notes=("The loss does not react to spare at all, and its gradient is exactly 0.",),
        valley=Valley(steps, 1e-15 / steps, 1e-5 * steps**4, 0.01, order=4),
    )


def plain_report():
    """A report without what may be missing."""
    found = full_report()
    tensors = {
        name: replace(
            t,
            indices=np.empty(0, int),
            gradient=np.empty(0),
            numerical=np.empty(0),
            errors=np.empty(0),
            worst=None,
            wrong=(),
            directions=(),
        )
        for name, t in found.tensors.items()
    }
    return replace(found, tensors=tensors, points=(), valley=None, notes=(), remedy="")


def network_report(dtype="float64", **options):
    """A real one."""
    net = tt.Network([tt.LSTM(3, 4), tt.Dense(4, 3)], tt.SoftmaxCrossEntropy(), dtype=dtype)
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((7, 2, 3)).astype(dtype)
    return tt.check(net, inputs, rng.integers(0, 3, (7, 2)), **options)


def fault_at_two_steps(steps=1):
    """U for Uᵀ on the way back: at T = 1 nothing comes back, and the gradient is right."""
    rng = np.random.default_rng(0)
    W, U, x = (rng.standard_normal(shape) for shape in ((3, 2), (3, 3), (8, 2)))

    def on(steps):
        def states():
            h = [np.zeros(3)]
            for x_t in x[:steps]:
                h.append(np.tanh(W @ x_t + U @ h[-1]))
            return h

        def gradient():
            h, dh, dW, dU = states(), np.zeros(3), np.zeros_like(W), np.zeros_like(U)
            for t in reversed(range(steps)):
                dz = (2 * h[t + 1] + dh) * (1 - h[t + 1] ** 2)
                dW, dU, dh = dW + np.outer(dz, x[t]), dU + np.outer(dz, h[t]), U @ dz
            return {"W": dW, "U": dU}

        def loss():
            return np.sum(np.square(states()), axis=1)

        return tt.Target({"W": W, "U": U}, loss, gradient, steps=steps, at_length=on)

    return on(steps)


def fault_of_large_weights():
    """The gradient of w, where the loss is sin(w): right as long as w is small."""
    w = np.full(5, 1e-9)
    return tt.Target({"w": w}, lambda: np.sin(w), lambda: {"w": np.ones(5)})
