"""The three cells of the pages' examples, a projection, two layers and two directions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.pages.example import Gradient, H, I, Network, O, Step, sigmoid, softmax

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "H",
    "I",
    "O",
    "Projected",
    "TwoDirections",
    "TwoLayers",
    "sigmoid",
    "softmax",
]


class RNN(Network):
    """h_t = tanh(W x_t + U h_{t−1} + b)."""

    def step(self, x: Array) -> None:
        """Keeps x, h_before, h."""
        before, p = self.h[-1], self.p
        h = np.tanh(x @ p["W"].T + before @ p["U"].T + p["b"])
        self.h.append(h)
        self.keep({"x": x, "h_before": before, "h": h})

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """An RNN has no δc."""
        dz = self.delta(self.tape[t], dh)
        return dz, self.hand_back(t, dz), dc_next

    def delta(self, step: Step, dh: Array) -> Array:
        """δz."""
        return np.asarray(dh * (1 - step["h"] ** 2))


class LSTM(Network):
    """c_t = i ⊙ a + f ⊙ c_{t−1}, h_t = o ⊙ tanh c_t; blocks of rows i, f, a, o."""

    gates: ClassVar[int] = 4

    def step(self, x: Array) -> None:
        """Keeps x, h_before, c_before, i, f, a, o, c."""
        before, c_before, p = self.h[-1], self.c[-1], self.p
        z = x @ p["W"].T + before @ p["U"].T + p["b"]
        i, f, a, o = np.split(z, 4, axis=1)
        i, f, a, o = sigmoid(i), sigmoid(f), np.tanh(a), sigmoid(o)
        c = i * a + f * c_before
        self.c.append(c)
        self.h.append(o * np.tanh(c))
        kept = {"x": x, "h_before": before, "c_before": c_before, "c": c}
        self.keep(kept | {"i": i, "f": f, "a": a, "o": o})

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """δz of all four gates beside one another."""
        s = self.tape[t]
        dc = self.cell_delta(s, dh, dc_next)
        di, df, da, do = self.gate_deltas(s, dh, dc)
        i, f, a, o = s["i"], s["f"], s["a"], s["o"]
        dz = [di * i * (1 - i), df * f * (1 - f), da * (1 - a**2), do * o * (1 - o)]
        joined = np.concatenate(dz, axis=1)
        return joined, self.hand_back(t, joined), dc * f

    def cell_delta(self, s: Step, dh: Array, dc_next: Array) -> Array:
        """δc."""
        return np.asarray(dh * s["o"] * (1 - np.tanh(s["c"]) ** 2) + dc_next)

    def gate_deltas(self, s: Step, dh: Array, dc: Array) -> tuple[Array, Array, Array, Array]:
        """δ of i, f, a, o as they come out of their activations."""
        return dc * s["a"], dc * s["c_before"], dc * s["i"], dh * np.tanh(s["c"])


class Projected(LSTM):
    """h_t = R m_t, m_t = o ⊙ tanh c_t; R is square (H, H), so that what is wrong with it runs."""

    def __init__(self, T: int = 5, B: int = 2) -> None:
        super().__init__(T, B)
        self.p["R"] = 0.7 * np.random.default_rng(1).standard_normal((H, H))

    def step(self, x: Array) -> None:
        """Keeps m beside what the LSTM keeps."""
        super().step(x)
        self.tape[-1]["m"] = m = self.h[-1]
        self.h[-1] = m @ self.p["R"].T

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """The LSTM's, from δm."""
        self.tape[t]["dh"] = dh
        return super().back(t, self.unprojected(dh), dc_next)

    def unprojected(self, dh: Array) -> Array:
        """δm."""
        return np.asarray(dh @ self.p["R"])  # Rᵀδh, written for rows

    def accumulate(self, d: Gradient, t: int, dz: Array) -> None:
        """And δR."""
        super().accumulate(d, t, dz)
        d["R"] += self.tape[t]["dh"].T @ self.operand(t)

    def operand(self, t: int) -> Array:
        """What R is multiplied by in the forward pass."""
        return self.tape[t]["m"]


