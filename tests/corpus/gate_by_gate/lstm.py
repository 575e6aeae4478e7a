"""LSTM with one matrix a gate in a dictionary, columns as vectors, one step after the other."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array

Matrices = dict[str, Array]
GATES = "fioc"


def logistic(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


class LSTM:
    """State and its history; `step` and `back` are called once a step."""

    def __init__(self, w: Matrices, h: Array, c: Array) -> None:
        self.w = w
        self.h, self.c = [h], [c]
        self.x: list[Array] = []
        self.gate: list[Matrices] = []

    def step(self, x: Array) -> Array:
        """h_t (H, 1) from x_t (I, 1)."""
        w, h, c = self.w, self.h[-1], self.c[-1]
        a = {k: w["W" + k] @ x + w["U" + k] @ h + w["b" + k] for k in GATES}
        v = {k: np.tanh(a[k]) if k == "c" else logistic(a[k]) for k in GATES}
        self.c.append(v["f"] * c + v["i"] * v["c"])
        self.h.append(v["o"] * np.tanh(self.c[-1]))
        self.x.append(x)
        self.gate.append(v)
        return self.h[-1]

    def back(
        self,
        t: int,
        dh: Array,
        carried: tuple[Array, Array] | None,
        d: Matrices,
        faults: frozenset[str],
    ) -> tuple[Array, Array]:
        """Adds step t's part to `d`; returns what the step before needs, δh and δc."""
        w, s = self.w, len(self.x) - 1 if "last_cache_at_every_step" in faults else t
        v, c_prev, c = self.gate[s], self.c[s], self.c[s + 1]
        zero = np.zeros_like(dh)
        dh_next, dc_next = (zero, zero) if carried is None else carried
        if "truncated" in faults and (t + 1) % 3 == 0:
            dh_next, dc_next = zero, zero
        if "dh_next_missing" in faults:
            dh_next = zero
        if "dc_next_missing" in faults:
            dc_next = zero
        if "term_counted_twice" in faults:
            dc_next = 2 * dc_next
        dh = dh_next if "dh_overwritten" in faults and carried is not None else dh + dh_next
        dc = dc_next + dh * v["o"] * (1 - np.tanh(c) ** 2)
        dv = {"f": dc * c_prev, "i": dc * v["c"], "o": dh * np.tanh(c), "c": dc * v["i"]}
        if "current_c_for_previous" in faults:
            dv["f"] = dc * c
        if "gates_swapped_in_dc" in faults:
            dv["i"], dv["c"] = dv["c"], dv["i"]
        da = {}
        for k in GATES:
            slope = 1 - v[k] ** 2 if k == "c" else v[k] * (1 - v[k])
            if "derivative_of_activated_value" in faults and k != "c":
                slope = logistic(v[k]) * (1 - logistic(v[k]))
            if "derivative_missing" in faults and k == "o":
                slope = np.ones_like(slope)
            da[k] = dv[k] * slope
        h, x = self.operands(s, faults)
        for k in GATES:
            own = {"W": da[k] @ x.T, "U": da[k] @ h.T, "b": da[k]}
            for letter, part in own.items():
                if "only_last_step_kept" in faults:
                    d[letter + k] = part
                else:
                    d[letter + k] = d[letter + k] + part
        dh = zero
        for k in GATES:
            U = w["U" + ("i" if "wrong_matrix" in faults else k)]
            dh = dh + (U if "recurrent_untransposed" in faults else U.T) @ da[k]
        return dh, dc * v["f"]

    def operands(self, t: int, faults: frozenset[str]) -> tuple[Array, Array]:
        """h_{t−1} and x_t as the outer products take them."""
        h, x = self.h[t], self.x[t]
        if "current_h_for_previous" in faults:
            h = self.h[t + 1]
        if "wrapped_initial_state" in faults:
            h = self.h[1:][t - 1]
        if "states_off_by_one" in faults:
            h = self.h[t - 1]
        if "time_reversed" in faults:
            x = self.x[-1 - t]
        return h, x
