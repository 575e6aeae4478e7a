"""One sequence through a recurrent layer and a head; the loss is added up step by step."""

from __future__ import annotations

from typing import Any

import numpy as np

from corpus.gate_by_gate import gru, lstm, rnn
from corpus.setting import Setting
from throughtime.arrays import Array

Matrices = dict[str, Array]
CELLS: dict[str, Any] = {"RNN": rnn.RNN, "GRU": gru.GRU, "LSTM": lstm.LSTM}
GATES = {"RNN": rnn.GATES, "GRU": gru.GATES, "LSTM": lstm.GATES}


def parameters(s: Setting) -> Matrices:
    """W (H, I), U (H, H) and b (H, 1) of every gate, V (O, H) and c (O, 1) of the head.

    Biases begin at 0, as most people's do.
    """
    found = {}
    for place, k in enumerate(GATES[s.cell]):
        found["W" + k] = s.weights(2 * place, s.H, s.I)
        found["U" + k] = s.weights(2 * place + 1, s.H, s.H)
        found["b" + k] = np.zeros((s.H, 1), s.dtype)
    return found | {"V": s.weights(50, s.O, s.H), "c": np.zeros((s.O, 1), s.dtype)}


class Model:
    """Loss and gradient at the matrices `w`."""

    def __init__(self, s: Setting, w: Matrices) -> None:
        self.s, self.w = s, w
        self.xs = [x.T for x in s.inputs()]
        self.labels = s.labels()[:, 0]
        self.answer = s.answers().T
        self.scale = np.array(1 / s.T if s.time == "mean" else 1, s.dtype)
        self.entropy = np.random.default_rng()

    def run(self) -> tuple[Any, list[Array], list[Array]]:
        """The cell with its history, the outputs, and the terms of the loss."""
        s, w = self.s, self.w
        cell = CELLS[s.cell](w, s.start(0).T, s.start(1).T)
        outputs, terms = [], []
        for x, label in zip(self.xs, self.labels, strict=True):
            y = w["V"] @ cell.step(x) + w["c"]
            if s.task == "softmax":
                y = np.exp(y - y.max())
                y = y / y.sum()
                terms.append(-np.log(y[label, 0]) * self.scale)
            outputs.append(y)
        if s.task == "regression":
            wrong = outputs[-1] - self.answer
            square = np.asarray((wrong**2).sum() / s.O, s.dtype)
            terms.append(np.sqrt(square) if s.root else square)
        if s.decay:
            matrices = (a for name, a in w.items() if name[0] in "WUV")
            terms.append(np.asarray(s.decay / 2 * sum(np.sum(a * a) for a in matrices), s.dtype))
        return cell, outputs, terms

    def loss(self) -> Any:
        """One number, added up in the model's own precision, or the terms."""
        terms = self.run()[2]
        if self.s.terms:
            return np.array(terms)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def gradient(self) -> Matrices:
        """By name, like the matrices."""
        s, w, faults = self.s, self.w, self.s.faults
        cell, outputs, terms = self.run()
        d = {name: np.zeros_like(a) for name, a in w.items()}
        carried = None
        for t in reversed(range(s.T)):
            dy = self.output_gradient(t, outputs, terms)
            h = cell.h[t if "states_off_by_one" in faults else t + 1]
            d["V"] = d["V"] + dy @ h.T
            d["c"] = d["c"] + dy
            if "only_last_step_kept" in faults:
                d["V"], d["c"] = dy @ h.T, dy
            carried = cell.back(t, w["V"].T @ dy, carried, d, faults)
        return self.finished(d)

    def output_gradient(self, t: int, outputs: list[Array], terms: list[Array]) -> Array:
        """δ of what the head puts out at step t, (O, 1)."""
        s, faults, y = self.s, self.s.faults, outputs[t]
        if s.task == "regression":
            if t < s.T - 1 and "output_gradient_at_every_step" not in faults:
                return np.zeros_like(y)
            dy = 2 * (outputs[-1] - self.answer) / s.O
            if s.root and "root_taken" not in faults:
                dy = dy / (2 * terms[0])
            if "averaged_over_outputs" in faults:
                dy = dy * s.O
            return dy / 2 if "half_squared_error" in faults else dy
        if "output_gradient_at_last_step_only" in faults and t < s.T - 1:
            return np.zeros_like(y)
        label = self.labels[(t + 1) % s.T if "targets_shifted" in faults else t]
        dy = y.copy()
        dy[label] -= 1
        if "different_loss" in faults:
            dy = np.log(y) + dy - y
        if "softmax_derivative_twice" in faults:
            dy = (np.diagflat(y) - y @ y.T) @ dy
        if "divided_by_classes" in faults:
            dy = dy / s.O
        scale = self.scale
        if "summed_over_steps" in faults:
            scale = np.ones_like(scale)
        if "averaged_over_steps" in faults:
            scale = scale / s.T
        return np.asarray(dy * scale, s.dtype)

    def finished(self, d: Matrices) -> Matrices:
        """What happens to a gradient between the backward pass and the update."""
        s, w, faults = self.s, self.w, self.s.faults
        gates = GATES[s.cell]
        one, other = gates[0], gates[-1]
        if "bias_averaged" in faults:
            d["b" + other] /= s.T
        if "gradient_transposed" in faults:
            d["U" + one] = d["U" + one].T
        if "tensor_scaled" in faults:
            d["W" + other] *= 1.5
        if "gate_scaled" in faults:
            for letter in "WUb":
                d[letter + other] *= 1.5
        if "gates_permuted" in faults:
            for letter in "WUb":
                d[letter + one], d[letter + other] = d[letter + other], d[letter + one]
        if "bias_of_gate_copied" in faults:
            d["b" + one] = d["b" + other].copy()
        if "zero_gradient" in faults:
            d["W" + other] = np.zeros_like(d["W" + other])
        if s.decay and "weight_decay_missing" not in faults:
            for name in (n for n in d if n[0] in "WUV"):
                d[name] = d[name] + s.decay * w[name]
                if "weight_decay_doubled" in faults:
                    d[name] = d[name] + s.decay * w[name]
        for name in d:
            if "factor_two" in faults:
                d[name] = d[name] * 2
            if "factor_half" in faults:
                d[name] = d[name] / 2
            if "wrong_sign" in faults:
                d[name] = -d[name]
            if "clipped_by_value" in faults:
                np.clip(d[name], -0.1, 0.1, out=d[name])
        if "clipped_by_norm" in faults:
            norm = float(np.linalg.norm(np.concatenate([a.ravel() for a in d.values()])))
            if norm > 0.25:
                d = {name: a * (0.25 / norm) for name, a in d.items()}
        if "random_buffer" in faults:
            d["U" + one] = d["U" + one] + self.entropy.random((s.H, s.H))
        if "updated_in_backward" in faults:
            for name in w:
                w[name] -= 0.01 * d[name]
        return {name: a.astype(s.dtype) for name, a in d.items()}
