"""A target's network, its loss and its gradient, with every matrix cut into blocks, one a gate.

A `Placement` knows where each block lies in the target's arrays, so that blocks and tensors turn
into each other; the `Model` runs the network that they make up, and its backward pass with
mutations put in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple, TypeAlias

import numpy as np

from throughtime.arrays import Array, Shape, refuse
from throughtime.diagnosis.mutants.cells import (
    ACTIVATIONS,
    LSTM,
    SLOPES,
    Deltas,
    MutantCell,
    MutantTape,
    Weights,
    backward,
    forward,
    products,
)
from throughtime.diagnosis.mutants.interventions import Interventions, Mutation
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.network import reverse

HEAD = -1  # stands for the head among the layers
EMBEDDING = -2  # and for the embedding
START = -3  # and for initial states that are parameters
UNUSED = -4  # and for tensors on which the loss does not depend
MATRICES = "WURVEQ"  # the kinds of blocks that are matrices


class Block(NamedTuple):
    """One gate's part of one parameter.

    Attributes:
        layer: 0 for the lowest recurrent one, `HEAD`, `EMBEDDING`, `START`, `UNUSED`.
        kind: of a cell that is given by its equations, a letter and the parameter's name: "W" of a
            matrix of the input, "U" of another one, "b" of a bias, "p" of another vector.
            Otherwise "W" (H, I), "U" (H, P), "b" (H,), "c" (H,), the recurrent bias, "p" (H,), the
            peephole, "R" (P, H), the projection; of the head "V" (O, P) and "d" (O,), and where it
            has two layers, "Q" (M, P) and "q" (M,) of the first, and "V" (O, M); of the
            embedding "E" (classes, I); of the start "h" (B, P) and "k" (B, H), the cell state. P is
            the size of h, H where nothing is projected.
        gate: which one, in the model's own order; 0 where there is none.
        direction: 0, or 1 for the one that runs backwards through time.
    """

    layer: int
    kind: str
    gate: int
    direction: int = 0

    @property
    def gated(self) -> bool:
        """Whether it belongs to a gate."""
        return self.layer >= 0 and self.kind != "R"

    @property
    def matrix(self) -> bool:
        """Whether it is a matrix."""
        return self.kind[0] in MATRICES

    @property
    def bias(self) -> bool:
        """Whether it is a bias of a layer or of the output."""
        return self.kind[0] in "bcd"


Blocks: TypeAlias = dict[Block, Array]


@dataclass(frozen=True)
class BlockPlace:
    """Where one block lies: a range of rows and of columns of one tensor, or of its transpose."""

    tensor: str
    rows: slice
    # None: the tensor is a bias, read as one flat vector; a number: the bias is this one column.
    columns: slice | int | None = None
    transposed: bool = False

    def view(self, array: Array) -> Array:
        """The block as a view of `array`."""
        if self.columns is None:
            return array.reshape(-1)[self.rows]
        if array.ndim == 1:  # a matrix of one column
            array = array[:, None]
        return (array.T if self.transposed else array)[self.rows, self.columns]


class Placement:
    """The places of all blocks of a model, which together cover every entry exactly once.

    Args:
        places: the place of each block.
        shapes: the shapes of the target's tensors.

    Raises:
        ValueError: if a tensor is missing, too small, left over, or covered twice.
    """

    def __init__(self, places: Mapping[Block, BlockPlace], shapes: Mapping[str, Shape]) -> None:
        self.places, self.shapes = dict(places), dict(shapes)
        self._refuse_gaps()

    def blocks(self, tensors: Mapping[str, Array]) -> Blocks:
        """The blocks of tensors that have the target's names and shapes, in float64."""
        return {
            block: np.array(place.view(tensors[place.tensor]), np.float64)
            for block, place in self.places.items()
        }

    def tensors(self, blocks: Mapping[Block, Array]) -> dict[str, Array]:
        """Blocks put together as tensors of the target's names and shapes, in float64."""
        found = {name: np.zeros(shape) for name, shape in self.shapes.items()}
        for block, place in self.places.items():
            place.view(found[place.tensor])[...] = blocks[block]
        return found

    def of(self, tensor: str) -> list[Block]:
        """The blocks that lie in a tensor."""
        return [block for block, place in self.places.items() if place.tensor == tensor]

    def _refuse_gaps(self) -> None:
        covered = {name: np.zeros(shape, int) for name, shape in self.shapes.items()}
        for place in self.places.values():
            if place.tensor not in covered:
                names = ", ".join(covered)
                refuse("layout", f"names among {names}", repr(place.tensor))
            place.view(covered[place.tensor])[...] += 1
        for name, count in covered.items():
            if not count.any():
                way_out = "name it in the layout, or leave it out of the target"
                refuse("layout", "every parameter placed", f"{name!r} left over", way_out)
            if (count != 1).any():
                shape = self.shapes[name]
                refuse("layout", f"every entry of {name!r} {shape} placed once", "gaps or overlaps")


