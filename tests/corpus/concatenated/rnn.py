"""Vanilla RNN layer with [h, x] W, tanh or ReLU: forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from throughtime.arrays import Array

Cache = dict[str, Any]


def forward(W: Array, b: Array, xs: Array, h: Array, _: Array, phi: str) -> tuple[Array, Cache]:
    """Hidden states (T, B, H) from inputs (T, B, I)."""
    states = [h]
    for x in xs:
        z = np.hstack([states[-1], x]) @ W + b
        states.append(np.tanh(z) if phi == "tanh" else np.maximum(z, 0))
    return np.array(states[1:]), {"states": states, "xs": xs, "phi": phi}


def backward(
    W: Array, dhs: Array, cache: Cache, faults: frozenset[str]
) -> tuple[Array, dict[str, Array]]:
    """dxs, and dW and db by name, from δh of every step."""
    states, xs = cache["states"], cache["xs"]
    T, _, H = dhs.shape
    dW, db, dxs = np.zeros_like(W), np.zeros_like(W[0]), np.zeros_like(xs)
    dh_next = np.zeros_like(dhs[0])
    for t in reversed(range(T)):
        if "truncated" in faults and (t + 1) % 3 == 0:
            dh_next = np.zeros_like(dh_next)
        dh = dhs[t] + dh_next
        if "dh_next_missing" in faults:
            dh = dhs[t]
        if "dh_overwritten" in faults and t < T - 1:
            dh = dh_next
        if "term_counted_twice" in faults:
            dh = dh + dh_next
        h = states[-1 if "last_cache_at_every_step" in faults else t + 1]
        dz = dh * (1 - h**2) if cache["phi"] == "tanh" else dh * (h > 0)
        if "derivative_of_activated_value" in faults:
            dz = dh * (1 - np.tanh(h) ** 2)
        if "derivative_missing" in faults:
            dz = dh
        h_prev, x = states[t], xs[t]
        if "last_cache_at_every_step" in faults:
            h_prev, x = states[-2], xs[-1]
        if "current_h_for_previous" in faults:
            h_prev = states[t + 1]
        if "wrapped_initial_state" in faults:
            h_prev = states[1:][t - 1]
        if "states_off_by_one" in faults:
            h_prev = states[t - 1]
        if "time_reversed" in faults:
            x = xs[::-1][t]
        if "sequences_swapped" in faults:
            x = x[::-1]
        if "only_last_step_kept" in faults:
            dW, db = np.zeros_like(dW), np.zeros_like(db)
        dW += np.hstack([h_prev, x]).T @ dz
        db += dz.mean(axis=0) if "bias_averaged" in faults else dz.sum(axis=0)
        dh_next = dz @ W[:H].T
        if "recurrent_untransposed" in faults:
            dh_next = dz @ W[:H]
        if "wrong_matrix" in faults:
            dh_next = dz @ W[-H:].T
        dxs[t] = dz @ W[H:].T
    return dxs, {"W": dW, "b": db}
