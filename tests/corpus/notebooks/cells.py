"""The cells of the notebooks, with what their backward passes get wrong.

A cell is a step forwards and a step back over rows (B, ·). Its weights are views, see `storage`,
and so is its gradient. `self.has("…")` asks for a mistake, `self.has("…", gate)` for one in a gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from corpus.notebooks.habits import Habits
from corpus.notebooks.storage import Views
from throughtime.arrays import Array

Kept = dict[str, Array]


def sigmoid(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


def relu(a: Array) -> Array:
    return np.maximum(a, 0)


class Cell:
    """One layer: `kept` is a dictionary for each step, and `d` the views of the gradient."""

    slopes: ClassVar[Mapping[str, str]]  # the function of each gate

    def __init__(self, s: Habits, layer: int, w: Views, mistakes: frozenset[str]) -> None:
        self.s, self.layer, self.mistakes = s, layer, mistakes
        self.w = w
        self.kept: list[Kept] = []
        self.below: Cell | None = None
        self.gates = s.gates
        self.starts = s.start(layer, "h"), s.start(layer, "c")

    def has(self, kind: str, gate: str = "") -> bool:
        """Whether the program has this mistake, here in its top layer."""
        name = f"{kind} {gate}" if gate else kind
        return name in self.mistakes and self.layer == self.s.layers - 1

    def part(self, which: str, gate: str) -> Array:
        """A view of W, U, b or p."""
        return self.w[f"{which} {gate} {self.layer}"]

    def begin(self, x: Array) -> None:
        """Takes the inputs (T, B, ·): W x + b of all gates and steps is one product."""
        self.x, self.kept = x, []
        joined = {part: [self.part(part, gate) for gate in self.gates] for part in "WU"}
        self.z = x @ np.concatenate(joined["W"]).T
        if self.s.biases:
            self.z = self.z + np.concatenate([self.part("b", gate) for gate in self.gates])
        self.U = np.concatenate(joined["U"]).T

    def split(self, z: Array) -> Kept:
        """The gates of (B, G · H)."""
        H = self.s.H
        return {gate: z[:, k * H : (k + 1) * H] for k, gate in enumerate(self.gates)}

    def step(self, t: int, h: Array, c: Array) -> tuple[Array, Array]:
        """h_t and c_t."""
        raise NotImplementedError

    def back(self, t: int, dh: Array, dc: Array, d: Views) -> tuple[Array, Array, Array]:
        """δx, δh_{t−1} and δc_{t−1}; adds to `d`."""
        raise NotImplementedError

    def slope(self, gate: str, value: Array, before: Array) -> Array:
        """The derivative of a gate's function in terms of its value; `before` is h_{t−1}."""
        kind = self.s.variant if gate == "h" else self.slopes[gate]
        if self.has("derivative_missing", gate):
            return np.ones_like(value)
        if kind == "sigmoid":
            if self.has("derivative_of_activated_value", gate):
                value = sigmoid(value)
            if self.has("activation_again", gate):
                return sigmoid(value)
            if self.has("half_of_the_derivative", gate):
                return value
            return np.asarray(value * (1 - value))
        if kind == "tanh":
            if self.has("derivative_of_activated_value", gate):
                value = np.tanh(value)
            if self.has("activation_again", gate):
                return np.asarray(np.tanh(value))
            if self.has("half_of_the_derivative", gate):
                return np.asarray(1 - value)
            if self.has("slope_at_previous", gate):
                value = before
            return np.asarray(1 - value**2)
        return np.asarray((value > 0).astype(value.dtype))

    def returned(self, dz: Kept) -> Array:
        """Σ Uᵀ δz over the gates."""
        total: Any = 0
        gates = list(dz)
        for gate in gates:
            if self.has("gate_left_out", gate):
                continue
            U = self.part("U", gates[0] if self.has("wrong_matrix") else gate)
            term = dz[gate] @ (U.T if self.has("recurrent_untransposed") else U)
            total = total + (2 * term if self.has("gate_counted_twice", gate) else term)
        return np.asarray(total)

    def downwards(self, dz: Kept) -> Array:
        """Σ Wᵀ δz over the gates: δ of the inputs."""
        total: Any = 0
        for gate in dz:
            U = self.part("U", gate)
            through = self.has("down_through_U") and self.below is not None
            total = total + dz[gate] @ (U if through else self.part("W", gate))
        return np.asarray(total)

    def accumulate(
        self, d: Views, t: int, dz: Kept, into: Kept | None = None, of_U: Kept | None = None
    ) -> None:
        """Adds the step's outer products.

        `into` is what U multiplies where that is not h_{t−1}; `of_U` is the δ of what it gives
        where that is not δz.
        """
        k = self.kept[self.step_kept(t)]
        h = self.operand(t, k)
        x = self.x[-1 - t] if self.has("time_reversed") else self.x[self.step_kept(t)]
        lower = None if self.below is None else self.below.x[t]
        for gate, delta in dz.items():
            own = (into or {}).get(gate, h)
            if self.has("current_h_for_previous", gate):
                own = k["h"]
            seen = x
            if self.has("states_for_inputs", gate) and x.shape == k["before"].shape:
                seen = k["before"]
            if self.has("wrong_layer_input") and lower is not None and lower.shape == x.shape:
                seen = lower
            below = (of_U or {}).get(gate, delta)
            parts = {"W": delta.T @ seen, "U": below.T @ own, "b": delta.sum(axis=0)}
            if self.has("bias_of_first_sequence"):
                parts["b"] = delta[0]
            if self.has("bias_counted_twice"):
                parts["b"] = 2 * parts["b"]
            for letter, own_part in parts.items():
                if letter == "b" and not self.s.biases:
                    continue
                place = d[f"{letter} {gate} {self.layer}"]
                kept = self.has("only_last_step_kept")
                kept = kept or (letter == "b" and self.has("only_last_step_of_bias_kept"))
                place[...] = own_part if kept else place + own_part

    def step_kept(self, t: int) -> int:
        """The step whose values the backward pass of step t reads."""
        return len(self.kept) - 1 if self.has("last_cache_at_every_step") else t

    def operand(self, t: int, k: Kept) -> Array:
        """h_{t−1} as the outer products take it."""
        if self.has("current_h_for_previous"):
            return k["h"]
        if self.has("wrapped_initial_state") and t == 0:
            return self.kept[-1]["h"]
        if self.has("states_off_by_one"):
            return self.kept[t - 1]["before"] if t else self.kept[-1]["h"]
        return k["before"]


