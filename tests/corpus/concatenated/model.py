"""Recurrent layers, a dense head and a loss over a batch, rows as vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from corpus.concatenated import gru, lstm, rnn
from corpus.setting import Setting
from throughtime.arrays import Array

LAYERS: dict[str, Any] = {"RNN": rnn, "GRU": gru, "LSTM": lstm}
BLOCKS = {"RNN": 1, "GRU": 3, "LSTM": 4}


def parameters(s: Setting) -> dict[str, Array]:
    """W1 (P + I, G·H), b1, the next layer's W2 (P + D·P, G·H), b2, and the head's Wy (D·P, O), by.

    A projection R1 (H, P); the direction that runs backwards has names that end in r.
    """
    width, found = BLOCKS[s.cell] * s.H, {}
    for place, lane in enumerate(lanes(s)):
        inputs = s.I if lane[0] == "1" else s.D * s.P
        found[f"W{lane}"] = s.weights(2 * place + 2, s.P + inputs, width)
        found[f"b{lane}"] = s.weights(2 * place + 3, width)
        if s.projection:
            found[f"R{lane}"] = s.weights(50 + place, s.H, s.P)
    return found | {"Wy": s.weights(0, s.D * s.P, s.O), "by": s.weights(1, s.O)}


def lanes(s: Setting) -> list[str]:
    """What the names of each layer and direction end in: 1, 1r, 2, 2r."""
    return [f"{layer}{way}" for layer in range(1, s.layers + 1) for way in ("", "r")[: s.D]]


class Model:
    """Loss and gradient at the parameters `p`, which both look at where they are."""

    def __init__(self, s: Setting, p: Mapping[str, Array]) -> None:
        self.s, self.p, self.layer = s, p, LAYERS[s.cell]
        self.xs, self.labels, self.answers = s.inputs(), s.labels(), s.answers()
        steps = np.arange(s.T)[:, None]
        self.valid = (steps < s.lengths()).astype(s.dtype)  # (T, B)
        self.share = np.ones((s.T, s.B), s.dtype)
        if s.time == "mean":
            self.share /= s.lengths().astype(s.dtype)
        if s.batch == "mean":
            self.share /= np.array(s.B, s.dtype)
        self.carried = s.start(0)[:, : s.P]
        self.rng = np.random.default_rng()
        self.grown: dict[str, Array] = {}
        self.reset()

    def reset(self) -> None:
        """Before every run: the generator of the dropout masks starts again."""
        self.dropping = np.random.default_rng(self.s.seed)

    def loss(self) -> Any:
        """One number of the model's dtype, or terms, the last of them the L2 term."""
        terms, *_ = self.forward()
        decay = sum((np.sum(self.p[n] ** 2) for n in self.p if n[0] in "WR"), start=0.0)
        decay = np.asarray(0.5 * self.s.decay * decay, self.s.dtype)
        return np.append(terms, decay) if self.s.terms else terms.sum() + decay

    def forward(self) -> tuple[Array, Array, list[Any], Array, Array]:
        """Terms, outputs, what the layers keep, what the head saw, and the dropout mask."""
        s, p, hs = self.s, self.p, self.xs
        caches: list[Any] = []
        for layer in range(1, s.layers + 1):
            ways = []
            for way in ("", "r")[: s.D]:
                ys, cache = self.run(f"{layer}{way}", self.turned(hs) if way else hs, len(caches))
                ways.append(self.turned(ys) if way else ys)
                caches.append(cache)
            hs = np.concatenate(ways, axis=2)
        mask = self.mask(hs.shape)
        seen = hs * mask
        if s.task == "regression":
            y = seen[-1] @ p["Wy"] + p["by"]
            square = ((y - self.answers) ** 2).mean(axis=1)
            terms = square / np.array(s.B, s.dtype) if s.batch == "mean" else square
            return (np.sqrt(terms.sum(keepdims=True)) if s.root else terms), y, caches, seen, mask
        logits = seen @ p["Wy"] + p["by"]
        logits -= logits.max(axis=-1, keepdims=True)
        exp = np.exp(logits)
        P = exp / exp.sum(axis=-1, keepdims=True)
        picked = np.take_along_axis(P, self.labels[..., None], axis=-1)[..., 0]
        terms = -(np.log(picked) * self.share * self.valid).sum(axis=1)
        return terms, P, caches, seen, mask

    def run(self, lane: str, xs: Array, place: int) -> tuple[Array, Any]:
        """One layer in one direction."""
        s, p = self.s, self.p
        h, c = s.start(2 * place)[:, : s.P], s.start(2 * place + 1)
        if "state_carried" in s.faults and not place:
            h = self.carried
        given = (p[f"W{lane}"], p[f"b{lane}"], xs, h, c, s.activation)
        more = (p[f"R{lane}"],) if s.projection else ()
        ys, cache = self.layer.forward(*given, *more)
        if not place:
            self.carried = ys[-1]
        return ys, cache

    def turned(self, array: Array) -> Array:
        """(T, B, ·) with every sequence reversed within its own length."""
        found = array.copy()
        for k, length in enumerate(self.s.lengths()):
            found[:length, k] = array[:length, k][::-1]
        return found

    def mask(self, shape: tuple[int, ...]) -> Array:
        """(T, B, H): 0 where a unit is dropped, else 1 / (1 − share)."""
        if not self.s.dropout:
            return np.ones(shape, self.s.dtype)
        kept = self.dropping.random(shape) >= self.s.dropout
        return np.asarray(kept / (1 - self.s.dropout), self.s.dtype)

    def gradient(self) -> dict[str, Array]:
        """By name, like the parameters."""
        s, p, faults = self.s, self.p, self.s.faults
        terms, y, caches, seen, mask = self.forward()
        if "dropout_mask_redrawn" in faults:
            mask = self.mask(seen.shape)
        if "states_off_by_one" in faults:
            seen = np.concatenate([s.start(0)[None], seen[:-1]])
        d = self.head_gradient(terms, y, seen)
        dhs = d.pop("dhs") * mask
        for layer in range(s.layers, 0, -1):
            halves, parts = np.split(dhs, s.D, axis=2), []
            if "directions_swapped" in faults:
                halves = halves[::-1]
            for way, half in zip(("", "r"), halves, strict=False):
                lane = f"{layer}{way}"
                if way and "direction_not_reversed" not in faults:
                    half = self.turned(half)
                cache = caches[lanes(s).index(lane)]
                dxs, own = self.layer.backward(p[f"W{lane}"], half, cache, faults)
                d |= {f"{kind}{lane}": array for kind, array in own.items()}
                parts.append(self.turned(dxs) if way else dxs)
            dhs = np.sum(parts, axis=0)
            if "lower_layer_overwritten" in faults:
                dhs[1:] = 0
        return self.finished({name: d[name] for name in p})

    def head_gradient(self, terms: Array, y: Array, seen: Array) -> dict[str, Array]:
        """Wy, by, and δh of every step."""
        s, Wy = self.s, self.p["Wy"]
        dy = self.step_gradient(y) if s.task == "softmax" else self.answer_gradient(terms, y)
        if "output_gradient_at_last_step_only" in s.faults:
            dy[:-1] = 0
        if "output_gradient_at_every_step" in s.faults:
            dy[:] = dy[-1]
        dWy = np.einsum("tbh,tbo->ho", seen, dy)
        dby = dy.sum(axis=(0, 1))
        return {"Wy": dWy, "by": dby, "dhs": dy @ Wy.T}

    def step_gradient(self, P: Array) -> Array:
        """δ of the logits at every step, (T, B, O)."""
        s, faults, labels = self.s, self.s.faults, self.labels
        if "targets_shifted" in faults:
            labels = np.roll(labels, -1, axis=0)
        dy = P - np.eye(s.O, dtype=s.dtype)[labels]
        if "different_loss" in faults:
            dy = 2 * dy * P * (1 - P)
        if "softmax_derivative_twice" in faults:
            dy = P * (dy - (P * dy).sum(axis=-1, keepdims=True))
        if "divided_by_classes" in faults:
            dy = dy / s.O
        share = self.share
        if "averaged_over_steps" in faults:
            share = share / s.T
        if "summed_over_steps" in faults:
            share = share * s.T
        if "divided_by_batch" in faults:
            share = share / s.B
        if "padding_counted" not in faults:
            share = share * self.valid
        return np.asarray(dy * share[..., None], s.dtype)

    def answer_gradient(self, terms: Array, y: Array) -> Array:
        """δ of the outputs, (T, B, O), nothing but 0 before the last step."""
        s, faults = self.s, self.s.faults
        dy = 2 * (y - self.answers) / s.O
        if s.batch == "mean":
            dy /= s.B
        if s.root and "root_taken" not in faults:
            dy /= 2 * terms.sum()
        if "averaged_over_outputs" in faults:
            dy *= s.O
        if "half_squared_error" in faults:
            dy /= 2
        if "divided_by_batch" in faults:
            dy /= s.B
        everywhere = np.zeros((s.T, s.B, s.O), s.dtype)
        everywhere[-1] = dy
        return everywhere

    def finished(self, d: dict[str, Array]) -> dict[str, Array]:
        """What happens to a gradient between the backward pass and the update."""
        s, faults, H, P = self.s, self.s.faults, self.s.H, self.s.P
        if "gradient_transposed" in faults:
            for k in range(0, BLOCKS[s.cell] * H, H):
                d["W1"][:P, k : k + H] = d["W1"][:P, k : k + H].T.copy()
        if "tensor_scaled" in faults:
            d["W1"] *= 1.5
        if "zero_gradient" in faults:
            d["b1"] = np.zeros_like(d["b1"])
        if s.decay and "weight_decay_missing" not in faults:
            twice = 2 if "weight_decay_doubled" in faults else 1
            for name in (n for n in d if n[0] in "WR"):
                d[name] += twice * s.decay * self.p[name]
        for name, factor in (("factor_two", 2), ("factor_half", 0.5), ("wrong_sign", -1)):
            if name in faults:
                d = {n: factor * a for n, a in d.items()}
        if "clipped_by_value" in faults:
            d = {n: a.clip(-0.1, 0.1) for n, a in d.items()}
        if "clipped_by_norm" in faults:
            norm = np.sqrt(sum((np.sum(a**2) for a in d.values()), start=0.0))
            d = {n: a * min(1.0, 0.25 / norm) for n, a in d.items()}
        if "random_buffer" in faults:
            d["b1"] += self.rng.standard_normal(d["b1"].shape)
        if "accumulated_without_zeroing" in faults:
            d = self.grown = {n: a + self.grown.get(n, 0) for n, a in d.items()}
        if "updated_in_backward" in faults:
            for name, array in self.p.items():
                array -= 0.1 * d[name]
        return {n: np.asarray(a, s.dtype) for n, a in d.items()}
