"""LSTM layer with [h, x] W, gates i f o g beside one another: forward and backward.

With a projection h = m R, m = o tanh(c), where a matrix R is given.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from throughtime.arrays import Array

Cache = dict[str, Any]


def sigmoid(z: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))


def forward(
    W: Array, b: Array, xs: Array, h: Array, c: Array, _: str, R: Array | None = None
) -> tuple[Array, Cache]:
    """Hidden states (T, B, P) from inputs (T, B, I)."""
    H = c.shape[1]
    steps, h0, hs = [], h, []
    for x in xs:
        X = np.hstack([h, x])
        z = X @ W + b
        i, f, o = sigmoid(z[:, :H]), sigmoid(z[:, H : 2 * H]), sigmoid(z[:, 2 * H : 3 * H])
        g = np.tanh(z[:, 3 * H :])
        c_prev, c = c, i * g + f * c
        h = o * np.tanh(c)
        if R is not None:
            h = h @ R
        steps.append((X, i, f, o, g, c_prev, c))
        hs.append(h)
    return np.array(hs), {"steps": steps, "xs": xs, "h0": h0, "hs": hs, "R": R}


def backward(
    W: Array, dhs: Array, cache: Cache, faults: frozenset[str]
) -> tuple[Array, dict[str, Array]]:
    """dxs, and dW and db by name, from δh of every step."""
    steps, xs, hs = cache["steps"], cache["xs"], cache["hs"]
    T, B, P = dhs.shape
    H, R = W.shape[1] // 4, cache["R"]
    U = W[-P:] if "wrong_matrix" in faults else W[:P]
    dW, db, dR = np.zeros_like(W), np.zeros_like(W[0]), np.zeros((H, P), W.dtype)
    dxs = np.zeros_like(xs)
    dh_next, dc_next = np.zeros_like(dhs[0]), np.zeros((B, H), W.dtype)
    for t in reversed(range(T)):
        X, i, f, o, g, c_prev, c = steps[-1 if "last_cache_at_every_step" in faults else t]
        if "truncated" in faults and (t + 1) % 3 == 0:
            dh_next, dc_next = np.zeros_like(dh_next), np.zeros_like(dc_next)
        dh = dhs[t] + dh_next
        if "dh_next_missing" in faults:
            dh = dhs[t]
        if "dh_overwritten" in faults and t < T - 1:
            dh = dh_next
        if "term_counted_twice" in faults:
            dh = dh + dh_next
        tc = np.tanh(c)
        if R is not None:
            m = tc if "wrong_projection_operand" in faults else o * tc
            dR = (0 if "only_last_step_kept" in faults else dR) + m.T @ dh
            dh = _unprojected(dh, R, faults)
        dc = dh * o * (1 - tc**2) + dc_next
        if "dc_next_missing" in faults:
            dc = dh * o * (1 - tc**2)
        di, df, do, dg = dc * g, dc * c_prev, dh * tc, dc * i
        if "current_c_for_previous" in faults:
            df = dc * c
        if "gates_swapped_in_dc" in faults:
            di, dg = dg, di
        di, df, do, dg = di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)
        if "derivative_of_activated_value" in faults:
            dg = dc * i * (1 - np.tanh(g) ** 2)
        if "derivative_missing" in faults:
            dg = dc * i
        dz = np.hstack([di, df, do, dg])
        X = _operand(X, xs, hs, cache["h0"], t, faults)
        if "only_last_step_kept" in faults:
            dW, db = X.T @ dz, dz.sum(axis=0)
        else:
            dW += X.T @ dz
            db += dz.mean(axis=0) if "bias_averaged" in faults else dz.sum(axis=0)
        dh_next = dz @ U.T
        if "recurrent_untransposed" in faults:
            blocks = range(0, 4 * H, H)
            dh_next = sum((dz[:, k : k + H] @ U[:, k : k + H] for k in blocks), np.zeros((B, P)))
        dc_next = dc * f
        dxs[t] = dz @ W[P:].T
    found = {"W": _ordered(dW, H, faults), "b": _ordered(db, H, faults)}
    return dxs, found | ({} if R is None else {"R": dR})


def _unprojected(dh: Array, R: Array, faults: frozenset[str]) -> Array:
    """δm from δh = δ(m R)."""
    if "projection_untransposed" in faults:
        return dh @ R.reshape(R.shape[::-1])
    if "projection_skipped" in faults:
        H, P = R.shape
        return np.hstack([dh, np.zeros((len(dh), H - P), dh.dtype)])
    return dh @ R.T


def _operand(
    X: Array, xs: Array, hs: list[Array], h0: Array, t: int, faults: frozenset[str]
) -> Array:
    """[h_{t−1}, x_t] as the product for dW takes it."""
    h, x = X[:, : hs[0].shape[1]], X[:, hs[0].shape[1] :]
    if "current_h_for_previous" in faults:
        h = hs[t]
    if "wrapped_initial_state" in faults:
        h = hs[t - 1]
    if "states_off_by_one" in faults:
        h = [h0, *hs][t - 1]
    if "time_reversed" in faults:
        x = xs[::-1][t]
    if "sequences_swapped" in faults:
        x = x[::-1]
    return np.hstack([h, x])


def _ordered(d: Array, H: int, faults: frozenset[str]) -> Array:
    i, f, o, g = (d[..., k * H : (k + 1) * H] for k in range(4))
    if "gates_permuted" in faults:
        i, f = f, i
    if "gate_scaled" in faults:
        i = 1.5 * i
    if "bias_of_gate_copied" in faults and d.ndim == 1:
        f = i
    return np.concatenate([i, f, o, g], axis=-1)
