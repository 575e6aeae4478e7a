"""Layouts, declared or guessed: how a target's arrays hold a cell's matrices, and its run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from throughtime.arrays import Array, Shape, refuse
from throughtime.diagnosis.mutants.arrangements import Arrangement, arrangements
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN, MutantCell
from throughtime.diagnosis.mutants.data_readings import Readings, TargetReading
from throughtime.diagnosis.mutants.gate_names import CANDIDATE, LETTERS
from throughtime.diagnosis.mutants.losses import ModelLoss, as_targets
from throughtime.diagnosis.mutants.model import (
    EMBEDDING,
    HEAD,
    START,
    UNUSED,
    Block,
    BlockPlace,
    Blocks,
    Data,
    Model,
    Placement,
)
from throughtime.gradcheck import Gates

# A name, perhaps with "{gate}", "{layer}" or "{direction}" in it; or one for each gate by its
# letter; or a tuple of these, for each layer and way.
Names: TypeAlias = str | Mapping[str, str] | tuple[str | Mapping[str, str], ...]

# What a guess tries.
VARIANTS: dict[str, tuple[Any, ...]] = {
    "LSTM": (LSTM(), LSTM("identity")),
    "GRU": (GRU(), GRU(False), GRU(True, "1-z"), GRU(False, "1-z")),
    "RNN": (RNN(), RNN("relu"), RNN("sigmoid"), RNN("identity")),
    "coupled": (LSTM(coupled=True), LSTM("identity", coupled=True)),
}
# How both matrices may lie in one, and a bias beside them where a column of ones multiplies it.
COMBINED = ("", "xh", "hx", "xh1", "hx1", "1xh", "1hx")


@dataclass(frozen=True)
class Layout:
    """What `tt.layouts` makes; give it to a Target.

    Attributes:
        cell: the cell with its variants.
        order: the gates in the order of their blocks, by the letters that the names use.
        W, U, b, c: names of the matrices, the bias and a second, recurrent bias; "" for none.
        p: name of an LSTM's peepholes, in the order of the gates without the candidate; "" for
            none.
        R: name of an LSTM's projection; "" for none.
        candidate_bias: name of a GRU's recurrent bias that only the candidate has.
        transposed: whether a matrix is used as x W, with its gates side by side.
        recurrent_transposed: the same of U; None: as `transposed`.
        combined: "xh" or "hx" where `W` holds both W and U, over [x, h] or [h, x], with a "1" where
            it holds the bias too, behind them or in front; otherwise "".
        V, d: names of the head's matrix and bias; "" for none.
        Q, q: the same of the first layer of a head of two, whose activation is `squash`.
        head_transposed: whether the head computes h V.
        fixed_head: V (O, H) and d (O,) or None, of a head that is no parameter.
        first_units: how many of the first units of h the loss sees, instead of a head; 0: all.
        E: name of the matrix (classes, I) whose rows are the inputs' embeddings; "" for none.
        layers: how many layers are stacked.
        directions: 1, or 2 where each layer also runs backwards through time.
        loss: how outputs become a loss.
        inputs, targets, batch_first, lengths, h0, c0, mask: the run, see `tt.layouts.lstm`.
        h_start, c_start: names of initial states (B, P) or (P, B) that are parameters; "" for none.
        between, final: see `Data`.
        decay, decay_biases: the L2 term λ/2 Σ W².
        unused: names of tensors on which the loss does not depend.
        notes: sentences on what of this was guessed.
    """

    cell: MutantCell
    order: str
    inputs: Any
    targets: Any
    W: Names
    U: Names
    b: Names
    c: Names = ""
    p: Names = ""
    R: Names = ""
    candidate_bias: Names = ""
    transposed: bool = False
    recurrent_transposed: bool | None = None
    combined: str = ""
    V: str = ""
    d: str = ""
    Q: str = ""
    q: str = ""
    squash: str = "tanh"
    head_transposed: bool = False
    fixed_head: tuple[Any, Any] | None = None
    first_units: int = 0
    E: str = ""
    layers: int = 1
    directions: int = 1
    loss: ModelLoss = field(default_factory=ModelLoss)
    batch_first: bool = False
    lengths: Any = None
    h0: Any = None
    c0: Any = None
    h_start: str = ""
    c_start: str = ""
    mask: Any = None
    between: tuple[Array, ...] = ()
    final: Any = None
    decay: float = 0.0
    decay_biases: bool = False
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def model(self, parameters: Mapping[str, Array]) -> Model:
        """The network with the present values of these parameters.

        Raises:
            ValueError: if names, shapes or data do not fit; the message says which.
        """
        placement = self.placement({name: array.shape for name, array in parameters.items()})
        blocks = placement.blocks(parameters)
        units, size = blocks[Block(0, "U", 0)].shape
        features = blocks[Block(0, "W", 0)].shape[1]
        x, constants, outputs = self._around(blocks, features, size)
        data = self._data(x, units, size, outputs)
        rest = (self.loss, self.decay, self.decay_biases, self.notes, constants)
        return Model(self.cell, placement, blocks, data, *rest, squash=self.squash)

    def _around(self, blocks: Blocks, features: int, size: int) -> tuple[Array, Blocks, int]:
        """What stands around the cells: the inputs, a head that is no parameter, and outputs.

        Args:
            blocks: the parameters, block by block.
            features: I of the lowest layer.
            size: of the uppermost layer's output, in one direction.
        """
        if self.E:
            rows = blocks[Block(EMBEDDING, "E", 0)]
            if rows.shape[1] != features:
                refuse(f"layout: {self.E}", f"(classes, I) with I = {features}", rows.shape)
            features = len(rows)
        x = inputs_of(self.inputs, features, self.batch_first)
        constants = self._constants(self.directions * size)
        head = {**constants, **blocks}.get(Block(HEAD, "V", 0))
        return x, constants, self.directions * size if head is None else len(head)

    def _constants(self, seen: int) -> Blocks:
        """The head that is no parameter."""
        if self.first_units:
            return {Block(HEAD, "V", 0): np.eye(self.first_units, seen)}
        if self.fixed_head is None:
            return {}
        V, d = self.fixed_head
        matrix = np.atleast_2d(np.asarray(V, np.float64))
        matrix = matrix.T if self.head_transposed else matrix
        if matrix.ndim != 2 or matrix.shape[1] != seen:
            refuse("layout: head", f"(O, H) with H = {seen}", matrix.shape)
        found: Blocks = {Block(HEAD, "V", 0): matrix}
        if d is not None:
            found[Block(HEAD, "d", 0)] = np.asarray(d, np.float64).reshape(len(matrix))
        return found

    def placement(self, shapes: Mapping[str, Shape]) -> Placement:
        """Where every block lies in tensors of these shapes."""
        places: dict[Block, BlockPlace] = {}
        for directed in itertools.product(range(self.layers), range(self.directions)):
            places |= self._directed_layer(*directed, shapes)
        if self.V:
            places[Block(HEAD, "V", 0)] = matrix_place(self.V, shapes, self.head_transposed)
        if self.Q:
            places[Block(HEAD, "Q", 0)] = matrix_place(self.Q, shapes, self.head_transposed)
        if self.q:
            places[Block(HEAD, "q", 0)] = BlockPlace(self.q, slice(None))
        if self.E:
            places[Block(EMBEDDING, "E", 0)] = matrix_place(self.E, shapes)
        if self.d:
            places[Block(HEAD, "d", 0)] = BlockPlace(self.d, slice(None))
        for kind, name in (("h", self.h_start), ("k", self.c_start)):
            if name:
                places[Block(START, kind, 0)] = self._start(name, shapes)
        for number, name in enumerate(self.unused):
            places[Block(UNUSED, "n", number)] = BlockPlace(name, slice(None))
        return Placement(places, shapes)

    def _start(self, name: str, shapes: Mapping[str, Shape]) -> BlockPlace:
        """The place of an initial state, of which one axis is the batch."""
        named(name, shapes)
        if self.layers * self.directions > 1:
            refuse(f"layout: {name}", "an initial state of one layer", f"{self.layers} layers")
        if len(shapes[name]) < 2:
            return BlockPlace(name, slice(None))
        size = self._units((0, 0), shapes)
        return matrix_place(name, shapes, shapes[name][0] == size and shapes[name][1] != size)

    def gates_of(self, name: str, shapes: Mapping[str, Shape]) -> Gates | None:
        """The gates that a tensor consists of; None where it holds one gate or none.

        Raises:
            ValueError: if the layout does not fit these shapes.
        """
        letters = {gate: letter for letter, gate in self._gates().items()}
        found = {
            place.rows.start: (letters[block.gate], place.transposed)
            for block, place in self.placement(shapes).places.items()
            if place.tensor == name and block.gated and place.rows.start is not None
        }
        if len(found) < 2:
            return None
        order = "".join(found[start][0] for start in sorted(found))
        return Gates(len(found), int(found[0][1]), order, "by its layout")

    def _directed_layer(
        self, layer: int, direction: int, shapes: Mapping[str, Shape]
    ) -> dict[Block, BlockPlace]:
        """The places of all blocks of one layer in one direction."""
        found: dict[Block, BlockPlace] = {}
        directed = (layer, direction)
        units = self._units(directed, shapes)
        size = units
        if self.R:
            name = self._name(self.R, directed)[0]
            found[Block(layer, "R", 0, direction)] = matrix_place(name, shapes, self.transposed)
            size = _sides(name, shapes, self.transposed)[0]
        held = {"W": self.W, "U": self.U, "b": self.b, "c": self.c, "p": self.p}
        for letter, gate in self._gates().items():
            for kind, names in held.items():
                skipped = (kind == "U" and self.combined) or (kind == "p" and letter in CANDIDATE)
                if not names or skipped:
                    continue
                name, own = self._name(names, directed, letter)
                named(name, shapes)
                block = Block(layer, kind, gate, direction)
                rows = slice(None)
                if not own and len(self.order) > 1:
                    order = [k for k in self.order if kind != "p" or k not in CANDIDATE]
                    place = order.index(letter)
                    rows = slice(place * units, (place + 1) * units)
                if kind in "bcp":
                    found[block] = BlockPlace(name, rows)
                    continue
                matrix_place(name, shapes)
                turned = self._turned(kind)
                columns: dict[str, slice | int] = {kind: slice(None)}
                if self.combined:
                    columns = _columns(self.combined, _sides(name, shapes, turned)[1], size)
                for part, stretch in columns.items():
                    place_of = BlockPlace(name, rows, stretch, turned)
                    found[block._replace(kind=part)] = place_of
        if self.candidate_bias:
            name = self._name(self.candidate_bias, directed, "n")[0]
            found[Block(layer, "c", 2, direction)] = BlockPlace(name, slice(None))
        return found

    def _name(self, names: Names, directed: tuple[int, int], letter: str = "") -> tuple[str, bool]:
        """The tensor that holds a gate of a directed layer, and whether it holds no other."""
        layer, direction = directed
        place = layer * self.directions + direction
        own = names[place] if isinstance(names, tuple) else names
        if isinstance(own, Mapping):
            if letter not in own:
                refuse("layout", f"a name for each gate of {self.order!r}", ", ".join(own))
            return own[letter].format(layer=layer, direction=direction), True
        name = str(own).format(gate=letter, layer=layer, direction=direction)
        return name, "{gate}" in str(own)

    def _gates(self) -> dict[str, int]:
        """From a gate's letter in the names to the model's own gate."""
        kind = type(self.cell).__name__
        known = {
            mine: self.cell.gates.index(own)
            for own, letters in LETTERS[kind].items()
            if own in self.cell.gates
            for mine in letters
        }
        gates = {letter: known[letter] for letter in self.order if letter in known}
        if sorted(gates.values()) != list(range(len(self.cell.gates))) or len(gates) != len(
            self.order
        ):
            expected = f"each gate of {self.cell.gates} once"
            refuse("order", expected, repr(self.order), "letters: " + str(LETTERS[kind]))
        return gates

    def _units(self, directed: tuple[int, int], shapes: Mapping[str, Shape]) -> int:
        """H, from the number of rows of a matrix."""
        kind, names = ("W", self.W) if self.combined else ("U", self.U)
        name, own = self._name(names, directed, self.order[0])
        rows = _sides(name, shapes, self._turned(kind))[0]
        gates = 1 if own else len(self.order)
        if rows % gates:
            refuse(f"layout: {name}", f"rows for {gates} gates", shapes[name])
        return int(rows // gates)

    def _turned(self, kind: str) -> bool:
        """Whether this matrix has its gates side by side."""
        apart = kind == "U" and self.recurrent_transposed is not None
        return bool(self.recurrent_transposed) if apart else self.transposed

    def _data(self, x: Array, units: int, size: int, outputs: int) -> Data:
        T, B = x.shape[:2]
        lengths = np.full(B, T) if self.lengths is None else np.asarray(self.lengths).reshape(B)
        loss = self.loss
        given = _time_major(self.targets, B, T) if self.batch_first else self.targets
        first = self.batch_first
        targets = as_targets(loss.kind, given, T, B, outputs, loss.last, batch_first=first)
        axes = (self.layers, self.directions, B)
        h, c = _state(self.h0, (*axes, size)), _state(self.c0, (*axes, units))
        mask = None if self.mask is None else np.asarray(self.mask, np.float64)
        if mask is not None and self.batch_first and mask.shape[:2] == (B, T):
            mask = mask.swapaxes(0, 1)
        final = None
        if self.final is not None:
            final = (_state(self.final[0], h.shape), _state(self.final[1], c.shape))
        return Data(x, targets, lengths, h, c, mask, self.between, final)


def with_every(layout: Layout, **choices: tuple[Any, ...]) -> Iterator[Layout]:
    """The layout with each combination of these choices for its attributes."""
    for combination in itertools.product(*choices.values()):
        yield replace(layout, **dict(zip(choices, combination, strict=True)))


def inputs_of(given: Any, features: int, batch_first: bool = False) -> Array:
    """(T, B, I), from numbers (T, B, I), (T, I), or (T,) if I = 1, or classes (T, B) or (T,).

    With `batch_first`, from (B, T, I) or classes (B, T); one sequence alone is as without.
    """
    array = np.asarray(given)
    numbers = array.ndim == 2 and features == array.shape[1] and _beyond(array, features)
    if array.dtype.kind in "iu" and array.ndim <= 2 and not numbers:
        if array.min() < 0 or array.max() >= features:
            seen = f"{array.min()} … {array.max()}"
            refuse("layout's inputs", f"classes 0 … {features - 1}", seen)
        array = np.eye(features)[array]
    array = np.asarray(array, np.float64)
    if array.ndim == 1 and features == 1:
        array = array[:, None]
    if array.ndim == 2:
        array = array[:, None]
    elif array.ndim == 3 and batch_first:
        array = array.swapaxes(0, 1)
    if array.ndim != 3 or array.shape[2] != features:
        axes = "(B, T, I)" if batch_first else "(T, B, I)"
        refuse("layout's inputs", f"{axes} with I = {features}", np.shape(given))
    return array


def _time_major(given: Any, batch: int, steps: int) -> Any:
    """Targets (B, T, ·), or flat in this order, as (T, B, ·); others as they are."""
    array = np.asarray(given)
    flat = array.shape[:1] == (batch * steps,) and min(batch, steps) > 1
    if flat:
        array = array.reshape(batch, steps, *array.shape[1:])
    return array.swapaxes(0, 1) if array.shape[:2] == (batch, steps) else given


def _beyond(array: Array, features: int) -> bool:
    """Whether these whole numbers cannot be classes."""
    return bool(array.min() < 0 or array.max() >= features)


def _state(given: Any, shape: tuple[int, ...]) -> Array:
    if given is None:
        return np.zeros(shape)
    array = np.asarray(given, np.float64)
    if array.size != np.prod(shape):
        refuse("layout's states", f"{shape}, layers, directions, B and H", array.shape)
    return array.reshape(shape).copy()


def named(name: str, shapes: Mapping[str, Shape]) -> None:
    if name not in shapes:
        refuse("layout", "names among " + ", ".join(shapes), repr(name))


def matrix_place(name: str, shapes: Mapping[str, Shape], transposed: bool = False) -> BlockPlace:
    """The place of a block that is a matrix of its own; a vector is a matrix of one column."""
    if name in shapes and len(shapes[name]) not in (1, 2):
        refuse(f"layout: {name}", "a matrix", shapes[name])
    return BlockPlace(name, slice(None), slice(None), transposed)


def _sides(name: str, shapes: Mapping[str, Shape], turned: bool) -> tuple[int, int]:
    """A matrix's rows, among which its gates are, and columns."""
    named(name, shapes)
    rows, columns = (*shapes[name], 1)[:2]
    return (int(columns), int(rows)) if turned else (int(rows), int(columns))


