"""How a target may be read: as which cell, with which block for which gate; and what that predicts.

What is read is a network of our own, a `Model`, whose loss is linear in its outputs: δ of the
outputs, a few numbers for every step, gives the whole gradient. Where the numerical derivatives are
those of no δ at all, the reading is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN, MutantCell
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.mutants.model import HEAD, Block, BlockPlace, Data, Model, Placement
from throughtime.diagnosis.tolerances import (
    COUNTS_FIT,
    NARROWEST_BAR,
    SECOND_HAND,
    VAGUE_PREDICTION,
)
from throughtime.diagnosis.wiring import Place, Wires


@dataclass(frozen=True)
class Kind:
    """A cell with a letter for each of its vectors.

    Attributes:
        cell: the cell.
        letters: a gate for its bias, "c" for a GRU's recurrent bias of the candidate, a capital
            for the peephole of that gate, "h" and "k" for the initial states of h and c.
    """

    cell: MutantCell
    letters: str

    def block(self, letter: str) -> Block | None:
        """What this vector is in our own network; None where it is an initial state."""
        gates = self.cell.gates
        if letter in "hk":
            return None
        if letter == "c":
            return Block(0, "c", gates.index("n"))
        kind = "b" if letter in gates else "p"
        return Block(0, kind, gates.index(letter.lower()))


def _kinds() -> Iterator[Kind]:
    for name in ("tanh", "relu", "sigmoid"):
        yield Kind(RNN(name), "s")
    for after in (True, False):
        for keep in ("z", "1-z"):
            yield Kind(GRU(after, keep), "rzn")
    yield from (Kind(GRU(True, keep), "rznc") for keep in ("z", "1-z"))
    for squash in ("tanh", "identity"):
        yield Kind(LSTM(squash), "ifao")
        yield Kind(LSTM(squash, coupled=True), "iao")
        yield Kind(LSTM(squash, peepholes=True), "ifaoIFO")
        yield Kind(LSTM(squash, coupled=True, peepholes=True), "iaoIO")


KINDS = tuple(_kinds())


@dataclass(frozen=True)
class NetworkReading:
    """One way to read the target.

    Attributes:
        wires: where the blocks lie.
        kind: the cell, and a letter for each of its vectors.
        order: for each of them, which of the target's it is.
        recurrent: the recurrent matrix of each gate, (units, units), in the cell's order; empty
            where it is not known, and then it is 0.
        stretches: all that multiplies the previous state.
        inputs: how many numbers the layer seems to be given at a step.
        sums: the sum of the inputs of each step, where input weights stand for biases.
    """

    wires: Wires
    kind: Kind
    order: tuple[int, ...]
    recurrent: tuple[Place, ...] = ()
    stretches: tuple[Place, ...] = ()
    inputs: int = 1
    sums: tuple[float, ...] = ()

    def places(self) -> dict[str, Place]:
        """Where each block of the model lies, by the model's names."""
        found = {
            f"b_{letter}": self.wires.seen[own]
            for letter, own in zip(self.kind.letters, self.order, strict=True)
            if self.kind.block(letter) is not None
        }
        gates = self.kind.cell.gates
        found |= {f"U_{gate}": place for gate, place in zip(gates, self.recurrent, strict=False)}
        if self.wires.head is None:
            return found
        found["V"] = self.wires.head
        return found if self.wires.head_bias is None else found | {"d": self.wires.head_bias}

    def own(self, rows: Rows) -> Rows:
        """The rows of this layer's vectors and of the output layer, in the order of `places`."""
        units = len(self.wires.chosen)
        blocks = [
            own
            for letter, own in zip(self.kind.letters, self.order, strict=True)
            if self.kind.block(letter) is not None
        ]
        before = len(self.wires.seen) * units
        chosen = [np.arange(own * units, (own + 1) * units) for own in blocks]
        places = np.concatenate([*chosen, np.arange(before, len(rows.numerical))])
        return Rows(rows.numerical[places], rows.bars[places])


@dataclass(frozen=True)
class Drawn:
    """Values of the blocks: biases in the target's order, recurrent matrices in the cell's."""

    biases: Array
    recurrent: Array
    head: Array
    head_bias: Array

    @property
    def still(self) -> Drawn:
        """The same without recurrent weights."""
        return replace(self, recurrent=np.zeros_like(self.recurrent))


class Rows(NamedTuple):
    """Numerical derivatives and error bars of biases and output layer, in the target's order."""

    numerical: Array
    bars: Array

    @property
    def vague(self) -> bool:
        """Whether they are known too badly to tell one reading from another."""
        largest = float(np.abs(self.numerical).max(initial=0.0))
        return not largest or bool((self.bars > VAGUE_PREDICTION * largest).any())


