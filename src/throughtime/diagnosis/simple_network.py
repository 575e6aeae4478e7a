"""The target at points of our own choosing, where it is a network that we know.

With all matrices below the output layer at 0 but the recurrent ones, no input is seen. Biases,
recurrent weights and the output layer are drawn by us, for a few units; so the states are known as
soon as it is known which cell it is, which block of rows is which gate, and how the matrices lie.
There are few ways, and each of them is tried: the numerical derivatives must be those that our own
backward pass gives. Nothing need be known of the loss: δ of the outputs, a few numbers for every
step, is what the numerical derivatives of the output layer say, since h is known there.

What is read in this way is a `Model` with a small network whose loss is linear in its outputs. A
fault put into its backward pass predicts numbers for the gradient under test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN, Cell
from throughtime.diagnosis.mutants.losses import Loss
from throughtime.diagnosis.mutants.model import HEAD, Block, BlockPlace, Data, Model, Placement
from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.tolerances import (
    COUNTS_FIT,
    DRAWN_BIASES,
    DRAWN_RECURRENT,
    FEW_OUTPUTS,
    FEW_UNITS,
    MOST_OTHER_VECTORS,
    MOST_UNKNOWN_STEPS,
    NARROWEST_BAR,
    OUTPUT_WEIGHTS,
    VAGUE_PREDICTION,
)

Place = tuple[str, Array]
"""A block of the target: the name of a tensor, and the positions of the block's entries in it."""

CELLS: Mapping[int, tuple[tuple[Cell, str], ...]] = {
    1: tuple((RNN(kind), "s") for kind in ("tanh", "relu", "sigmoid")),
    3: (
        *((GRU(after, keep), "rzn") for after in (True, False) for keep in ("z", "1-z")),
        *((LSTM(squash, coupled=True), "iao") for squash in ("tanh", "identity")),
    ),
    4: (
        *((LSTM(squash), "ifao") for squash in ("tanh", "identity")),
        *((GRU(True, keep), "rznc") for keep in ("z", "1-z")),  # c: the candidate's recurrent bias
    ),
}
"""Cells by the number of their biases, each with a letter for every bias."""


@dataclass(frozen=True)
class Wires:
    """Where the blocks of one layer lie in the target, for a few of its units and outputs.

    Attributes:
        whole: each bias with the places of all its units.
        biases: the same of the few units, (units,).
        head: the output layer's matrix, (outputs, units).
        head_bias: its bias, (outputs,); None where it has none.
        matrices: names of the matrices among which this layer's recurrent ones are.
        chosen: which units.
        all_units: how many the layer has.
        by_unit: whether the rows of one bias are sorted by unit first, and then by gate.
    """

    whole: tuple[Place, ...]
    biases: tuple[Place, ...]
    head: Place
    head_bias: Place | None
    matrices: tuple[str, ...]
    chosen: Array
    all_units: int
    by_unit: bool

    @property
    def units(self) -> int:
        """How many units are looked at."""
        return len(self.chosen)


@dataclass(frozen=True)
class Reading:
    """One way to read the target.

    Attributes:
        wires: where the blocks lie.
        cell: the cell.
        letters: one for each of its biases.
        order: for each of them, which of the target's biases it is.
        recurrent: the recurrent matrix of each gate, (units, units), in the cell's order; empty
            where it is not known, and then it is 0.
        inputs: how many numbers the layer seems to be given at a step.
    """

    wires: Wires
    cell: Cell
    letters: str
    order: tuple[int, ...]
    recurrent: tuple[Place, ...] = ()
    inputs: int = 1

    def places(self) -> dict[str, Place]:
        """Where each block of the model lies, by the model's names."""
        found = {
            f"b_{letter}": self.wires.biases[own]
            for letter, own in zip(self.letters, self.order, strict=True)
        }
        found |= {
            f"U_{gate}": place for gate, place in zip(self.cell.gates, self.recurrent, strict=False)
        }
        found["V"] = self.wires.head
        return found if self.wires.head_bias is None else found | {"d": self.wires.head_bias}


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