def _columns(combined: str, width: int, size: int) -> dict[str, slice | int]:
    """The columns of x, of h, and of the bias if there is one, given the size of h."""
    sizes = {"x": width - size - ("1" in combined), "h": size, "1": 1}
    found: dict[str, slice | int] = {}
    start = 0
    for part in combined:
        end = start + sizes[part]
        found[{"x": "W", "h": "U", "1": "b"}[part]] = start if part == "1" else slice(start, end)
        start = end
    return found


@dataclass(frozen=True)
class Guess:
    """What `tt.layouts.guess` makes: the data, and what else is known of the run.

    Attributes:
        inputs, targets: as in a Layout, or with their axes in another order.
        run: other attributes of the Layout that are known.
    """

    inputs: Any
    targets: Any
    run: Mapping[str, Any] = field(default_factory=dict)

    def layouts(self, shapes: Mapping[str, Shape], steps: int | None = None) -> Iterator[Layout]:
        """Every layout that tensors of these names and shapes could have, the likeliest first."""
        for one in self.structures(shapes, steps):
            for reading in one.readings:
                for loss in reductions(reading.loss):
                    yield replace(one.layout, loss=loss, targets=reading.targets)

    def structures(
        self, shapes: Mapping[str, Shape], steps: int | None = None
    ) -> Iterator[Structure]:
        """The same without the losses: each takes one forward pass."""
        V = self.run.get("fixed_head", (None,))[0]
        outputs = None if V is None else len(np.atleast_2d(V))
        data = Readings(self.inputs, self.targets, steps, outputs)
        found = []
        for one in arrangements(shapes, data):  # first with the likelier orders, then all others
            found.append(one)
            yield from self._held(one, one.orders[:LIKELY_ORDERS], data)
        for one in found:
            yield from self._held(one, one.orders[LIKELY_ORDERS:], data)
        for one in (
            found if self.inputs is not None else ()
        ):  # as when numbers are added, bit by bit
            for structure in self._held(one, one.orders[:LIKELY_ORDERS], data):
                yield structure.backwards()

    def _held(self, one: Arrangement, orders: Any, data: Readings) -> Iterator[Structure]:
        peepholes = {"peepholes": True} if "p" in one.items else {}
        cells = [replace(cell, **peepholes) for cell in VARIANTS[one.kind]]
        for x in data.of_inputs(one.features):
            readings = data.of_targets(x, one.outputs)
            if not readings:
                continue
            for order, cell in itertools.product(orders, cells):
                names = {"U": "", "b": "", **one.names(order), "layers": len(one.layers)}
                options = {**names, **one.options, **self.run, "loss": ModelLoss("given")}
                yield Structure(Layout(cell, order, x.x, None, **options), readings)


LIKELY_ORDERS = 6  # of the gates, which are tried first


class Structure(NamedTuple):
    """A layout without its targets and its loss, and what these may be."""

    layout: Layout
    readings: list[TargetReading]

    def backwards(self) -> Structure:
        """The same with inputs and targets from their last step to their first."""
        notes = ("Its steps run from the last of your inputs to the first.",)
        layout = replace(self.layout, inputs=self.layout.inputs[::-1], notes=notes)
        readings = [one._replace(targets=one.targets[::-1]) for one in self.readings]
        return Structure(layout, readings)


def reductions(summed: ModelLoss) -> Iterator[ModelLoss]:
    """The ways to reduce a loss to one number, the likelier first."""
    squares = summed.kind == "squared_error"
    ways = list(itertools.product(("mean", "sum"), ("mean", "sum")))
    outputs = ("sum", "mean") if summed.kind in ("softmax", "weighted") else ("mean", "sum")
    halves = (False, True) if squares else (False,)
    for share, half, (time, batch) in itertools.product(outputs, halves, ways):
        if not (summed.last and time == "sum"):
            yield replace(summed, time=time, batch=batch, outputs=share, half=half)
    if squares:
        yield replace(summed, time="mean", batch="mean", outputs="mean", root=True)
