"""Vanilla RNN: h_t = tanh(W x_t + U h_{t−1} + b), columns as vectors."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array

Matrices = dict[str, Array]
GATES = "h"


class RNN:
    """State and its history; `step` and `back` are called once a step."""

    def __init__(self, w: Matrices, h: Array, _: Array) -> None:
        self.w = w
        self.h = [h]
        self.x: list[Array] = []

    def step(self, x: Array) -> Array:
        """h_t (H, 1) from x_t (I, 1)."""
        w = self.w
        self.h.append(np.tanh(w["Wh"] @ x + w["Uh"] @ self.h[-1] + w["bh"]))
        self.x.append(x)
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
        zero = np.zeros_like(dh)
        dh_next = zero if carried is None else carried[0]
        if "dh_next_missing" in faults or ("truncated" in faults and (t + 1) % 3 == 0):
            dh_next = zero
        if "term_counted_twice" in faults:
            dh_next = 2 * dh_next
        dh = dh_next if "dh_overwritten" in faults and carried is not None else dh + dh_next
        s = len(self.x) - 1 if "last_cache_at_every_step" in faults else t
        slope = 1 - self.h[s + 1] ** 2
        if "derivative_of_activated_value" in faults:
            slope = 1 - np.tanh(self.h[s + 1]) ** 2
        if "derivative_missing" in faults:
            slope = np.ones_like(slope)
        da = dh * slope
        h, x = self.h[s], self.x[s]
        if "current_h_for_previous" in faults:
            h = self.h[t + 1]
        if "wrapped_initial_state" in faults:
            h = self.h[1:][t - 1]
        if "states_off_by_one" in faults:
            h = self.h[t - 1]
        if "time_reversed" in faults:
            x = self.x[-1 - t]
        if "only_last_step_kept" in faults:
            d["Wh"], d["Uh"], d["bh"] = da @ x.T, da @ h.T, da
        else:
            d["Wh"], d["Uh"], d["bh"] = d["Wh"] + da @ x.T, d["Uh"] + da @ h.T, d["bh"] + da
        U = self.w["Uh"]
        return (U if "recurrent_untransposed" in faults else U.T) @ da, zero