class RNN(Cell):
    """h_t = φ(W x + U h + b)."""

    def step(self, t: int, h: Array, c: Array) -> tuple[Array, Array]:
        """h_t, and c as it was."""
        functions: dict[str, Any] = {"tanh": np.tanh, "relu": relu, "sigmoid": sigmoid}
        new = functions[self.s.variant](self.z[t] + h @ self.U)
        self.kept.append({"before": h, "h": new})
        return new, c

    def back(self, t: int, dh: Array, dc: Array, d: Views) -> tuple[Array, Array, Array]:
        """δx, δh_{t−1} and δc_{t−1}."""
        k = self.kept[self.step_kept(t)]
        dz = {"h": dh * self.slope("h", k["h"], k["before"])}
        self.accumulate(d, t, dz)
        carried = {"h": dh} if self.has("carried_before_the_slope") else dz
        return self.downwards(dz), self.returned(carried), dc


class LSTM(Cell):
    """The usual one, or with peepholes, with f = 1 − i, or with h = o ⊙ c."""

    slopes: ClassVar = {"f": "sigmoid", "i": "sigmoid", "g": "tanh", "o": "sigmoid"}

    def step(self, t: int, h: Array, c: Array) -> tuple[Array, Array]:
        """h_t and c_t."""
        peep = self.s.variant == "peepholes"
        together = self.z[t] + h @ self.U
        z = self.split(together)
        if peep:
            z["f"] += self.part("p", "f") * c
            z["i"] += self.part("p", "i") * c
        g, a = np.tanh(z["g"]), self.split(sigmoid(together))
        i, o = a["i"], a["o"]
        f = a.get("f", 1 - i)
        new = f * c + i * g
        if peep:
            o = sigmoid(z["o"] + self.part("p", "o") * new)
        squashed = self.squashed(new)
        own = {
            "before": h,
            "h": o * squashed,
            "c_before": c,
            "c": new,
            "squashed": squashed,
        }
        self.kept.append(own | {"f": f, "i": i, "g": g, "o": o})
        return o * squashed, new

    def squashed(self, c: Array) -> Array:
        """What o is multiplied with."""
        return c if self.s.variant == "h = o c" else np.asarray(np.tanh(c))

    def back(self, t: int, dh: Array, dc: Array, d: Views) -> tuple[Array, Array, Array]:
        """δx, δh_{t−1} and δc_{t−1}."""
        k, peep = self.kept[self.step_kept(t)], self.s.variant == "peepholes"
        if self.has("cells_read_early"):  # in a list of c_0, c_1, …, index t is taken for c_t
            k = k | {"c": k["c_before"], "squashed": self.squashed(k["c_before"])}
            k["c_before"] = self.kept[t - 1]["c_before"] if t else self.kept[-1]["c"]
        i, g, o, f = k["i"], k["g"], k["o"], k["f"]
        before = k["before"]
        dz: Kept = {}
        do = dh * (k["c"] if self.has("wrong_operand", "o") else k["squashed"])
        dz["o"] = do * self.slope("o", o, before)
        own = dh * (np.tanh(o) if self.has("wrong_operand", "c") else o) * self.slope_of_cell(k)
        if self.has("doubled_term"):
            own = own * 2
        dc_next, dc = dc, dc + own
        if peep and not self.has("peephole_path_cut", "o"):
            dc = dc + dz["o"] * self.part("p", "o")
        c_before = k["c_before"]
        if self.has("current_c_for_previous"):
            c_before = k["c"]
        df = dc * (f if self.has("wrong_operand", "f") else c_before)
        di, dg = dc * g, dc * i
        if self.has("gates_swapped_in_dc"):
            di, dg = dg, di
        if self.has("wrong_operand", "i"):
            di = dc * i
        if self.has("wrong_operand", "g"):
            dg = dc * g
        if "f" in self.s.gates:
            dz["f"] = df * self.slope("f", f, before)
        elif not self.has("coupled_term_missing"):
            di = di - dc * k["c_before"]
        dz["i"] = di * self.slope("i", i, before)
        dz["g"] = dg * self.slope("g", g, before)
        dz = {gate: dz[gate] for gate in self.s.gates}
        self.accumulate(d, t, dz)
        factor = i if self.has("carried_with_i") else f
        dc_before = dc if self.has("carried_without_f") else dc * factor
        if self.has("carried_with_another_steps_f") and t:
            dc_before = dc * self.kept[t - 1]["f"]
        if self.has("own_part_not_carried"):
            dc_before = dc_next * f
        if peep:
            for gate, operand in (("f", k["c_before"]), ("i", k["c_before"]), ("o", k["c"])):
                place = d[f"p {gate} {self.layer}"]
                wrong = self.has("current_c_for_previous", "p")
                place += (dz[gate] * (k["c"] if wrong else operand)).sum(axis=0)
            if not self.has("peephole_path_cut"):
                dc_before = (
                    dc_before + dz["f"] * self.part("p", "f") + dz["i"] * self.part("p", "i")
                )
        return self.downwards(dz), self.returned(dz), dc_before

    def slope_of_cell(self, k: Kept) -> Array:
        """The derivative of tanh(c)."""
        if self.s.variant == "h = o c" or self.has("derivative_missing", "c"):
            return np.ones_like(k["c"])
        if self.has("derivative_of_activated_value", "c"):
            return np.asarray(1 - np.tanh(k["squashed"]) ** 2)
        if self.has("half_of_the_derivative", "c"):
            return np.asarray(1 - k["c"] ** 2)  # c itself for tanh(c)
        if self.has("slope_at_previous", "c"):
            return np.asarray(1 - np.tanh(k["c_before"]) ** 2)
        return np.asarray(1 - k["squashed"] ** 2)


