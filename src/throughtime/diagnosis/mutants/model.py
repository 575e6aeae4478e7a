"""A target's network, its loss and its gradient, as the layout says that they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.blocks import EMBEDDING, HEAD, Block, Blocks, Placement
from throughtime.diagnosis.mutants.change import Change, Hook
from throughtime.diagnosis.mutants.losses import Loss
from throughtime.diagnosis.mutants.walk import (
    Cell,
    Deltas,
    Tape,
    Weights,
    backward,
    forward,
    products,
)


@dataclass(frozen=True)
class Data:
    """What one run of the network sees.

    Attributes:
        x: inputs (T, B, I); below an embedding one-hot, (T, B, classes).
        targets: (T, B, O).
        lengths: steps of every sequence, (B,).
        h, c: initial states (L, B, H).
        mask: what the head sees of the hidden states, (T, B, H), where units are dropped.
        final: weights of the last states in the loss, (2, L, B, H), where it looks at them.
    """

    x: Array
    targets: Array
    lengths: Array
    h: Array
    c: Array
    mask: Array | None = None
    final: Array | None = None


@dataclass(frozen=True)
class Forward:
    """One forward pass: a tape a layer, what the head saw, the outputs, loss and δ of outputs."""

    tapes: tuple[Tape, ...]
    weights: tuple[Weights, ...]
    seen: Array
    y: Array
    loss: float
    dy: Array


@dataclass
class Model:
    """A network whose arrays, data and loss are known, at the parameters of one moment.

    Attributes:
        cell: the recurrent cell, the same in all layers.
        placement: where its blocks lie in the target's tensors.
        blocks: their values.
        data, loss: what it is run on, and how outputs become a loss.
        decay: λ of λ/2 Σ W² over the matrices; over biases too where `decay_biases`.
        notes: what was guessed, in sentences.
    """

    cell: Cell
    placement: Placement
    blocks: Blocks
    data: Data
    loss: Loss
    decay: float = 0.0
    decay_biases: bool = False
    notes: tuple[str, ...] = ()
    _deltas: dict[tuple[Change, ...], list[Deltas]] = field(default_factory=dict, repr=False)
    _forward: Forward | None = field(default=None, repr=False)

    @property
    def layers(self) -> int:
        """How many recurrent layers lie on one another."""
        return 1 + max(block.layer for block in self.blocks)

    @property
    def has_head(self) -> bool:
        """Whether a dense layer lies on the hidden states."""
        return Block(HEAD, "V", 0) in self.blocks

    @property
    def has_embedding(self) -> bool:
        """Whether the inputs are classes whose vectors are learned."""
        return Block(EMBEDDING, "E", 0) in self.blocks

    @property
    def steps(self) -> int:
        """T."""
        return len(self.data.x)

    def decays(self, block: Block) -> bool:
        """Whether the L2 term counts this block."""
        return bool(self.decay) and (block.kind in "WUVE" or self.decay_biases)

    def value(self) -> float:
        """The loss."""
        squares = sum(float((w * w).sum()) for b, w in self.blocks.items() if self.decays(b))
        return self.forward().loss + self.decay / 2 * squares

    def forward(self) -> Forward:
        """The forward pass, which is run once."""
        if self._forward is None:
            self._forward = self._run()
        return self._forward

    def gradient(self, changes: Iterable[Change] = ()) -> dict[str, Array]:
        """By the target's own names and shapes; with faults put in where some are given."""
        found = self.data_gradient(changes)
        for block, w in self.blocks.items():
            if self.decays(block):
                found[block] = found[block] + self.decay * w
        return self.placement.tensors(found)

    def data_gradient(self, changes: Iterable[Change] = ()) -> Blocks:
        """The gradient without the L2 term's, block by block, with such changes."""
        made, run = tuple(changes), self.forward()
        found, dh = self.head_gradient(made)
        deltas = self.recursion(made, dh)
        for layer in range(self.layers):
            hook = Hook(made, layer)
            parts = products(self.cell, run.tapes[layer], deltas[layer], hook)
            for kind, part in zip("WUbcp", parts, strict=True):
                for gate, array in enumerate(part):
                    found[Block(layer, kind, gate)] = array
        if self.has_embedding:
            kept = Hook(made)("kept_E", np.ones(self.data.x.shape[:2]))[..., None]
            dx = np.einsum("tbgh,ghi->tbi", deltas[0].z, run.weights[0].W)
            found[Block(EMBEDDING, "E", 0)] = np.einsum("tbv,tbi->vi", self.data.x * kept, dx)
        return {block: found[block] for block in self.blocks}

    def head_gradient(self, changes: tuple[Change, ...]) -> tuple[Blocks, Array]:
        """The head's own blocks, and δ of the top layer's hidden states (T, B, H)."""
        run, hook = self.forward(), Hook(changes)
        dy = hook("dy", run.dy, model=self, run=run)
        found: Blocks = {}
        dh = dy
        if self.has_head:
            V = self.blocks[Block(HEAD, "V", 0)]
            seen = hook("seen", run.seen, before=run.tapes[-1].h[:-1])
            keep = np.ones(dy.shape[:2])
            kept_V, kept_d = (hook(place, keep)[..., None] for place in ("kept_V", "kept_d"))
            found[Block(HEAD, "V", 0)] = np.einsum("tbo,tbh->oh", dy * kept_V, seen)
            found[Block(HEAD, "d", 0)] = (dy * kept_d).sum(axis=(0, 1))
            dh = dy @ V
        if self.data.mask is not None:
            dh = dh * self.data.mask
        return found, hook("dh_out", dh)

    def recursion(self, changes: tuple[Change, ...], dh: Array) -> list[Deltas]:
        """(δz, δu) of every layer; remembered, since many changes do not touch them."""
        key = tuple(c for c in changes if c.in_recursion or "dy" in c.places)
        if key in self._deltas:
            return self._deltas[key]
        run = self.forward()
        found: list[Deltas] = []
        for layer in reversed(range(self.layers)):
            hook, w, tape = Hook(changes, layer), run.weights[layer], run.tapes[layer]
            zero = np.zeros_like(self.data.h[layer])
            final = self.data.final
            dstate = (zero, zero) if final is None else (final[0, layer], final[1, layer])
            deltas = backward(self.cell, w, tape, dh, hook, dstate)
            found.append(deltas)
            if layer:
                dx = np.einsum("tbgh,ghi->tbi", deltas.z, w.W)
                dh = hook("dx", dx)
        found.reverse()
        if len(self._deltas) > 64:
            self._deltas.clear()
        self._deltas[key] = found
        return found

    def _run(self) -> Forward:
        x, tapes, weights = self.data.x, [], []
        if self.has_embedding:
            x = x @ self.blocks[Block(EMBEDDING, "E", 0)]
        for layer in range(self.layers):
            w = self._weights(layer)
            tape = forward(self.cell, w, x, self.data.h[layer], self.data.c[layer])
            tapes.append(tape)
            weights.append(w)
            x = tape.h[1:]
        seen = x if self.data.mask is None else x * self.data.mask
        y = seen
        if self.has_head:
            d = self.blocks.get(Block(HEAD, "d", 0), 0.0)
            y = seen @ self.blocks[Block(HEAD, "V", 0)].T + d
        counts = self.loss.weights(self.steps, self.data.lengths)
        loss, dy = self.loss.evaluate(y, self.data.targets, counts)
        if self.data.final is not None:
            ends = [[tape.h[-1], tape.c[-1]] for tape in tapes]
            loss += float((np.swapaxes(ends, 0, 1) * self.data.final).sum())
        return Forward(tuple(tapes), tuple(weights), seen, y, loss, dy)

    def _weights(self, layer: int) -> Weights:
        def stacked(kind: str, size: tuple[int, ...]) -> Array:
            zero = np.zeros(size)
            gates = range(len(self.cell.gates))
            return np.stack([self.blocks.get(Block(layer, kind, gate), zero) for gate in gates])

        units = self.data.h.shape[-1]
        inputs = self.blocks[Block(layer, "W", 0)].shape[1]
        shapes = {"W": (units, inputs), "U": (units, units), "b": (units,)}
        shapes |= {"c": (units,), "p": (units,)}
        return Weights(*(stacked(kind, shape) for kind, shape in shapes.items()))
