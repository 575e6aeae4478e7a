"""GRU layer with [h, x] W, blocks r z n; the reset gate acts on h before the product."""

from __future__ import annotations

from typing import Any

import numpy as np

from throughtime.arrays import Array

Cache = dict[str, Any]


def sigmoid(z: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))


def forward(W: Array, b: Array, xs: Array, h: Array, _: Array, __: str) -> tuple[Array, Cache]:
    """Hidden states (T, B, H) from inputs (T, B, I)."""
    H = h.shape[1]
    hs, steps, h0 = [], [], h
    for x in xs:
        gates = sigmoid(np.hstack([h, x]) @ W[:, : 2 * H] + b[: 2 * H])
        r, z = gates[:, :H], gates[:, H:]
        n = np.tanh(np.hstack([r * h, x]) @ W[:, 2 * H :] + b[2 * H :])
        steps.append((h, r, z, n))
        h = (1 - z) * n + z * h
        hs.append(h)
    return np.array(hs), {"steps": steps, "xs": xs, "h0": h0, "hs": hs}


def backward(
    W: Array, dhs: Array, cache: Cache, faults: frozenset[str]
) -> tuple[Array, dict[str, Array]]:
    """dxs, and dW and db by name, from δh of every step."""
    steps, xs, hs = cache["steps"], cache["xs"], cache["hs"]
    T, _, H = dhs.shape
    dW, db, dxs = np.zeros_like(W), np.zeros_like(W[0]), np.zeros_like(xs)
    Urz = W[-H:, : 2 * H] if "wrong_matrix" in faults else W[:H, : 2 * H]
    dh_next = np.zeros_like(dhs[0])
    for t in reversed(range(T)):
        h_prev, r, z, n = steps[-1 if "last_cache_at_every_step" in faults else t]
        if "truncated" in faults and (t + 1) % 3 == 0:
            dh_next = np.zeros_like(dh_next)
        dh = dhs[t] + dh_next
        if "dh_next_missing" in faults:
            dh = dhs[t]
        if "dh_overwritten" in faults and t < T - 1:
            dh = dh_next
        if "term_counted_twice" in faults:
            dh = dh + dh_next
        dan = dh * (1 - z) * (1 - n**2)
        if "derivative_of_activated_value" in faults:
            dan = dh * (1 - z) * (1 - np.tanh(n) ** 2)
        daz = dh * (h_prev - n) * z * (1 - z)
        if "derivative_missing" in faults:
            daz = dh * (h_prev - n)
        if "update_gate_term_missing" in faults:
            daz = -dh * n * z * (1 - z)
        drh = dan @ W[:H, 2 * H :].T
        dar = drh * h_prev * r * (1 - r)
        drz = np.hstack([dar, daz])
        h, x = _operands(h_prev, xs, hs, cache["h0"], t, faults)
        X, Xn = np.hstack([h, x]), np.hstack([r * h, x])
        if "only_last_step_kept" in faults:
            dW, db = np.zeros_like(dW), np.zeros_like(db)
        dW[:, : 2 * H] += X.T @ drz
        dW[:, 2 * H :] += Xn.T @ dan
        over = np.mean if "bias_averaged" in faults else np.sum
        db += over(np.hstack([drz, dan]), axis=0)
        direct, gates = dh * z, drz @ Urz.T + drh * r
        if "recurrent_untransposed" in faults:
            gates = dar @ W[:H, :H] + daz @ W[:H, H : 2 * H] + drh * r
        dh_next = direct + gates
        if "direct_path_only" in faults:
            dh_next = direct
        if "direct_path_missing" in faults:
            dh_next = gates
        dxs[t] = drz @ W[H:, : 2 * H].T + dan @ W[H:, 2 * H :].T
    return dxs, {"W": _ordered(dW, H, faults), "b": _ordered(db, H, faults)}


def _operands(
    h: Array, xs: Array, hs: list[Array], h0: Array, t: int, faults: frozenset[str]
) -> tuple[Array, Array]:
    """h_{t−1} and x_t as the products for dW take them."""
    x = xs[t]
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
    return h, x


def _ordered(d: Array, H: int, faults: frozenset[str]) -> Array:
    r, z, n = (d[..., k * H : (k + 1) * H] for k in range(3))
    if "gates_permuted" in faults:
        r, z = z, r
    if "gate_scaled" in faults:
        z = 1.5 * z
    if "bias_of_gate_copied" in faults and d.ndim == 1:
        r = z
    return np.concatenate([r, z, n], axis=-1)
