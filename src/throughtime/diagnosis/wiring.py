"""Where the blocks of a recurrent layer may lie in a target: its biases, gate by gate, its head.

Names say nothing here. A tensor may be the output layer's matrix if nothing else matters without
it, up to a bias. A vector is cut into stretches of H, one a gate, or every so-many-th entry; where
there are no biases, rows of input weights that are all alike make one of the sum of the inputs.
Whatever multiplies the previous state does not matter at T = 1. What is proposed here is believed
only if the numerical derivatives bear it out (`simple_network.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.roles import LossReactions
from throughtime.diagnosis.tolerances import FEW_OUTPUTS, FEW_UNITS

Place = tuple[str, Array]
"""A block of the target: the name of a tensor, and the positions of the block's entries in it."""


@dataclass(frozen=True)
class Wires:
    """Where the blocks of one layer lie in the target, for a few of its units and outputs.

    Attributes:
        whole: each bias with the places of all its units; or, (units, inputs), input weights.
        head: the output layer's matrix, (outputs, units) of the few; None where there is none
            among the parameters: then the outputs are the few units themselves.
        head_bias: its bias, (outputs,); None where it has none.
        matrices: names of the matrices among which this layer's recurrent ones are.
        chosen: which units.
        units: how many the layer has.
        by_unit: whether the rows of one bias are sorted by unit first, and then by gate.
        seen: of each bias, the places of the few units where the loss may react.
        of_inputs: whether these are input weights, since there are no biases.
    """

    whole: tuple[Place, ...]
    head: Place | None
    head_bias: Place | None
    matrices: tuple[str, ...]
    chosen: Array
    units: int
    by_unit: bool
    seen: tuple[Place, ...]
    of_inputs: bool = False