class GradientMap:
    """The right network at a length: from δ of its outputs to the gradient, a linear map.

    Where a second look decides whether δ is right, there may be as many numbers as unknown ones.
    """

    def __init__(
        self, reading: NetworkReading, drawn: Drawn, steps: int, *, second_look: bool = False
    ) -> None:
        self.reading, self.drawn, self.steps = reading, drawn, steps
        self.second_look = second_look
        self.outputs = len(drawn.head)

    def deltas(self, rows: Rows, at: Iterable[int]) -> Array | None:
        """δ of the outputs, (T, outputs), 0 but at these steps; None where no δ gives the rows."""
        steps = list(at)
        found, off = self._nearest(rows, steps)
        if off > 1.0:
            return None
        deltas = np.zeros((self.steps, self.outputs))
        deltas[steps] = found.reshape(len(steps), self.outputs)
        return deltas

    def off(self, rows: Rows, at: Iterable[int]) -> float:
        """How far the nearest prediction is off, as a share of what errors allow."""
        return self._nearest(rows, list(at))[1]

    def predicts(self, rows: Rows, deltas: Array) -> bool:
        """Whether these δ give the rows."""
        found = sum(
            deltas[t, o] * self._row(t, o)
            for t in range(self.steps)
            for o in range(self.outputs)
            if deltas[t, o]
        )
        off = np.abs(rows.numerical - found)
        return bool((off <= COUNTS_FIT * self._width(rows, SECOND_HAND)).all())

    def _nearest(self, rows: Rows, steps: list[int]) -> tuple[Array, float]:
        columns = np.array([self._row(t, o) for t in steps for o in range(self.outputs)]).T
        width = self._width(rows, SECOND_HAND if self.reading.wires.of_inputs else NARROWEST_BAR)
        free = 0 if self.second_look else 1
        if len(width) < columns.shape[1] + free or not np.isfinite(columns).all():
            return np.zeros(columns.shape[1]), np.inf
        found, *_ = np.linalg.lstsq(columns / width[:, None], rows.numerical / width, rcond=None)
        off = np.abs(rows.numerical - columns @ found) / (COUNTS_FIT * width)
        return found, float(off.max())

    def _width(self, rows: Rows, least: float) -> Array:
        return np.asarray(np.maximum(rows.bars, least * np.abs(rows.numerical).max()))

    def _row(self, t: int, o: int) -> Array:
        """The gradient of vectors and output layer where δ is 1 at one output of one step."""
        deltas = np.zeros((self.steps, self.outputs))
        deltas[t, o] = 1.0
        found = model_of(self.reading, self.drawn, deltas, last=False).gradient()
        names = [name for name in self.reading.places() if not name.startswith("U")]
        return np.concatenate([found[name].reshape(-1) for name in names])


def model_of(reading: NetworkReading, drawn: Drawn, deltas: Array, *, last: bool) -> Model:
    """Our own network at the drawn values, whose loss is Σ deltas ⊙ outputs."""
    units, cell = len(reading.wires.chosen), reading.kind.cell
    blocks: dict[Block, Array] = {}
    places: dict[Block, BlockPlace] = {}
    rows, shapes = slice(None), {}

    def add(block: Block, name: str, value: Array) -> None:
        blocks[block], shapes[name] = value, value.shape
        places[block] = BlockPlace(name, rows, None if value.ndim == 1 else rows)

    sums = reading.wires.of_inputs
    for k, gate in enumerate(cell.gates):
        if not sums:
            add(Block(0, "W", k), f"W_{gate}", np.zeros((units, reading.inputs)))
        add(Block(0, "U", k), f"U_{gate}", drawn.recurrent[k])
    states = {letter: np.zeros(units) for letter in "hk"}
    for letter, own in zip(reading.kind.letters, reading.order, strict=True):
        block = reading.kind.block(letter)
        if block is None:
            states[letter] = drawn.biases[own]
        elif sums:
            add(block._replace(kind="W"), f"b_{letter}", drawn.biases[own][:, None])
        else:
            add(block, f"b_{letter}", drawn.biases[own])
    if reading.wires.head is not None:
        add(Block(HEAD, "V", 0), "V", drawn.head)
    if reading.wires.head_bias is not None:
        add(Block(HEAD, "d", 0), "d", drawn.head_bias)
    steps, whole = len(deltas), (1, 1, 1, units)
    x = np.zeros((steps, 1, reading.inputs))
    if sums:
        x = np.array(reading.sums[:steps]).reshape(steps, 1, 1)
    data = Data(
        x,
        deltas[:, None],
        np.array([steps]),
        states["h"].reshape(whole),
        states["k"].reshape(whole),
    )
    loss = ModelLoss("weighted", time="sum", batch="sum", last=last)
    return Model(cell, Placement(places, shapes), blocks, data, loss)
