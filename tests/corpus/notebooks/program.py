"""A notebook's program: its loop over time, forwards and back, and what it does to the gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from corpus.notebooks.cells import KINDS, Cell
from corpus.notebooks.habits import WORDS, Habits
from corpus.notebooks.heads import Head
from corpus.notebooks.mistakes import flags
from corpus.notebooks.storage import Views, head_names, layer_names, parameters, views, zeros
from throughtime.arrays import Array, refuse
from throughtime.gradcheck import Target

LIMIT, NORM, LAMBDA = 0.1, 0.25, 0.05  # of clipping, and of a penalty in the gradient only


class Program:
    """Loss and gradient at the arrays `p`, with these mistakes in the gradient."""

    def __init__(self, s: Habits, p: Mapping[str, Array], mistakes: Iterable[str] = ()) -> None:
        self.s, self.p, self.mistakes = s, p, flags(tuple(mistakes))
        self.w = views(s, p)
        self.x = s.inputs()[: s.T]
        self.head = Head(s, self.w, self.mistakes)
        self.layers: list[Cell] = []
        for layer in range(s.layers):
            self.layers.append(KINDS[s.cell](s, layer, self.w, self.mistakes))
            self.layers[layer].below = self.layers[layer - 1] if layer else None

    def has(self, kind: str) -> bool:
        return kind in self.mistakes

    def forward(self) -> Any:
        """The loss; what the backward pass needs is kept."""
        s = self.s
        below = self.w["E"][self.x] if s.embedding else self.x
        for cell in self.layers:
            cell.begin(below)
            h, c = cell.starts
            above = []
            for t in range(s.T):
                h, c = cell.step(t, h, c)
                above.append(h)
            below = np.array(above)
        loss = self.head.forward(below)
        if s.decay:
            loss = loss + s.decay / 2 * sum(np.sum(self.w[name] ** 2) for name in self.matrices())
        return loss

    def matrices(self) -> list[str]:
        """The views that are parts of matrices."""
        return [name for name in self.w if name[0] in "WUV"]

    def loss(self) -> Any:
        """One number, in the program's own precision."""
        return np.asarray(self.forward(), self.s.dtype)[()]

    def gradient(self) -> dict[str, Array]:
        """By name, like the parameters."""
        self.forward()
        found = zeros(self.p)
        d = views(self.s, found)
        dh = list(self.head.back(d))
        for layer in reversed(range(self.s.layers)):
            dh = self.walk(self.layers[layer], dh, d)
            if self.has("lower_layer_overwritten") and layer:
                dh = [dh[0], *[np.zeros_like(dh[0])] * (len(dh) - 1)]
        if self.s.embedding:
            self.scatter(d["E"], np.array(dh))
        return self.finished(found, d)

    def walk(self, cell: Cell, dh_out: list[Array], d: Views) -> list[Array]:
        """One layer from its last step to its first; returns δ of its inputs."""
        T, zero = len(dh_out), np.zeros_like(dh_out[0])
        dh_next, dc_next, dx = zero, zero, [zero] * T
        old = [zero] * T
        for t in range(T) if cell.has("backward_loop_forwards") else reversed(range(T)):
            if cell.has("dh_next_missing"):
                dh_next = zero
            if cell.has("dc_next_missing"):
                dc_next = zero
            if cell.has("truncated") and (t + 1) % max(2, T // 2) == 0:
                dh_next, dc_next = zero, zero
            if cell.has("term_counted_twice", "h"):
                dh_next = 2 * dh_next
            if cell.has("term_counted_twice", "c"):
                dc_next = 2 * dc_next
            dh = dh_out[t] + dh_next
            if cell.has("dh_overwritten") and t < T - 1:
                dh = dh_next
            dx[t], dh_before, dc_before = cell.back(t, dh, dc_next, d)
            if cell.has("wrong_layer_delta"):
                dx[t] = dh_before if dh_before.shape == dx[t].shape else dx[t]
            old[t] = dh_before
            if cell.has("stale_delta_added"):  # a buffer that is never cleared
                dh_before = dh_next + dh_before
            if cell.has("stale_dc_added"):
                dc_before = dc_next + dc_before
            if cell.has("two_steps_late"):  # what step t + 2 sends back
                dh_before = old[t + 1] if t < T - 1 else zero
            dh_next, dc_next = dh_before, dc_before
        return dx

    def scatter(self, dE: Array, dx: Array) -> None:
        """Rows that were looked up get their δ; repeated ones the sum."""
        words = self.x.reshape(-1)
        rows = dx.reshape(len(words), -1)
        if self.has("scatter_without_accumulation"):
            dE[words] += rows
        elif self.has("embedding_averaged"):
            np.add.at(dE, words, rows)
            dE /= np.maximum(np.bincount(words, minlength=WORDS), 1)[:, None]
        else:
            np.add.at(dE, words, rows)

    def finished(self, found: dict[str, Array], d: Views) -> dict[str, Array]:
        """What happens to the gradient before it is returned."""
        s, top = self.s, self.s.layers - 1
        one, other = s.gates[0], s.gates[-1]
        if s.decay and not self.has("weight_decay_missing"):
            for name in self.matrices():
                d[name] += s.decay * (2 if self.has("weight_decay_doubled") else 1) * self.w[name]
        if self.has("penalty_in_gradient_only"):
            for name in self.matrices():
                d[name] += LAMBDA * self.w[name]
        if self.has("bias_averaged"):
            for gate in s.gates:
                d[f"b {gate} {top}"] /= s.T
        if self.has("bias_not_averaged"):
            for gate in s.gates:
                d[f"b {gate} {top}"] *= s.B
        if self.has("tensor_scaled"):
            found[self.some_tensor()] *= 1.5
        if self.has("zero_gradient"):
            found[self.some_tensor()][...] = 0
        if self.has("tensor_copied"):
            (wrong, copied) = self.alike()[0]
            found[wrong] = found[copied].copy()
        for letter in "WUb" if s.biases else "WU":
            a, b = d[f"{letter} {one} {top}"], d[f"{letter} {other} {top}"]
            if self.has("gate_scaled"):
                b *= 1.5
            if self.has("gates_permuted"):
                a[...], b[...] = b.copy(), a.copy()
            if self.has("bias_of_gate_copied") and letter == "b":
                a[...] = b
        if self.has("gradient_transposed"):
            square = d[f"U {one} {top}"]
            square[...] = square.T.copy()
        if self.has("gradient_outside_the_loss"):
            d["unused"][...] = d[f"b {one} {top}"] if s.biases else 1.0
        factor = 2.0 if self.has("factor_two") else 0.5 if self.has("factor_half") else 1.0
        factor = -factor if self.has("wrong_sign") else factor
        for name, array in found.items():
            found[name] = array * np.array(factor, s.dtype) if factor != 1 else array
            if self.has("clipped_by_value"):
                found[name] = np.clip(found[name], -LIMIT, LIMIT)
        if self.has("clipped_by_norm"):
            norm = float(np.sqrt(sum(float((a**2).sum()) for a in found.values())))
            found = {n: a * np.array(NORM / max(norm, NORM), s.dtype) for n, a in found.items()}
        return {name: np.ascontiguousarray(a, s.dtype) for name, a in found.items()}

    def some_tensor(self) -> str:
        """A weight of the top layer: the last one."""
        names = layer_names(self.s, self.s.layers - 1)
        return [name for part, name in names.items() if part[0] in "WU"][-1]

    def alike(self) -> list[tuple[str, str]]:
        """Pairs of matrices of one shape."""
        names = [
            n
            for k in range(self.s.layers)
            for q, n in layer_names(self.s, k).items()
            if q[0] in "WU"
        ]
        names += [name for part, name in head_names(self.s).items() if part[0] == "V"]
        return [
            (a, b) for a in names for b in names if a != b and self.p[a].shape == self.p[b].shape
        ]


def target(
    s: Habits,
    mistakes: Iterable[str] = (),
    given: dict[str, Array] | None = None,
    *,
    lengths: bool = True,
    steps: bool = True,
) -> Target:
    """A program as a target.

    Args:
        s: its habits.
        mistakes: those in its backward pass.
        given: parameters that it shares with the same program at another length.
        lengths, steps: whether the target has `at_length` and `steps`.
    """
    shared = parameters(s) if given is None else given
    program = Program(s, shared, tuple(mistakes))

    def at_length(T: int) -> Target:
        if not 1 <= T <= s.longest:
            refuse("T", f"1 … {s.longest}, for which there are data", T)
        return target(replace(s, T=T), mistakes, shared)

    return Target(
        shared,
        program.loss,
        program.gradient,
        at_length=at_length if lengths else None,
        steps=s.T if steps else None,
    )


__all__ = ["Program", "target"]