DIRECTIONS = ("forward direction", "backward direction")


class DirectedLayer(NamedTuple):
    """One layer in one direction."""

    layer: int
    direction: int


@dataclass(frozen=True)
class Data:
    """What one run of the network is given.

    Attributes:
        x: inputs (T, B, I); below an embedding one-hot, (T, B, classes).
        targets: (T, B, O).
        lengths: the number of steps of every sequence, (B,).
        h, c: initial states (L, D, B, P) and (L, D, B, H), by layer and direction.
        mask: what the head sees of the hidden states, (T, B, D·P), where units are dropped.
        between: the same for what each layer but the lowest sees; () where nothing is dropped.
        final: weights of the last states in the loss, shaped like `h` and `c`, if the loss depends
            on them.
    """

    x: Array
    targets: Array
    lengths: Array
    h: Array
    c: Array
    mask: Array | None = None
    between: tuple[Array, ...] = ()
    final: tuple[Array, Array] | None = None


@dataclass(frozen=True)
class Forward:
    """One forward pass: tapes by directed layer, what the head saw, the outputs, loss, and δy.

    `middle` is what V multiplies: what the head saw, or the first of its two layers.
    """

    tapes: Mapping[DirectedLayer, MutantTape]
    weights: Mapping[DirectedLayer, Weights]
    seen: Array
    middle: Array
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
        data, loss: what the network is run on, and how outputs become a loss.
        decay: λ of an L2 term λ/2 Σ W² over the matrices; over biases too with `decay_biases`.
        notes: sentences on what was guessed.
        constants: a head's V and d that are no parameters.
        squash: the activation between the two layers of a head.
    """

    cell: MutantCell
    placement: Placement
    blocks: Blocks
    data: Data
    loss: ModelLoss
    decay: float = 0.0
    decay_biases: bool = False
    notes: tuple[str, ...] = ()
    constants: Blocks = field(default_factory=dict)
    squash: str = "tanh"
    _deltas: dict[tuple[Mutation, ...], dict[DirectedLayer, Deltas]] = field(
        default_factory=dict, repr=False
    )
    _forward: Forward | None = field(default=None, repr=False)

    @property
    def layers(self) -> int:
        """How many recurrent layers are stacked."""
        return 1 + max(block.layer for block in self.blocks)

    @property
    def directions(self) -> int:
        """1, or 2 where every layer also runs backwards through time."""
        return 1 + max(block.direction for block in self.blocks)

    @property
    def directed_layers(self) -> list[DirectedLayer]:
        """Every layer in every direction, from the lowest layer up."""
        every = product(range(self.layers), range(self.directions))
        return [DirectedLayer(*both) for both in every]

    @property
    def projected(self) -> bool:
        """Whether h is R m."""
        return Block(0, "R", 0) in self.blocks

    @property
    def projected_to_another_size(self) -> bool:
        """Whether h has another size than c, so that one cannot stand in the other's place."""
        return bool(self.data.h.shape[-1] != self.data.c.shape[-1])

    @property
    def of_equations(self) -> bool:
        """Whether nothing is known of the cell but its equations."""
        return False

    @property
    def carries_more(self) -> bool:
        """Whether a step hands another state to the next one, beside h."""
        return isinstance(self.cell, LSTM)

    def gate_name(self, block: Block) -> str:
        """The gate that a block belongs to; "" where its parameter has no gates."""
        return self.cell.gates[block.gate] if len(self.cell.gates) > 1 else ""

    def told_first(self, own: Iterable[Block]) -> list[Block]:
        """Those of a directed layer's blocks that tell whether δ is right: biases, if any."""
        blocks = list(own)
        return [b for b in blocks if b.kind == "b"] or [b for b in blocks if b.kind == "W"]

    def ahead(self, sets: Iterable[tuple[Mutation, ...]]) -> Iterator[tuple[Mutation, ...]]:
        """Sets of mutations whose gradients will be asked for, one after the other."""
        yield from sets

    @property
    def has_head(self) -> bool:
        """Whether a dense layer follows the hidden states, whose weights are parameters."""
        return Block(HEAD, "V", 0) in self.blocks

    @property
    def has_deep_head(self) -> bool:
        """Whether the head has two layers, the first of them with an activation."""
        return Block(HEAD, "Q", 0) in self.blocks

    @property
    def has_embedding(self) -> bool:
        """Whether the inputs are classes whose vectors are learned."""
        return Block(EMBEDDING, "E", 0) in self.blocks

    @property
    def steps(self) -> int:
        """T."""
        return len(self.data.x)

    def words(self, layer: int | None, direction: int | None) -> str:
        """A layer and direction in words, where there are several; otherwise ""."""
        found = [f"layer {layer}"] if layer is not None and self.layers > 1 else []
        if direction is not None and self.directions > 1:
            found.append(DIRECTIONS[direction])
        return ", ".join(found)

    def decays(self, block: Block) -> bool:
        """Whether the L2 term includes this block."""
        return bool(self.decay) and (block.matrix or self.decay_biases)

    def with_loss(self, loss: ModelLoss) -> Model:
        """The same network with another loss."""
        return replace(self, loss=loss, _deltas={}, _forward=None)

    def with_blocks(self, blocks: Blocks) -> Model:
        """The same network at other values of its parameters."""
        return replace(self, blocks=blocks, _deltas={}, _forward=None)

    def weights(self) -> dict[DirectedLayer, Weights]:
        """Those of every directed layer."""
        return {directed: self._weights(directed) for directed in self.directed_layers}

    def value(self) -> float:
        """The loss."""
        return self.forward().loss + self.penalty()

    def penalty(self) -> float:
        """The L2 term."""
        if not self.decay:
            return 0.0
        squares = sum(float((w * w).sum()) for b, w in self.blocks.items() if self.decays(b))
        return self.decay / 2 * squares

    def squares(self) -> float:
        """Σ w² over all matrices."""
        matrices = (w for block, w in self.blocks.items() if block.matrix)
        return float(sum((w * w).sum() for w in matrices))

    def forward(self) -> Forward:
        """The forward pass, which is run only once."""
        if self._forward is None:
            self._forward = self._run()
        return self._forward

    def middle(self, seen: Array) -> Array:
        """What the head's V multiplies, from what the head sees."""
        if not self.has_deep_head:
            return seen
        z = seen @ self.blocks[Block(HEAD, "Q", 0)].T + self.blocks.get(Block(HEAD, "q", 0), 0.0)
        found: Array = ACTIVATIONS[self.squash](z)
        return found

    def gradient(self, mutations: Iterable[Mutation] = ()) -> dict[str, Array]:
        """The gradient by the target's own names and shapes, with such mutations put in."""
        found = self.data_gradient(mutations)
        for block, w in self.blocks.items():
            if self.decays(block):
                found[block] = found[block] + self.decay * w
        return self.placement.tensors(found)

    def data_gradient(self, mutations: Iterable[Mutation] = ()) -> Blocks:
        """The gradient of the loss without the L2 term, block by block, with such mutations."""
        made = tuple(mutations)
        found, dh = self.head_gradient(made)
        deltas = self.recursion(made, dh)
        for directed in self.directed_layers:
            found |= self._of_layer(directed, deltas[directed], Interventions(made, *directed))
        if self.has_embedding:
            kept = Interventions(made)("kept_E", np.ones(self.data.x.shape[:2]))[..., None]
            dx = self._handed_down(made, 0, deltas)
            found[Block(EMBEDDING, "E", 0)] = np.einsum("tbv,tbi->vi", self.data.x * kept, dx)
        first = deltas[DirectedLayer(0, 0)]
        for kind, start in (("h", first.start_h), ("k", first.start_c)):
            if (block := Block(START, kind, 0)) in self.blocks:
                found[block] = start.reshape(self.blocks[block].shape)
        found |= {b: np.zeros_like(w) for b, w in self.blocks.items() if b.layer == UNUSED}
        return {block: found[block] for block in self.blocks}

    def _of_layer(
        self, directed: DirectedLayer, deltas: Deltas, intervene: Interventions
    ) -> Blocks:
        """The gradient of a directed layer's blocks."""
        run, found = self.forward(), Blocks()
        w, tape = run.weights[directed], run.tapes[directed]
        *parts, R = products(self.cell, w, tape, deltas, intervene)
        for kind, part in zip("WUbcp", parts, strict=True):
            for gate, array in enumerate(part):
                found[Block(directed.layer, kind, gate, directed.direction)] = array
        if R is not None:
            found[Block(directed.layer, "R", 0, directed.direction)] = R
        return found

    def head_gradient(self, mutations: tuple[Mutation, ...]) -> tuple[Blocks, Array]:
        """The gradient of the head's blocks, and δ of the top layer's hidden states (T, B, D·P)."""
        run, intervene = self.forward(), Interventions(mutations)
        dy = intervene("dy", run.dy, model=self, run=run)
        found: Blocks = {}
        dh = dy
        if self.has_head:
            V = self.blocks[Block(HEAD, "V", 0)]
            before = self.joined([tape.h[:-1] for tape in self.top().values()])
            seen = intervene("seen", run.middle, before=self.middle(before))
            keep = np.ones(dy.shape[:2])
            kept_V, kept_d = (intervene(place, keep)[..., None] for place in ("kept_V", "kept_d"))
            found[Block(HEAD, "V", 0)] = np.einsum("tbo,tbh->oh", dy * kept_V, seen)
            found[Block(HEAD, "d", 0)] = (dy * kept_d).sum(axis=(0, 1))
            dh = dy @ V
            if self.has_deep_head:
                slope = intervene("head_slope", SLOPES[self.squash](run.middle), m=run.middle)
                dz = dh * slope
                found[Block(HEAD, "Q", 0)] = np.einsum("tbm,tbh->mh", dz * kept_V, run.seen)
                found[Block(HEAD, "q", 0)] = (dz * kept_d).sum(axis=(0, 1))
                dh = dz @ self.blocks[Block(HEAD, "Q", 0)]
        elif self.constants:
            dh = dy @ self.constants[Block(HEAD, "V", 0)]
        if self.data.mask is not None:
            dh = dh * self.data.mask
        return found, intervene("dh_out", dh)

    def recursion(self, mutations: tuple[Mutation, ...], dh: Array) -> dict[DirectedLayer, Deltas]:
        """δ of every directed layer; remembered, since many mutations leave it as it is."""
        key = tuple(c for c in mutations if c.in_recursion or "dy" in c.places)
        if key in self._deltas:
            return self._deltas[key]
        windows = Interventions(mutations)("windows", (), T=self.steps)
        parts = [self._window(mutations, dh, *own) for own in windows]
        found = parts[0] if parts else self._recursion(mutations, dh)
        for part in parts[1:]:
            found = {one: Deltas(*map(np.add, found[one], part[one])) for one in found}
        if len(self._deltas) > 64:
            self._deltas.clear()
        self._deltas[key] = found
        return found

    def _window(
        self, mutations: tuple[Mutation, ...], dh: Array, sent: Array, cut: Array
    ) -> dict[DirectedLayer, Deltas]:
        """δ of what some steps send alone, (T,), where nothing crosses others, (T,)."""

        def crossing(carried: tuple[Array, Array], t: int, **_: int) -> tuple[Array, Array]:
            return (0 * carried[0], 0 * carried[1]) if cut[t] else carried

        edges = Mutation("", "", (("carried", crossing),))
        return self._recursion((*mutations, edges), dh * sent[:, None, None])

    def _recursion(self, mutations: tuple[Mutation, ...], dh: Array) -> dict[DirectedLayer, Deltas]:
        """δ of every directed layer, from all steps in one run."""
        found: dict[DirectedLayer, Deltas] = {}
        final = self.data.final or (np.zeros_like(self.data.h), np.zeros_like(self.data.c))
        for layer in reversed(range(self.layers)):
            intervene = Interventions(mutations, layer)
            halves = intervene("halves", np.split(dh, self.directions, axis=2))
            for direction, half in enumerate(halves):
                directed = DirectedLayer(layer, direction)
                own = Interventions(mutations, *directed)
                out = self._turned(half, direction)
                if direction:
                    out = own("own_time", out, in_time=half)
                dstate = (final[0][directed], final[1][directed])
                found[directed] = self._back(directed, out, own, dstate)
            if layer:
                dh = intervene("dx", self._handed_down(mutations, layer, found))
                if self.data.between:
                    dh = dh * self.data.between[layer - 1]
        return found

    def _back(
        self,
        directed: DirectedLayer,
        out: Array,
        intervene: Interventions,
        dstate: tuple[Array, Array],
    ) -> Deltas:
        """δ of a directed layer, from what the output sends (T, B, P)."""
        run = self.forward()
        w, tape = run.weights[directed], run.tapes[directed]
        return backward(self.cell, w, tape, out, intervene, dstate)

    def _forth(self, directed: DirectedLayer, x: Array, w: Weights | None) -> MutantTape:
        """A directed layer's forward pass; where its weights have no gates, they are not given."""
        assert w is not None
        return forward(self.cell, w, x, *self._start(directed))

    def _run(self) -> Forward:
        x, tapes = self.data.x, {}
        weights = self.weights()
        if self.has_embedding:
            x = x @ self.blocks[Block(EMBEDDING, "E", 0)]
        for layer in range(self.layers):
            if layer and self.data.between:
                x = x * self.data.between[layer - 1]
            halves = []
            for direction in range(self.directions):
                directed = DirectedLayer(layer, direction)
                turned = self._turned(x, direction)
                tapes[directed] = self._forth(directed, turned, weights.get(directed))
                halves.append(tapes[directed].h[1:])
            x = self.joined(halves)
        seen = x if self.data.mask is None else x * self.data.mask
        middle = self.middle(seen)
        y = middle
        head = {**self.constants, **self.blocks}
        if Block(HEAD, "V", 0) in head:
            y = middle @ head[Block(HEAD, "V", 0)].T + head.get(Block(HEAD, "d", 0), 0.0)
        counts = self.loss.weights(self.steps, self.data.lengths)
        loss, dy = self.loss.evaluate(y, self.data.targets, counts)
        if self.data.final is not None:
            h, c = self.data.final
            for directed, tape in tapes.items():
                loss += float((tape.h[-1] * h[directed]).sum() + (tape.c[-1] * c[directed]).sum())
        return Forward(tapes, weights, seen, middle, y, loss, dy)

    def _start(self, directed: DirectedLayer) -> tuple[Array, Array]:
        """The initial states, (B, P) and (B, H)."""
        given = self.data.h[directed], self.data.c[directed]
        own = (self.blocks.get(Block(START, kind, 0)) for kind in "hk")
        h, c = (
            one if mine is None else mine.reshape(one.shape)
            for one, mine in zip(given, own, strict=True)
        )
        return h, c

    def top(self) -> dict[DirectedLayer, MutantTape]:
        """The tapes of the top layer."""
        return {k: tape for k, tape in self.forward().tapes.items() if k.layer == self.layers - 1}

    def joined(
        self, halves: Iterable[Array], *, turned: bool = True, swapped: bool = False
    ) -> Array:
        """What both directions have in their own time, side by side in one order of time.

        Without `turned`, or with `swapped`, they are joined in the ways that people get it wrong.
        """
        found = [self._turned(half, k if turned else 0) for k, half in enumerate(halves)]
        return np.concatenate(found[::-1] if swapped else found, axis=2)

    def _turned(self, array: Array, direction: int) -> Array:
        """(T, B, …) from the order of time to a direction's own time, or back."""
        return reverse(array, self.data.lengths) if direction else array

    def _handed_down(
        self, mutations: tuple[Mutation, ...], layer: int, deltas: Mapping[DirectedLayer, Deltas]
    ) -> Array:
        """δx of a layer (T, B, ·), summed over directions, since both of them saw x_t."""
        halves = []
        for direction in range(self.directions):
            directed = DirectedLayer(layer, direction)
            dx = self._dx(directed, deltas[directed], Interventions(mutations, *directed))
            turned = self._turned(dx, direction)
            if direction:
                turned = Interventions(mutations, layer, direction)("dx_in_time", turned, own=dx)
            halves.append(turned)
        both: Array = sum(Interventions(mutations, layer)("dx_halves", halves))
        return both

    def _dx(self, directed: DirectedLayer, deltas: Deltas, intervene: Interventions) -> Array:
        """δ of what a directed layer was given, in its own time (T, B, ·)."""
        W = intervene("W", self.forward().weights[directed].W)
        found: Array = np.einsum("tbgh,ghi->tbi", deltas.z, W)
        return found

    def _weights(self, directed: DirectedLayer) -> Weights:
        def stacked(kind: str) -> Array:
            own = [Block(directed.layer, kind, gate, directed.direction) for gate in gates]
            return np.stack([self.blocks.get(block, zero) for block in own])

        gates, zero = range(len(self.cell.gates)), np.zeros(self.data.c.shape[-1])
        R = self.blocks.get(Block(directed.layer, "R", 0, directed.direction))
        W, U, b, c, p = map(stacked, "WUbcp")
        return Weights(W, U, b, c, p, R)