class GRU(Network):
    """h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}, n = tanh(W x + b + r ⊙ U h_{t−1}); rows r, z, n."""

    gates: ClassVar[int] = 3

    def step(self, x: Array) -> None:
        """Keeps x, h_before, r, z, n, u (U h_{t−1} of the candidate)."""
        before, p = self.h[-1], self.p
        r, z, n = np.split(x @ p["W"].T + p["b"], 3, axis=1)
        ur, uz, u = np.split(before @ p["U"].T, 3, axis=1)
        r, z = sigmoid(r + ur), sigmoid(z + uz)
        n = np.tanh(n + r * u)
        self.h.append((1 - z) * n + z * before)
        self.keep({"x": x, "h_before": before, "r": r, "z": z, "n": n, "u": u})

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """δh_{t−1} has two parts: through the gates, and along the direct path."""
        s = self.tape[t]
        r, z, n = s["r"], s["z"], s["n"]
        dn = dh * (1 - z) * (1 - n**2)
        dr = dn * s["u"] * r * (1 - r)
        dz = np.concatenate([dr, self.update_delta(s, dh) * z * (1 - z), dn], axis=1)
        return dz, self.previous(self.hand_back(t, dz), dh * z), dc_next

    def update_delta(self, s: Step, dh: Array) -> Array:
        """δ of z as it comes out of its activation."""
        return np.asarray(dh * (s["h_before"] - s["n"]))

    def previous(self, through_gates: Array, direct: Array) -> Array:
        """δh_{t−1}."""
        return through_gates + direct

    def hand_back(self, t: int, dz: Array) -> Array:
        """Uᵀ of δ as it arrives at U h_{t−1}."""
        return np.asarray(self.recurrent(t, dz) @ self.p["U"])

    def accumulate(self, d: Gradient, t: int, dz: Array) -> None:
        """The candidate's recurrent product is multiplied by r."""
        s = self.tape[t]
        d["W"] += dz.T @ s["x"]
        d["U"] += self.recurrent(t, dz).T @ s["h_before"]
        d["b"] += dz.sum(axis=0)

    def recurrent(self, t: int, dz: Array) -> Array:
        """δ of U h_{t−1}."""
        r, z, n = np.split(dz, 3, axis=1)
        return np.concatenate([r, z, n * self.tape[t]["r"]], axis=1)


class TwoLayers(RNN):
    """An RNN on an RNN, whose tensors are "low.W", "low.U" and "low.b"."""

    def __init__(self, T: int = 5, B: int = 2) -> None:
        super().__init__(T, B, features=H)
        self.low = RNN(T, B, scale=0.6)
        self.p |= {f"low.{name}": self.low.p[name] for name in "WUb"}

    def inputs(self) -> Array:
        """The lower layer's hidden states."""
        self.low.forward()
        return np.array(self.low.h[1:])

    def below(self, dx: Array, d: Gradient) -> None:
        """The lower layer's own way back."""
        parts = self.low.buffers()
        self.low.walk(self.hand_down(dx), parts)
        for name in "WUb":
            d[f"low.{name}"] += parts[name]

    def hand_down(self, dx: Array) -> Array:
        """δh of the lower layer's outputs, (T, B, H), from δx of every step."""
        return dx


class TwoDirections(RNN):
    """An RNN and one that runs backwards, with tensors "back.W", "back.U" and "back.b".

    The head sees [forwards, backwards], (T, B, 2H).
    """

    def __init__(self, T: int = 5, B: int = 2) -> None:
        super().__init__(T, B)
        self.other = RNN(T, B, scale=0.6)
        self.other.x = self.x[::-1]
        self.p["V"] = 0.7 * np.random.default_rng(1).standard_normal((O, 2 * H))
        self.p |= {f"back.{name}": self.other.p[name] for name in "WUb"}

    def see(self, h: Array) -> Array:
        """Both, in one order of time."""
        self.other.forward()
        return np.concatenate([h, np.array(self.other.h[1:])[::-1]], axis=2)

    def see_backward(self, dseen: Array) -> Array:
        """The half of the forward direction; the other one's waits for `below`."""
        forwards, self.half = self.apart(dseen)
        return forwards

    def apart(self, dseen: Array) -> tuple[Array, Array]:
        """δh of both directions, each in the order of time."""
        return dseen[:, :, :H], dseen[:, :, H:]

    def below(self, dx: Array, d: Gradient) -> None:
        """The other direction's own way back."""
        parts = self.other.buffers()
        self.other.walk(self.turned(self.half), parts)
        for name in "WUb":
            d[f"back.{name}"] += parts[name]

    def turned(self, dh: Array) -> Array:
        """δh in the own order of the direction that runs backwards."""
        return dh[::-1]