def wirings(study: Study) -> Iterator[Wires]:
    """All that may be the wires of a layer that the output layer sees."""
    found = False
    for head, bias, turned, half in _heads(study):
        found = True
        seen = turned.size // len(turned)
        units = seen if half is None else seen // 2
        own = None
        if half is not None and study.sides is not None:
            own = (study.sides.one, study.sides.other)[half]
        few = turned[: min(len(turned), FEW_OUTPUTS), _few(units) + (half or 0) * units]
        last = None if bias is None else (bias, np.arange(len(few)))
        yield from _wires(study, units, (head, few), last, own)
    if not found:
        sizes = [study.values[n].size for n in study.values if _vector(study, n)]
        for units in sorted({size // gates for size in sizes for gates in (1, 3, 4)}, reverse=True):
            yield from _wires(study, units, None, None, None)


def _few(units: int) -> Array:
    return np.unique(np.linspace(0, units - 1, FEW_UNITS).astype(int))


def _wires(
    study: Study,
    units: int,
    head: Place | None,
    last: Place | None,
    own: tuple[str, ...] | None,
) -> Iterator[Wires]:
    if units < 2:  # one unit has too few numbers to tell one cell from another
        return
    taken = {place[0] for place in (head, last) if place is not None}
    names = [n for n in study.values if n not in taken and (own is None or n in own)]
    vectors = [name for name in names if _vector(study, name)]
    matrices = [name for name in names if name not in vectors]
    spare = LossReactions(study).spare(vectors)
    vectors = [name for name in vectors if name not in spare]
    for by_unit, whole, shown in _biases(study, vectors, matrices, units, _few(units)):
        yield Wires(
            whole,
            head,
            last,
            tuple(matrices),
            _few(units),
            units,
            by_unit,
            shown,
            of_inputs=whole[0][1].ndim > 1,
        )


def _heads(study: Study) -> Iterator[tuple[str, str | None, Array, int | None]]:
    """Matrix and bias of what may be the output layer, and its places, (outputs, seen)."""
    trials = LossReactions(study)
    halves = (None,) if study.sides is None else (0, 1)
    for name in reversed(list(study.values)):
        zero = {name: np.zeros(study.values[name].shape)}
        moving = [n for n in study.values if n != name and trials.reacts([n], zero)]
        if len(moving) > 1:
            continue
        bias = moving[0] if moving else None
        shape = study.values[name].shape
        places = np.arange(int(np.prod(shape))).reshape(shape)
        wide = places if places.ndim == 2 else places.reshape(1, -1)
        for turned in (wide, wide.T):
            if bias is None or study.values[bias].size == len(turned):
                for half in halves:
                    yield name, bias, turned, half


def _biases(
    study: Study, vectors: Sequence[str], matrices: Sequence[str], units: int, chosen: Array
) -> Iterator[tuple[bool, tuple[Place, ...], tuple[Place, ...]]]:
    """For each way to cut the biases: how, with all places of each, and with those of a few."""
    sizes = {name: study.values[name].size for name in vectors}
    fitting = {name: size for name, size in sizes.items() if size % units == 0}
    if fitting:
        for by_unit in (
            (False, True) if any(size > units for size in fitting.values()) else (False,)
        ):
            whole = tuple(
                (name, places)
                for name, size in fitting.items()
                for places in cut(np.arange(size), size // units, by_unit)
            )
            yield by_unit, whole, tuple((name, places[chosen]) for name, places in whole)
        return
    found = study.gradient(study.values) or {}
    for rows in _input_rows(study, matrices, units):
        every: list[Place] = []
        shown: list[Place] = []
        for name, places in rows:
            moving = (
                np.abs(found[name].reshape(-1)[places]).sum(axis=0) > 0 if found else slice(None)
            )
            every.append((name, places))
            shown.append((name, places[chosen][:, moving]))
        if all(places.size for _, places in shown):
            yield False, tuple(every), tuple(shown)


def _input_rows(study: Study, matrices: Sequence[str], units: int) -> Iterator[list[Place]]:
    """What may be the input weights, gate by gate: (H, I) each."""
    alone: dict[tuple[int, ...], list[Place]] = {}
    for name in matrices:
        shape = study.values[name].shape
        places = np.arange(int(np.prod(shape))).reshape(shape)
        for turned in (places, places.T):
            gates, rest = divmod(len(turned), units)
            width = turned.size // len(turned)
            if rest or idle_at_one(study, name, turned):
                continue
            stretches = [slice(None)]
            if width > units:
                stretches += [slice(units, None), slice(0, width - units)]
            for stretch in stretches:
                if stretch != slice(None) and not idle_at_one(
                    study, name, np.delete(turned, np.arange(width)[stretch], axis=1)
                ):
                    continue
                blocks = [
                    (name, turned[rows, stretch]) for rows in cut(np.arange(len(turned)), gates)
                ]
                if gates > 1 or len(matrices) < 6:  # an RNN has W and U, two layers of it four
                    yield blocks
                alone.setdefault(blocks[0][1].shape, []).extend(blocks if gates == 1 else [])
    yield from (blocks for blocks in alone.values() if len(blocks) > 1)


class RecurrentBlocks(NamedTuple):
    """What may be the recurrent matrices.

    Attributes:
        blocks: each of them, (units, units) of the few, in the target's order.
        stretches: the same of all units.
        inputs: how many numbers the layer seems to be given at a step.
    """

    blocks: tuple[Place, ...]
    stretches: tuple[Place, ...]
    inputs: int


def recurrent(study: Study, wires: Wires) -> Iterator[RecurrentBlocks]:
    """Each way in which the recurrent matrices may lie.

    First those that do not matter at T = 1 with all other tensors drawn at random; then, since an
    initial state may be among these, those that do not matter without other matrices.
    """
    known: list[RecurrentBlocks] = []
    head = () if wires.head is None else (wires.head[0],)
    for kept in (None, (*(name for name, _ in wires.whole), *head)):
        for one in _idle(study, wires, kept):
            if not any(_same(one, other) for other in known):
                known.append(one)
                yield one


def _same(one: RecurrentBlocks, other: RecurrentBlocks) -> bool:
    return len(one.blocks) == len(other.blocks) and all(
        a == b and np.array_equal(p, q)
        for (a, p), (b, q) in zip(one.blocks, other.blocks, strict=True)
    )


def _idle(study: Study, wires: Wires, kept: Collection[str] | None) -> Iterator[RecurrentBlocks]:
    """What the loss does not react to at T = 1, as recurrent matrices."""
    alone: dict[tuple[bool, int, tuple[int, ...]], list[tuple[Place, Place]]] = {}
    for name in wires.matrices:
        shape = study.values[name].shape
        places = np.arange(int(np.prod(shape))).reshape(shape)
        for turned in (False, True):
            rows = places.T if turned else places
            gates, rest = divmod(len(rows), wires.units)
            inputs = rows.size // len(rows) - wires.units
            if rest or inputs < 0:
                continue
            for first in dict.fromkeys((0, inputs)):
                stretch = rows[:, first : first + wires.units]
                if not idle_at_one(study, name, stretch, kept):
                    continue
                blocks = [
                    (name, stretch[np.ix_(own[wires.chosen], wires.chosen)])
                    for own in cut(np.arange(len(rows)), gates, wires.by_unit)
                ]
                whole = (name, stretch)
                if gates == 1:
                    alone.setdefault((turned, first, shape), []).append((blocks[0], whole))
                width = inputs or _inputs(study, wires, name, gates)
                yield RecurrentBlocks(tuple(blocks), (whole,), width)
    for (_, _, shape), found in alone.items():
        if len(found) > 1:
            few, every = zip(*found, strict=True)
            width = sum(shape) - 2 * wires.units or _inputs(study, wires, few[0][0], 1)
            yield RecurrentBlocks(few, every, width)


def _inputs(study: Study, wires: Wires, known: str, gates: int) -> int:
    """How many numbers a layer is given, if another matrix of it says so; otherwise 1."""
    rows = gates * wires.units
    shapes = [study.values[name].shape for name in wires.matrices if name != known]
    return min((int(np.prod(shape)) // rows for shape in shapes if rows in shape), default=1)


def cut(places: Array, gates: int, by_unit: bool = False) -> list[Array]:
    """Rows cut into gates, which lie one after the other, or in turn for every unit."""
    if by_unit:
        return [places[k::gates] for k in range(gates)]
    return np.split(places, gates)


def idle_at_one(
    study: Study, name: str, places: Array, kept: Collection[str] | None = None
) -> bool:
    """Whether the loss of a single step does not react to these entries."""
    found: bool = LossReactions(study).unmoved(name, places.reshape(-1), kept)
    return found


def _vector(study: Study, name: str) -> bool:
    shape: tuple[int, ...] = study.values[name].shape
    return sum(size > 1 for size in shape) < 2