@dataclass(frozen=True)
class Seen:
    """What was observed at one length.

    Attributes:
        model: our own network, with δ of the outputs as the numerical derivatives say.
        gradient: the gradient under test, by the model's names.
        precision: how well the model's gradient is known, relative to its largest entry.
    """

    model: Model
    gradient: dict[str, Array]
    precision: float


@dataclass
class SimpleNetwork:
    """A target read as a network that is known.

    Args:
        study: experiments on the target.
        reading: how it is read.
        drawn: the values at which it is looked at.
        observations: what was seen, by the number of steps.
    """

    study: Study
    reading: Reading
    drawn: Drawn
    observations: dict[int, Observed | None] = field(default_factory=dict)

    def at(self, steps: int) -> Seen | None:
        """The network at a length; None where the target cannot be read in this way there."""
        observed = self.look(steps)
        if observed is None:
            return None
        rows = _rows(self.reading.wires, observed)
        found = None if rows.vague else self._deltas(rows, steps)
        return None if found is None else self._seen(observed, found, rows)

    def look(self, steps: int) -> Observed | None:
        """The observation at a length."""
        if steps not in self.observations:
            self.observations[steps] = _look(self.study, self.reading, self.drawn, steps)
        return self.observations[steps]

    def _deltas(self, rows: Rows, steps: int) -> Array | None:
        """δ of the outputs, (T, outputs): at the last step alone, if that explains all."""
        fit = _Fit(self.reading, self.drawn, steps)
        last = fit.deltas(rows, [steps - 1])
        if last is not None:
            return last
        if steps <= MOST_UNKNOWN_STEPS:
            return fit.deltas(rows, range(steps))
        return self._one_after_another(rows, steps)

    def _one_after_another(self, rows: Rows, steps: int) -> Array | None:
        """The same, step by step, where a longer run has the same terms and some more."""
        for mean in (False, True):
            before, found = np.zeros_like(rows.numerical), np.zeros((steps, len(self.outputs)))
            for s in range(1, steps + 1):
                observed = self.look(s)
                if observed is None:
                    return None
                now, scale = _rows(self.reading.wires, observed), s if mean else 1
                own = Rows(scale * now.numerical - before, scale * now.bars)
                delta = _Fit(self.reading, self.drawn, s).deltas(own, [s - 1])
                if delta is None:
                    break
                found[s - 1], before = delta[-1], scale * now.numerical
            else:
                return found / (steps if mean else 1)
        return None

    @property
    def outputs(self) -> Array:
        """The outputs that are looked at."""
        return np.arange(self.drawn.head.shape[0])

    def _seen(self, observed: Observed, deltas: Array, rows: Rows) -> Seen:
        last = len(deltas) > 1 and not deltas[:-1].any()
        model = _model(self.reading, self.drawn, deltas, last=last)
        gradient = {name: np.zeros(shape) for name, shape in model.placement.shapes.items()}
        for name, (tensor, places) in self.reading.places().items():
            gradient[name] = observed.gradient[tensor].reshape(-1)[places].astype(np.float64)
        largest = float(np.abs(rows.numerical).max())
        return Seen(model, gradient, float(rows.bars.max()) / largest)


def read(study: Study) -> Iterator[SimpleNetwork]:
    """The target as a network that is known: its uppermost layer, in each of its directions."""
    for ways in _layers(study):
        for wires in ways:
            found = _read(study, wires)
            if found is not None:
                yield found
                break


def _read(study: Study, wires: Wires) -> SimpleNetwork | None:
    drawn = _drawn(study, wires)
    observed = _look(study, Reading(wires, RNN(), "", ()), drawn.still, 2)
    if observed is None:
        return None
    rows = _rows(wires, observed)
    if rows.vague:
        return None
    fitting = [
        one
        for one in _readings(wires)
        if _Fit(one, drawn.still, 2).deltas(rows, range(2)) is not None
    ]
    for matrices, inputs in _recurrent(study, wires) if fitting else ():
        seen: dict[tuple[object, ...], Observed | None] = {}
        for reading in fitting:
            for places in _orders(reading, matrices):
                there = replace(reading, recurrent=places, inputs=inputs)
                key = tuple(np.concatenate([array.reshape(-1) for _, array in places]))
                names = tuple(name for name, _ in places)
                if (names, key) not in seen:
                    seen[names, key] = _look(study, there, drawn, 2)
                here = seen[names, key]
                if here is None:
                    continue
                if _Fit(there, drawn, 2).deltas(_rows(wires, here), range(2)) is not None:
                    return SimpleNetwork(study, there, drawn, {2: here})
    return None


