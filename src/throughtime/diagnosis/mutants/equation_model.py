"""A target's network whose cell is given by its equations, with its backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.cells import Deltas, MutantTape, Weights
from throughtime.diagnosis.mutants.equation_cell import Edits, EquationCell
from throughtime.diagnosis.mutants.interventions import STEP, Interventions, Mutation
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.mutants.model import (
    EMBEDDING,
    START,
    UNUSED,
    Block,
    Blocks,
    DirectedLayer,
    Model,
)
from throughtime.diagnosis.mutants.step_changes import SlotChange, instead_of
from throughtime.diagnosis.tolerances import MOST_NUMBERS_AT_ONCE, MOST_SETS_AT_ONCE
from throughtime.equations import Values


@dataclass
class EquationModel(Model):
    """A network of a cell that is given by its equations.

    Its mutations are those that concern no cell in particular, and edits of the derived step. Sets
    that differ in such edits alone are run together.

    Attributes:
        upper: the cell of all layers but the lowest, if their inputs have another size.
        fixed: parameters of the equations that are none of the target.
    """

    cell: EquationCell  # type: ignore[assignment]  # what cells by hand say otherwise, it derives
    upper: EquationCell | None = None
    fixed: Mapping[str, Array] = field(default_factory=dict)
    _values: dict[DirectedLayer, Values] = field(default_factory=dict, repr=False)
    _ahead: dict[tuple[int, ...], Blocks] = field(default_factory=dict, repr=False)

    @property
    def of_equations(self) -> bool:
        return True

    @property
    def carries_more(self) -> bool:
        return bool(self.cell.others)

    def gate_name(self, block: Block) -> str:
        own = self.cell_of(block.layer).kinds.get(block.kind[2:]) if block.layer >= 0 else None
        return own.names[block.gate] if own is not None and len(own.names) > 1 else ""

    def told_first(self, own: Iterable[Block]) -> list[Block]:
        return [block for block in own if block.bias]

    def with_loss(self, loss: ModelLoss) -> EquationModel:
        return replace(self, loss=loss, _deltas={}, _forward=None, _values={}, _ahead={})

    def with_blocks(self, blocks: Blocks) -> EquationModel:
        return replace(self, blocks=blocks, _deltas={}, _forward=None, _values={}, _ahead={})

    def cell_of(self, layer: int) -> EquationCell:
        """The cell of a layer."""
        return self.cell if layer == 0 or self.upper is None else self.upper

    # --- one pass ---

    def weights(self) -> dict[DirectedLayer, Weights]:
        return {}

    def parameters(self, directed: DirectedLayer) -> dict[str, Array]:
        """The parameters of a directed layer, by the names that its equations have for them."""
        found = {}
        cell = self.cell_of(directed.layer)
        for name, kind in cell.kinds.items():
            if name in self.fixed:
                found[name] = self.fixed[name]
                continue
            parts = [
                self.blocks[Block(directed.layer, f"{kind.letter} {name}", k, directed.direction)]
                for k in range(len(kind.names))
            ]
            shape = cell.backward.trace.parameters[name].shape
            found[name] = np.concatenate(parts).reshape(shape)
        return found

    def _forth(self, directed: DirectedLayer, x: Array, w: Weights | None) -> MutantTape:
        states = self._start(directed)
        tape, values = self.cell_of(directed.layer).forward(self.parameters(directed), x, *states)
        self._values[directed] = values
        return tape

    def _back(
        self,
        directed: DirectedLayer,
        out: Array,
        intervene: Interventions,
        dstate: tuple[Array, Array],
    ) -> Deltas:
        self.forward()
        cell = self.cell_of(directed.layer)
        edits = [_edits(intervene, cell)]
        found = cell.walk(self._values[directed], out[:, None], intervene, dstate, edits)
        z, h, start_h, start_c = found.z[:, 0], found.h[:, 0], found.start_h[0], found.start_c[0]
        return Deltas(z, z, h, out, start_h, start_c)

    def _of_layer(
        self, directed: DirectedLayer, deltas: Deltas, intervene: Interventions
    ) -> Blocks:
        found, _ = self._sums(directed, deltas, intervene)
        return self._blocks(directed, {name: array[0] for name, array in found.items()})

    def _dx(self, directed: DirectedLayer, deltas: Deltas, intervene: Interventions) -> Array:
        _, dx = self._sums(directed, deltas, intervene)
        return np.zeros_like(self.forward().tapes[directed].x) if dx is None else dx[:, 0]

    def _sums(
        self, directed: DirectedLayer, deltas: Deltas, intervene: Interventions
    ) -> tuple[dict[str, Array], Array | None]:
        tape = self.forward().tapes[directed]
        one = Deltas(deltas.z[:, None], deltas.u[:, None], *deltas[2:])
        cell = self.cell_of(directed.layer)
        edits = [_edits(intervene, cell)]
        return cell.sums(self._values[directed], one, intervene, edits, tape)

    def _blocks(self, directed: DirectedLayer, gradient: Mapping[str, Array]) -> Blocks:
        """The blocks of the parameters' gradients."""
        found: Blocks = {}
        for name, kind in self.cell_of(directed.layer).kinds.items():
            if name in self.fixed:
                continue
            whole = gradient[name].reshape(kind.parts[-1], *gradient[name].shape[1:])
            for k, (start, stop) in enumerate(zip(kind.parts, kind.parts[1:], strict=False)):
                block = Block(directed.layer, f"{kind.letter} {name}", k, directed.direction)
                found[block] = whole[start:stop].reshape(self.blocks[block].shape)
        return found

    # --- many sets of edits at once ---

    def ahead(self, sets: Iterable[tuple[Mutation, ...]]) -> Iterator[tuple[Mutation, ...]]:
        waiting, most = iter(sets), self._most()
        while chunk := list(islice(waiting, most)):
            groups: dict[tuple[int, ...], list[tuple[Mutation, ...]]] = {}
            for one in chunk:
                if not any(m.in_recursion or "dy" in m.places for m in _others(one)):
                    groups.setdefault(tuple(map(id, _others(one))), []).append(one)
            for group in groups.values():
                if len(group) > 1:
                    self._run_together(group)
            yield from chunk
            self._ahead.clear()

    def data_gradient(self, mutations: Iterable[Mutation] = ()) -> Blocks:
        made = tuple(mutations)
        known = self._ahead.pop(tuple(map(id, made)), None)
        return super().data_gradient(made) if known is None else known

    def _most(self) -> int:
        """How many sets are run at once, so that their numbers fit into memory."""
        cells = {self.cell, self.cell_of(1)}
        nodes = [node for cell in cells for node in (*cell.stepwise, *cell.later)]
        each = self.data.x[..., 0].size * sum(math.prod(node.shape) for node in nodes)
        return max(1, min(MOST_SETS_AT_ONCE, MOST_NUMBERS_AT_ONCE // max(1, each)))

    def _run_together(self, sets: list[tuple[Mutation, ...]]) -> None:
        """The gradients of sets that differ in their edits of the step alone."""
        others = _others(sets[0])
        head, dh = self.head_gradient(others)
        T, B = dh.shape[:2]
        out = np.broadcast_to(dh[:, :, None], (T, B, len(sets), dh.shape[2]))
        found: list[Blocks] = [dict(head) for _ in sets]
        final = self.data.final or (np.zeros_like(self.data.h), np.zeros_like(self.data.c))
        run = self.forward()
        for layer in reversed(range(self.layers)):
            down: list[Array] = []
            for direction, half in enumerate(np.split(out, self.directions, axis=3)):
                directed = DirectedLayer(layer, direction)
                own = Interventions(others, *directed)
                cell = self.cell_of(layer)
                edits = [_edits(Interventions(one, *directed), cell) for one in sets]
                sent = np.moveaxis(self._turned(half, direction), 2, 1)
                values, dstate = self._values[directed], (final[0][directed], final[1][directed])
                deltas = cell.walk(values, sent, own, dstate, edits)
                g, dx = cell.sums(values, deltas, own, edits, run.tapes[directed])
                for row, blocks in enumerate(found):
                    blocks |= self._blocks(directed, {name: one[row] for name, one in g.items()})
                if dx is not None:
                    down.append(self._turned(np.moveaxis(dx, 1, 2), direction))
                if layer == 0 and direction == 0:
                    for row, blocks in enumerate(found):
                        starts = {"h": deltas.start_h[row], "k": deltas.start_c[row]}
                        blocks |= self._starts(starts)
            shape = (*run.tapes[DirectedLayer(layer, 0)].x.shape[:2], len(sets), -1)
            none = np.zeros((*shape[:3], run.tapes[DirectedLayer(layer, 0)].x.shape[2]))
            out = sum(down, none)
            if layer and self.data.between:
                out = out * self.data.between[layer - 1][:, :, None]
        if self.has_embedding:
            kept = Interventions(others)("kept_E", np.ones((T, B)))[..., None]
            E = np.einsum("tbv,tbmi->mvi", self.data.x * kept, out)
            for row, blocks in enumerate(found):
                blocks[Block(EMBEDDING, "E", 0)] = E[row]
        unused = {b: np.zeros_like(w) for b, w in self.blocks.items() if b.layer == UNUSED}
        for one, blocks in zip(sets, found, strict=True):
            whole = blocks | unused
            self._ahead[tuple(map(id, one))] = {block: whole[block] for block in self.blocks}

    def _starts(self, starts: Mapping[str, Array]) -> Blocks:
        """The gradient of initial states that are parameters."""
        return {
            block: array.reshape(self.blocks[block].shape)
            for kind, array in starts.items()
            if (block := Block(START, kind, 0)) in self.blocks
        }


def _edits(intervene: Interventions, cell: EquationCell) -> Edits:
    changes: tuple[SlotChange, ...] = intervene(STEP, (), cell=cell)
    return instead_of(changes)


def _others(mutations: tuple[Mutation, ...]) -> tuple[Mutation, ...]:
    """Those that are no edits of a step."""
    return tuple(m for m in mutations if m.places != {STEP})
