"""GRU with one matrix a gate in a dictionary; z is the share of the new: h = (1 − z) h + z ĥ."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array

Matrices = dict[str, Array]
GATES = "zrh"


def logistic(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


class GRU:
    """State and its history; `step` and `back` are called once a step."""

    def __init__(self, w: Matrices, h: Array, _: Array) -> None:
        self.w = w
        self.h = [h]
        self.x: list[Array] = []
        self.gate: list[tuple[Array, Array, Array]] = []

    def step(self, x: Array) -> Array:
        """h_t (H, 1) from x_t (I, 1)."""
        w, h = self.w, self.h[-1]
        z = logistic(w["Wz"] @ x + w["Uz"] @ h + w["bz"])
        r = logistic(w["Wr"] @ x + w["Ur"] @ h + w["br"])
        new = np.tanh(w["Wh"] @ x + w["Uh"] @ (r * h) + w["bh"])
        self.h.append((1 - z) * h + z * new)
        self.x.append(x)
        self.gate.append((z, r, new))
        return self.h[-1]

    def back(
        self,
        t: int,
        dh: Array,
        carried: tuple[Array, Array] | None,
        d: Matrices,
        faults: frozenset[str],
    ) -> tuple[Array, Array]:
        """Adds step t's part to `d`; returns δh for the step before."""
        w, s = self.w, len(self.x) - 1 if "last_cache_at_every_step" in faults else t
        (z, r, new), h = self.gate[s], self.h[s]
        zero = np.zeros_like(dh)
        dh_next = zero if carried is None else carried[0]
        if "dh_next_missing" in faults or ("truncated" in faults and (t + 1) % 3 == 0):
            dh_next = zero
        if "term_counted_twice" in faults:
            dh_next = 2 * dh_next
        dh = dh_next if "dh_overwritten" in faults and carried is not None else dh + dh_next
        dz, dnew = dh * (new - h), dh * z
        if "update_gate_term_missing" in faults:
            dz = dh * new
        slope = {"z": z * (1 - z), "r": r * (1 - r), "h": 1 - new**2}
        if "derivative_of_activated_value" in faults:
            slope["z"] = logistic(z) * (1 - logistic(z))
        if "derivative_missing" in faults:
            slope["h"] = np.ones_like(new)
        da = {"z": dz * slope["z"], "h": dnew * slope["h"]}
        dreset = w["Uh"].T @ da["h"]
        da["r"] = dreset * h * slope["r"]
        before, x = self.operands(s, faults)
        for k in GATES:
            into = r * before if k == "h" else before
            own = {"W": da[k] @ x.T, "U": da[k] @ into.T, "b": da[k]}
            for letter, part in own.items():
                if "only_last_step_kept" in faults:
                    d[letter + k] = part
                else:
                    d[letter + k] = d[letter + k] + part
        Uz, Ur = w["Uz"], w["Ur"]
        if "recurrent_untransposed" in faults:
            Uz, Ur = Uz.T, Ur.T
        if "wrong_matrix" in faults:
            Uz, Ur = Ur, Uz
        direct, gates = dh * (1 - z), Uz.T @ da["z"] + Ur.T @ da["r"] + r * dreset
        if "direct_path_only" in faults:
            return direct, zero
        if "direct_path_missing" in faults:
            return gates, zero
        return direct + gates, zero

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