class _Fit:
    """The right network at a length: from δ of its outputs to the gradient, a linear map."""

    def __init__(self, reading: Reading, drawn: Drawn, steps: int) -> None:
        self.reading, self.drawn, self.steps = reading, drawn, steps
        self.outputs = len(drawn.head_bias)

    def deltas(self, rows: Rows, at: Iterable[int]) -> Array | None:
        """δ of the outputs, (T, outputs), 0 but at these steps; None where no δ gives the rows."""
        wanted = [(t, o) for t in at for o in range(self.outputs)]
        columns = np.array([self._row(t, o) for t, o in wanted]).T
        width = np.maximum(rows.bars, NARROWEST_BAR * np.abs(rows.numerical).max())
        if len(width) <= len(wanted) or not np.isfinite(columns).all():
            return None
        found, *_ = np.linalg.lstsq(columns / width[:, None], rows.numerical / width, rcond=None)
        if (np.abs(rows.numerical - columns @ found) > COUNTS_FIT * width).any():
            return None
        deltas = np.zeros((self.steps, self.outputs))
        for (t, o), value in zip(wanted, found, strict=True):
            deltas[t, o] = value
        return deltas

    def _row(self, t: int, o: int) -> Array:
        """The gradient of biases and output layer where δ is 1 at one output of one step."""
        deltas = np.zeros((self.steps, self.outputs))
        deltas[t, o] = 1.0
        model = _model(self.reading, self.drawn, deltas, last=False)
        found = model.placement.tensors(model.data_gradient())
        biases = np.empty_like(self.drawn.biases)
        for letter, own in zip(self.reading.letters, self.reading.order, strict=True):
            biases[own] = found[f"b_{letter}"]
        parts = [biases.reshape(-1), found["V"].reshape(-1)]
        return np.concatenate(
            parts if self.reading.wires.head_bias is None else [*parts, found["d"]]
        )


def _model(reading: Reading, drawn: Drawn, deltas: Array, *, last: bool) -> Model:
    """Our own network at the drawn values, whose loss is Σ deltas ⊙ outputs."""
    units, gates = reading.wires.units, reading.cell.gates
    blocks: dict[Block, Array] = {}
    places: dict[Block, BlockPlace] = {}
    rows, shapes = slice(None), {}

    def add(block: Block, name: str, value: Array) -> None:
        blocks[block], shapes[name] = value, value.shape
        places[block] = BlockPlace(name, rows, None if value.ndim == 1 else rows)

    for k, gate in enumerate(gates):
        add(Block(0, "W", k), f"W_{gate}", np.zeros((units, reading.inputs)))
        add(Block(0, "U", k), f"U_{gate}", drawn.recurrent[k])
    for k, (letter, own) in enumerate(zip(reading.letters, reading.order, strict=True)):
        block = Block(0, "b", k) if letter in gates else Block(0, "c", gates.index("n"))
        add(block, f"b_{letter}", drawn.biases[own])
    add(Block(HEAD, "V", 0), "V", drawn.head)
    if reading.wires.head_bias is not None:
        add(Block(HEAD, "d", 0), "d", drawn.head_bias)
    steps, state = len(deltas), np.zeros((1, 1, 1, units))
    data = Data(
        np.zeros((steps, 1, reading.inputs)), deltas[:, None], np.array([steps]), state, state
    )
    loss = Loss("weighted", time="sum", batch="sum", last=last)
    return Model(reading.cell, Placement(places, shapes), blocks, data, loss)


# --- where the blocks lie ---


def _layers(study: Study) -> Iterator[Iterator[Wires]]:
    """For each layer that the output layer sees, the ways in which its blocks may lie."""
    roles = study.roles
    if roles.head is None or roles.projection is not None:
        return
    vectors = [name for name in roles.vectors if name not in roles.spare]
    if study.sides is None:
        yield _wires(study, vectors, roles.matrices, None)
        return
    for half, own in enumerate((study.sides.one, study.sides.other)):
        yield _wires(
            study,
            [name for name in vectors if name in own],
            tuple(name for name in roles.matrices if name in own),
            half,
        )