class GRU(Cell):
    """The reset gate before or after the product; z keeps the old state, or 1 − z does."""

    slopes: ClassVar = {"r": "sigmoid", "z": "sigmoid", "n": "tanh"}

    def step(self, t: int, h: Array, c: Array) -> tuple[Array, Array]:
        """h_t, and c as it was."""
        H = self.s.H
        product = h @ self.U  # the gates are r, z, n
        a = sigmoid(self.z[t, :, : 2 * H] + product[:, : 2 * H])
        r, z = a[:, :H], a[:, H:]
        product = product[:, 2 * H :]
        if self.s.variant.startswith("before"):
            n = np.tanh(self.z[t, :, 2 * H :] + (r * h) @ self.U[:, 2 * H :])
        else:
            n = np.tanh(self.z[t, :, 2 * H :] + r * product)
        keep = 1 - z if self.s.variant.endswith("1-z") else z
        new = keep * h + (1 - keep) * n
        own = {"before": h, "h": new, "keep": keep, "product": product}
        self.kept.append(own | {"r": r, "z": z, "n": n})
        return new, c

    def back(self, t: int, dh: Array, dc: Array, d: Views) -> tuple[Array, Array, Array]:
        """δx, δh_{t−1} and δc_{t−1}."""
        k = self.kept[self.step_kept(t)]
        r, z, n, h, keep = k["r"], k["z"], k["n"], k["before"], k["keep"]
        sign = -1.0 if self.s.variant.endswith("1-z") else 1.0
        dkeep = dh * (h - n)
        if self.has("update_gate_term_missing"):
            dkeep = -dh * n
        if self.has("update_gate_constant"):
            dkeep = dh * (1 - n)
        if self.has("update_gate_sign"):
            sign = -sign
        dz = {"z": sign * dkeep * self.slope("z", z, h)}
        dn = dh * (keep if self.has("wrong_operand", "n") else 1 - keep)
        dz["n"] = dn * self.slope("n", n, h)
        U, before_product = self.part("U", "n"), self.s.variant.startswith("before")
        into: Kept = {}
        if before_product:
            dproduct = dz["n"] @ (U.T if self.has("recurrent_untransposed") else U)
            dr = dproduct * (n if self.has("wrong_operand", "r") else h)
            through = dproduct if self.has("reset_left_out") else dproduct * r
            into["n"] = h if self.has("reset_left_out_of_product") else r * h
        else:
            dr = dz["n"] * (h if self.has("wrong_operand", "r") else k["product"])
            inner = dz["n"] if self.has("reset_left_out") else dz["n"] * r
            through = inner @ (U.T if self.has("recurrent_untransposed") else U)
        dz["r"] = dr * self.slope("r", r, h)
        dz = {gate: dz[gate] for gate in self.s.gates}
        after = not before_product and not self.has("reset_left_out_of_product")
        self.accumulate(d, t, dz, into, {"n": dz["n"] * r} if after else None)
        if self.has("doubled_term"):
            through = 2 * through
        gates = through + self.returned({"r": dz["r"], "z": dz["z"]})
        if self.has("direct_path_only"):
            return self.downwards(dz), dh * keep, dc
        if self.has("direct_path_missing"):
            return self.downwards(dz), gates, dc
        return self.downwards(dz), dh * keep + gates, dc


KINDS: dict[str, Any] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
