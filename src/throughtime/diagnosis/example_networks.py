"""Small networks whose backward pass comes in pieces, so that an example can get one piece wrong.

Rows are vectors: x_t is (B, I), h_t is (B, H). A head V h + d answers at every step; the loss is
the cross-entropy, summed over steps and sequences. Biases and initial states are not 0,
since a 0 hides faults, and T, B, H and O differ, so that a factor shows where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

import numpy as np

from throughtime import cells
from throughtime.arrays import Array
from throughtime.equations import softmax
from throughtime.gradcheck import Target

I, H, O = 2, 3, 4  # noqa: E741  inputs, hidden units, classes
STEP = 1e-5
EXACT = 1e-7  # a discrepancy that central differences in float64 may have

Gradient = dict[str, Array]
Step = dict[str, Array]


class ExampleNetwork:
    """What the cells share: data, head, loss, the backward pass, and a numerical gradient.

    Args:
        T, B: steps and sequences.
        start: scale of the initial states.
        scale: of the weights.

    Attributes:
        p: parameters: W (G·H, I), U (G·H, H), b (G·H,), V (O, H), d (O,).
        x, y: inputs (T, B, I), and targets (T, B, O), 1 in the right class.
        h: h_0 … h_T of the last run, each (B, H).
        tape: what its steps kept, one mapping a step.
    """

    cell: ClassVar[cells.Cell]

    def __init__(
        self, T: int = 5, B: int = 2, *, start: float = 0.5, scale: float = 0.7, features: int = I
    ) -> None:
        self.T, self.B = T, B
        rng, rows = np.random.default_rng(0), len(self.cell.gates) * H
        shapes = {"W": (rows, features), "U": (rows, H), "b": (rows,), "V": (O, H), "d": (O,)}
        self.p = {name: scale * rng.standard_normal(shape) for name, shape in shapes.items()}
        states = start * rng.standard_normal((2, B, H))
        self.h0: Array = states[0]
        self.c0: Array = states[1]
        self.x = rng.standard_normal((T, B, I))
        self.y = np.eye(O)[rng.integers(O, size=(T, B))]
        self.h: list[Array] = []
        self.c: list[Array] = []
        self.tape: list[Step] = []

    # --- forward ---

    def forward(self) -> Array:
        """Outputs (T, B, O), before the softmax."""
        self.h, self.c, self.tape = [self.first()], [self.c0], []
        for x in self.inputs():
            self.step(x)
        self.seen = self.see(np.array(self.h[1:]))
        return np.asarray(self.seen @ self.p["V"].T + self.p["d"])

    def first(self) -> Array:
        """h_0."""
        return self.h0

    def inputs(self) -> Array:
        """The inputs of the cell, (T, B, ·)."""
        return self.x

    def step(self, x: Array) -> None:
        """Runs one step: appends to `h` and `c`, and keeps its values by their names."""
        before = {"h": self.h[-1], "c": self.c[-1]}
        z_x = x @ self.p["W"].T + self.p["b"]
        after, kept = self.cell.step(self.weights(), z_x, before)
        self.h.append(after["h"])
        self.c.append(after.get("c", before["c"]))
        given = {"x": x} | {f"{name}_before": state for name, state in before.items()}
        self.keep({**given, **after, **kept})

    def weights(self) -> Gradient:
        """The parameters of the cell, among others."""
        return self.p

    def keep(self, step: Step) -> None:
        """Puts a step's values on the tape."""
        self.tape.append(step)

    def see(self, h: Array) -> Array:
        """What the head sees of the hidden states (T, B, H)."""
        return h

    def loss(self, outputs: Array) -> float:
        """The loss of outputs (T, B, O)."""
        return float(-(self.y * np.log(softmax(outputs))).sum())

    # --- backward ---

    def gradient(self) -> Gradient:
        """The gradient, by the parameters' names."""
        dy = self.output_delta(self.forward())
        d = self.buffers()
        d["V"] += np.einsum("tbo,tbh->oh", dy, self.seen)
        d["d"] += dy.sum(axis=(0, 1))
        self.below(self.walk(self.see_backward(dy @ self.p["V"]), d), d)
        return self.finished(d)

    def output_delta(self, outputs: Array) -> Array:
        """δ of the outputs, (T, B, O)."""
        return np.asarray(softmax(outputs) - self.y)

    def buffers(self) -> Gradient:
        """What the contributions are added to."""
        return {name: np.zeros_like(array) for name, array in self.p.items()}

    def see_backward(self, dseen: Array) -> Array:
        """δh of the outputs, from δ of what the head saw."""
        return dseen

    def walk(self, dh_output: Array, d: Gradient) -> Array:
        """Goes back through time, adds to `d`, and returns δ of the inputs."""
        dx = np.zeros((self.T, self.B, self.p["W"].shape[1]))
        dh_next, dc_next = np.zeros_like(self.h0), np.zeros_like(self.h0)
        for t in reversed(range(self.T)):
            dh = self.arriving(dh_output[t], dh_next)
            dz, dh_next, dc_next = self.back(t, dh, dc_next)
            self.accumulate(d, t, dz)
            dx[t] = dz @ self.p["W"]
        return dx

    def arriving(self, dh_output: Array, dh_next: Array) -> Array:
        """δh of a step, from its own output and from the next step."""
        return dh_output + dh_next

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """δz of step t, and what the step before is sent: δh and δc."""
        raise NotImplementedError

    def hand_back(self, t: int, dz: Array) -> Array:
        """δh for the step before, from δz of step t."""
        return np.asarray(dz @ self.p["U"])  # Uᵀδz, written for rows

    def accumulate(self, d: Gradient, t: int, dz: Array) -> None:
        """Adds step t's contributions."""
        step = self.tape[t]
        d["W"] += dz.T @ step["x"]
        d["U"] += dz.T @ step["h_before"]
        d["b"] += dz.sum(axis=0)

    def below(self, dx: Array, d: Gradient) -> None:
        """Adds the gradient of what lies below the inputs, from δx."""

    def finished(self, d: Gradient) -> Gradient:
        """The gradient as it is returned; here it can still be changed."""
        return d

    # --- compared ---

    def numerical(self) -> Gradient:
        """Central differences of the loss."""
        found = {}
        for name, array in self.p.items():
            found[name] = np.empty_like(array)
            for place, value in np.ndenumerate(array):
                ends = []
                for moved in (value + STEP, value - STEP):
                    array[place] = moved
                    ends.append(self.loss(self.forward()))
                array[place] = value
                found[name][place] = (ends[0] - ends[1]) / (2 * STEP)
        return found

    @cached_property
    def both(self) -> tuple[Gradient, Gradient]:
        """The gradient and the numerical one."""
        numerical = self.numerical()
        return self.gradient(), numerical

    def discrepancy(self, *names: str) -> float:
        """‖g − n‖ / (‖g‖ + ‖n‖) over some tensors; over all where none is named."""
        g, n = self._flat(names)
        sizes = float(np.linalg.norm(g) + np.linalg.norm(n))
        return float(np.linalg.norm(g - n)) / sizes if sizes else 0.0

    def agrees(self, *names: str) -> bool:
        """Whether these tensors are right; without names, all of them."""
        return all(self.discrepancy(name) < EXACT for name in names or self.p)

    def slope(self, *names: str) -> float:
        """α of the regression g = α n."""
        g, n = self._flat(names)
        return float(g @ n / (n @ n))

    def cosine(self, *names: str) -> float:
        """Cosine of the angle between g and n."""
        g, n = self._flat(names)
        return float(g @ n / np.linalg.norm(g) / np.linalg.norm(n))

    def target(self) -> Target:
        """For `tt.check`."""
        return Target(self.p, lambda: self.loss(self.forward()), self.gradient, steps=self.T)

    def _flat(self, names: Iterable[str]) -> tuple[Array, Array]:
        chosen = tuple(names) or tuple(self.p)
        g, n = (np.concatenate([d[name].ravel() for name in chosen]) for d in self.both)
        return g, n