def _wires(
    study: Study, vectors: Sequence[str], matrices: tuple[str, ...], half: int | None
) -> Iterator[Wires]:
    sizes = {name: _size(study, name) for name in vectors}
    for seen, head in _heads(study):
        units = seen if half is None else seen // 2
        if not units or not vectors or any(size % units for size in sizes.values()):
            continue
        chosen = np.unique(np.linspace(0, units - 1, FEW_UNITS).astype(int))
        shown = head[:, chosen + (half or 0) * units]
        bias = study.roles.head_bias
        last = None if bias is None else (bias, np.arange(shown.shape[0]))
        several = any(size > units for size in sizes.values())
        for by_unit in (False, True) if several else (False,):
            every = [
                (name, places)
                for name, size in sizes.items()
                for places in _cut(np.arange(size), size // units, by_unit)
            ]
            for blocks in _layer_of(every):
                few = tuple((name, places[chosen]) for name, places in blocks)
                place = (str(study.roles.head), shown)
                yield Wires(tuple(blocks), few, place, last, matrices, chosen, units, by_unit)


def _heads(study: Study) -> Iterator[tuple[int, Array]]:
    """How many numbers the output layer sees, and the places of its first rows, (outputs, seen)."""
    name, bias = study.roles.head, study.roles.head_bias
    shape = study.values[str(name)].shape
    places = np.arange(int(np.prod(shape))).reshape(shape)
    for turned in (places, places.T) if places.ndim == 2 else ():
        outputs, seen = len(turned), turned.size // len(turned)
        if bias is None or _size(study, bias) == outputs:
            yield seen, turned[: min(outputs, FEW_OUTPUTS)]


def _layer_of(blocks: Sequence[Place]) -> Iterator[Sequence[Place]]:
    """The biases that one layer may have among all that there are: all, or one layer's share."""
    if len(blocks) in CELLS:
        yield blocks
        return
    for gates in CELLS:
        layers, rest = divmod(len(blocks), gates)
        if not rest and layers > 1:
            yield from (blocks[k * gates : (k + 1) * gates] for k in reversed(range(layers)))
    for gates in CELLS:  # states among the parameters, or a vector that is something else
        if 0 < len(blocks) - gates <= MOST_OTHER_VECTORS:
            yield from map(list, combinations(blocks, gates))


def _cut(places: Array, gates: int, by_unit: bool) -> list[Array]:
    """Rows cut into gates, which lie one after the other, or in turn for every unit."""
    if by_unit:
        return [places[k::gates] for k in range(gates)]
    return np.split(places, gates)


def _readings(wires: Wires) -> Iterator[Reading]:
    for cell, letters in CELLS.get(len(wires.biases), ()):
        for order in permutations(range(len(letters))):
            yield Reading(wires, cell, letters, order)


def _recurrent(study: Study, wires: Wires) -> Iterator[tuple[list[Place], int]]:
    """Where the recurrent matrices may lie, in the order of the target's gates, and I."""
    masks = study.roles.recurrent or {}
    own = {name: masks[name] for name in wires.matrices if name in masks}
    alone: dict[tuple[bool, int, tuple[int, ...]], list[Place]] = {}
    for name, mask in own.items():
        places = np.arange(mask.size).reshape(mask.shape)
        for turned in (False, True):
            rows, whole = (places.T, mask.T) if turned else (places, mask)
            gates, rest = divmod(len(rows), wires.all_units)
            inputs = rows.size // len(rows) - wires.all_units
            if rest or inputs < 0:
                continue
            for first in dict.fromkeys((0, inputs)):
                stretch = slice(first, first + wires.all_units)
                if not whole[:, stretch].all():
                    continue
                cut = [
                    (name, rows[own_rows, stretch][np.ix_(wires.chosen, wires.chosen)])
                    for own_rows in _cut(np.arange(len(rows)), gates, wires.by_unit)
                ]
                if gates == 1:
                    alone.setdefault((turned, first, mask.shape), []).extend(cut)
                if gates > 1 or len(wires.biases) == 1:
                    yield cut, inputs or _inputs(study, wires, name, gates)
    for (_, _, shape), found in alone.items():
        if len(found) > 1:
            inputs = sum(shape) - 2 * wires.all_units
            yield found, inputs or _inputs(study, wires, found[0][0], 1)


def _inputs(study: Study, wires: Wires, recurrent: str, gates: int) -> int:
    """How many numbers a layer is given, if another matrix of it says so; otherwise 1."""
    rows = gates * wires.all_units
    others = [study.values[name].shape for name in wires.matrices if name != recurrent]
    found = [
        max(shape) if rows == min(shape) else sum(shape) - rows for shape in others if rows in shape
    ]
    return min(found, default=1)


def _orders(reading: Reading, matrices: Sequence[Place]) -> Iterator[tuple[Place, ...]]:
    """The recurrent matrices in the cell's order: sorted as the biases are, or in any order."""
    gates = len(reading.cell.gates)
    own = [
        place for place, letter in zip(reading.order, reading.letters, strict=True) if letter != "c"
    ]
    ranks = tuple(int(k) for k in np.argsort(np.argsort(own)))
    one_tensor = len({name for name, _ in matrices}) == 1
    if len(matrices) < gates or (len(matrices) > gates and one_tensor):
        return
    if len(matrices) == gates:
        yield tuple(matrices[k] for k in ranks)
        for order in permutations(range(gates)) if not one_tensor else ():
            if order != ranks:
                yield tuple(matrices[k] for k in order)
        return
    for start in reversed(range(len(matrices) - gates + 1)):  # those of several layers
        yield tuple(matrices[start + k] for k in ranks)


# --- values, and what is seen there ---


def _drawn(study: Study, wires: Wires) -> Drawn:
    rng = np.random.default_rng([study.seed, 31])
    units, outputs = wires.units, wires.head[1].shape[0]
    signs = rng.choice((-1.0, 1.0), (len(wires.biases), units))
    biases = signs * rng.uniform(*DRAWN_BIASES, signs.shape)
    recurrent = DRAWN_RECURRENT * rng.standard_normal((4, units, units))
    head = OUTPUT_WEIGHTS * rng.standard_normal((outputs, units))
    bias = np.asarray(OUTPUT_WEIGHTS * rng.standard_normal(outputs))
    return Drawn(biases, recurrent, head, bias)


def _look(study: Study, reading: Reading, drawn: Drawn, steps: int) -> Observed | None:
    """Biases and output layer at a length, with nothing but the drawn values other than 0."""
    wires = reading.wires
    values = {name: np.zeros(study.values[name].shape) for name in study.roles.hidden}
    values |= {name: np.zeros(study.values[name].shape) for name in study.roles.output}
    wanted: dict[str, list[Array]] = {}

    def put(place: Place, value: Array, *, look: bool = True) -> None:
        name, places = place
        values[name].reshape(-1)[places] = value
        if look:
            wanted.setdefault(name, []).append(places.reshape(-1))

    for few, every, value in zip(wires.biases, wires.whole, drawn.biases, strict=True):
        put(every, value[0], look=False)
        put(few, value)
    for place, value in zip(reading.recurrent, drawn.recurrent, strict=False):
        put(place, value, look=False)
    put(wires.head, drawn.head)
    if wires.head_bias is not None:
        put(wires.head_bias, drawn.head_bias)
    places = {name: np.sort(np.concatenate(own)) for name, own in wanted.items()}
    return study.look(steps, values, places)


def _rows(wires: Wires, observed: Observed) -> Rows:
    parts = [*wires.biases, wires.head, *([wires.head_bias] if wires.head_bias else [])]
    numerical, bars = [], []
    for name, places in parts:
        own = observed.sampled[name]
        here = np.searchsorted(own.places, places.reshape(-1))
        numerical.append(own.numerical[here])
        bars.append(own.errors[here])
    return Rows(np.concatenate(numerical), np.concatenate(bars))


def _size(study: Study, name: str) -> int:
    return int(np.asarray(study.values[name]).size)
