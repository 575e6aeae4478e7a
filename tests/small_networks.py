"""A small RNN in the habits of people who write their own, with mistakes, for the diagnosis.

Columns or rows, one output or several, no bias, no output layer, one of two layers, or one that is
no parameter; an embedding. The gradient is written by hand.
"""

from __future__ import annotations

import numpy as np

import throughtime as tt

I, H, K, WORDS, MOST = 3, 4, 5, 4, 9  # noqa: E741


class Small:
    """h_t = tanh(W x_t + U h_{t−1} + b), and one of several losses of h_t at every step.

    Args:
        head: "none", "outside", "squares", "logistic", "softmax", "two layers", or "absolute", an
            error of one output between 0 and 1.
        outputs: of the output layer.
        bias: whether any tensor is a bias.
        columns: whether biases are columns.
        mistake: what is wrong in the backward pass.
        order: names of the parameters in another order.
        words: whether inputs are rows of an embedding.
        start: scale of the initial state.
        inputs: how many there are.
        sigmoid: whether units have a sigmoid instead of tanh.
    """

    def __init__(
        self, head="squares", outputs=1, *, bias=True, columns=False, mistake="", order=None,
        words=False, start=0.0, inputs=I, sigmoid=False,
    ):  # fmt: skip
        rng = np.random.default_rng(0)
        self.head, self.mistake, self.words, self.sigmoid = head, mistake, words, sigmoid
        normal = rng.standard_normal
        p = {"W": normal((H, inputs)), "U": 0.5 * normal((H, H)), "b": 0.5 * normal(H)}
        if words:
            p["E"] = normal((WORDS, inputs))
        if head == "two layers":
            p |= {"V1": normal((K, H)), "d1": 0.5 * normal(K)}
        if head not in ("none", "outside"):
            p |= {"V": normal((outputs, K if head == "two layers" else H)), "d": normal(outputs)}
        if not bias:
            p = {name: array for name, array in p.items() if name not in ("b", "d")}
        if columns:
            p = {name: a.reshape(-1, 1) if a.ndim == 1 else a for name, a in p.items()}
        self.p = {name: p[name] for name in order or p}
        self.fixed = normal((outputs, H))
        self.x, self.y = normal((MOST, inputs)), normal((MOST, outputs))
        self.said = np.array([0, 1, 0, 2, 1, 0, 2, 0, 1])
        self.h0 = start * normal(H)

    def flat(self, name):
        """A bias, or 0 where there is none."""
        return self.p[name].reshape(-1) if name in self.p else 0.0

    def inputs(self, T):
        return self.p["E"][self.said[:T]] if self.words else self.x[:T]

    def states(self, T):
        found = [self.h0]
        for x in self.inputs(T):
            z = self.p["W"] @ x + self.p["U"] @ found[-1] + self.flat("b")
            found.append(1 / (1 + np.exp(-z)) if self.sigmoid else np.tanh(z))
        return found

    def slope(self, h):
        return h * (1 - h) if self.sigmoid else 1 - h**2

    def answer(self, h, t, d):
        """The loss of a step; adds to `d`, and returns δh."""
        p, y = self.p, self.y[t]
        if self.head == "none":
            return h.sum(), np.ones(H)
        if self.head == "outside":
            error = self.fixed @ h - y
            return error @ error / 2, self.fixed.T @ error
        seen = np.tanh(p["V1"] @ h + self.flat("d1")) if "V1" in p else h
        z = p["V"] @ seen + self.flat("d")
        if self.head == "softmax":
            share = np.exp(z) / np.exp(z).sum()
            right = t % len(z)
            loss, dz = -np.log(share[right]), share - np.eye(len(z))[right]
        elif self.head == "logistic":
            share, right = 1 / (1 + np.exp(-z)), t % 2
            loss = -np.log(share if right else 1 - share).sum()
            dz = share - right
        elif self.head == "absolute":
            share, right = 1 / (1 + np.exp(-z)), t % 2
            loss, way = np.abs(share - right).sum(), np.sign(share - right)
            dz = (share - right if self.mistake == "squared" else way) * share * (1 - share)
        else:
            loss, dz = (z - y) @ (z - y) / 2, z - y
        d["V"] += np.outer(dz, seen)
        if "d" in d:
            d["d"] += dz.reshape(d["d"].shape)
        dseen = p["V"].T @ dz
        if "V1" not in p:
            return loss, dseen
        dz1 = dseen * (1 - seen**2)
        d["V1"] += np.outer(dz1, h)
        d["d1"] += dz1.reshape(d["d1"].shape)
        return loss, p["V1"].T @ dz1

    def loss(self, T):
        scratch = self.zeros()
        return sum(self.answer(h, t, scratch)[0] for t, h in enumerate(self.states(T)[1:]))

    def zeros(self):
        return {name: np.zeros_like(array) for name, array in self.p.items()}

    def gradient(self, T):
        p, d, h, x, dh = self.p, self.zeros(), self.states(T), self.inputs(T), np.zeros(H)
        dx = np.zeros_like(x)
        for t in reversed(range(T)):
            dh = dh + self.answer(h[t + 1], t, d)[1]
            dz = dh * self.slope(h[T if self.mistake == "last slope" else t + 1])
            d["W"] += np.outer(dz, self.operand(x, t))
            product = np.outer(dz, h[t + 1] if self.mistake == "current h" else h[t])
            d["U"] = product if self.mistake == "U overwritten" else d["U"] + product
            if "b" in d:
                d["b"] += dz.reshape(d["b"].shape)
            dx[t] = p["W"].T @ dz
            dh = p["U"].T @ dz if self.mistake != "nothing handed back" else np.zeros(H)
            dh = 2 * dh if self.mistake == "handed back twice" else dh
        if self.words and self.mistake == "rows":
            d["E"][self.said[:T]] += dx
        elif self.words:
            np.add.at(d["E"], self.said[:T], dx)
        if self.mistake == "averaged":
            d = {name: array / T for name, array in d.items()}
        return d

    def operand(self, x, t):
        """What δz is multiplied with for W."""
        if self.mistake == "one input late":
            return x[max(t - 1, 0)]
        return x[len(x) - 1 - t] if self.mistake == "reversed" else x[t]

    def target(self, T=6, lengths=True):
        def at(steps):
            if steps > MOST:
                raise ValueError(f"{steps} steps: there is data for {MOST}")
            return self.target(steps)

        at_length = at if lengths else None
        return tt.Target(
            self.p, lambda: self.loss(T), lambda: self.gradient(T), steps=T, at_length=at_length
        )