class RNN(ExampleNetwork):
    """h_t = tanh(W x_t + U h_{t−1} + b)."""

    cell: ClassVar = cells.RNN(I, H)

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """δc is passed on as it is, since an RNN has none."""
        dz = self.delta(self.tape[t], dh)
        return dz, self.hand_back(t, dz), dc_next

    def delta(self, step: Step, dh: Array) -> Array:
        """δz."""
        return np.asarray(dh * (1 - step["h"] ** 2))


class LSTM(ExampleNetwork):
    """c_t = i ⊙ a + f ⊙ c_{t−1}, h_t = o ⊙ tanh c_t; blocks of rows i, f, a, o."""

    cell: ClassVar = cells.LSTM(I, H)

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """δz of all four gates, side by side."""
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
    """h_t = R m_t, m_t = o ⊙ tanh c_t; R is square, (H, H), so that wrong products with it run."""

    cell: ClassVar = cells.LSTM(I, H, projection=H)

    def __init__(self, T: int = 5, B: int = 2) -> None:
        super().__init__(T, B)
        self.p["R"] = 0.7 * np.random.default_rng(1).standard_normal((H, H))

    def step(self, x: Array) -> None:
        """Keeps m beside what the LSTM keeps."""
        super().step(x)
        s = self.tape[-1]
        s["m"] = s["o"] * s["tanh_c"]

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """The LSTM's backward step, from δm."""
        self.tape[t]["dh"] = dh
        return super().back(t, self.unprojected(dh), dc_next)

    def unprojected(self, dh: Array) -> Array:
        """δm."""
        return np.asarray(dh @ self.p["R"])  # Rᵀδh, written for rows

    def accumulate(self, d: Gradient, t: int, dz: Array) -> None:
        """Adds δR too."""
        super().accumulate(d, t, dz)
        d["R"] += self.tape[t]["dh"].T @ self.operand(t)

    def operand(self, t: int) -> Array:
        """What R is multiplied by in the forward pass."""
        return self.tape[t]["m"]


class GRU(ExampleNetwork):
    """h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}, n = tanh(W x + b + r ⊙ U h_{t−1}); rows r, z, n."""

    cell: ClassVar = cells.GRU(I, H)

    def weights(self) -> Gradient:
        """With a recurrent bias of the candidate, which is 0."""
        return self.p | {"c": np.zeros(H)}

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """δh_{t−1} has two parts: through the gates, and along the direct path."""
        s = self.tape[t]
        r, z, n = s["r"], s["z"], s["n"]
        dn = dh * (1 - z) * (1 - n**2)
        dr = dn * s["u_n"] * r * (1 - r)
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
        """The lower layer's own backward pass."""
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
        """Both directions' states, in one order of time."""
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
        """The other direction's own backward pass."""
        parts = self.other.buffers()
        self.other.walk(self.turned(self.half), parts)
        for name in "WUb":
            d[f"back.{name}"] += parts[name]

    def turned(self, dh: Array) -> Array:
        """δh in the own order of the direction that runs backwards."""
        return dh[::-1]
