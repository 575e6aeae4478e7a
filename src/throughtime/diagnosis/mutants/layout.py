"""Layouts, declared or guessed: how a target's arrays hold a cell's matrices, and its run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, permutations, product
from typing import Any, TypeAlias

import numpy as np

from throughtime.arrays import Array, Shape, refuse
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN, Cell
from throughtime.diagnosis.mutants.losses import Loss, as_targets
from throughtime.diagnosis.mutants.model import (
    EMBEDDING,
    HEAD,
    Block,
    BlockPlace,
    Data,
    Model,
    Placement,
)
from throughtime.gradcheck import Gates

# A name, perhaps with "{gate}", "{layer}" or "{direction}" in it; or one for each layer and way.
Names: TypeAlias = str | tuple[str, ...]

# Letters that people use for a gate, by the letter that stands here.
LETTERS = {
    "LSTM": {"i": "i", "f": "f", "o": "o", "a": "agcju"},
    "GRU": {"r": "r", "z": "zu", "n": "nhcga"},
    "RNN": {"s": "shxzan"},
}
CANDIDATE = LETTERS["LSTM"]["a"]

# What a guess tries.
USUAL_ORDERS = {
    "LSTM": ("ifgo", "ifog", "fiog", "figo", "iofg", "gifo"),
    "GRU": ("rzn", "zrn"),
    "RNN": ("h",),
}
VARIANTS: dict[str, tuple[Any, ...]] = {
    "LSTM": (LSTM(), LSTM("identity")),
    "GRU": (GRU(), GRU(False), GRU(True, "1-z"), GRU(False, "1-z")),
    "RNN": (RNN(), RNN("relu"), RNN("sigmoid")),
}
GATES = {kind: len(letters) for kind, letters in LETTERS.items()}
RECURRENT = re.compile(r"hh|rec|^u|_u|w_?h(?!y|o)|u_?h", re.IGNORECASE)


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
        combined: "xh" or "hx" where `W` holds both W and U, over [x, h] or [h, x]; otherwise "".
        V, d: names of the head's matrix and bias; "" for none.
        head_transposed: whether the head computes h V.
        E: name of the matrix (classes, I) whose rows are the inputs' embeddings; "" for none.
        layers: how many layers are stacked.
        directions: 1, or 2 where each layer also runs backwards through time.
        loss: how outputs become a loss.
        inputs, targets, lengths, h0, c0, mask: the run, see `tt.layouts.lstm`.
        between, final: see `Data`.
        decay, decay_biases: the L2 term λ/2 Σ W².
        notes: sentences on what of this was guessed.
    """

    cell: Cell
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
    combined: str = ""
    V: str = ""
    d: str = ""
    head_transposed: bool = False
    E: str = ""
    layers: int = 1
    directions: int = 1
    loss: Loss = field(default_factory=Loss)
    lengths: Any = None
    h0: Any = None
    c0: Any = None
    mask: Any = None
    between: tuple[Array, ...] = ()
    final: Any = None
    decay: float = 0.0
    decay_biases: bool = False
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
        if self.E:
            rows = blocks[Block(EMBEDDING, "E", 0)]
            if rows.shape[1] != features:
                refuse(f"layout: {self.E}", f"(classes, I) with I = {features}", rows.shape)
            features = len(rows)
        x = _inputs(self.inputs, features)
        outputs = blocks[Block(HEAD, "V", 0)].shape[0] if self.V else self.directions * size
        data = self._data(x, units, size, outputs)
        return Model(
            self.cell, placement, blocks, data, self.loss, self.decay, self.decay_biases, self.notes
        )

    def placement(self, shapes: Mapping[str, Shape]) -> Placement:
        """Where every block lies in tensors of these shapes."""
        places: dict[Block, BlockPlace] = {}
        for directed in itertools.product(range(self.layers), range(self.directions)):
            places |= self._directed_layer(*directed, shapes)
        if self.V:
            places[Block(HEAD, "V", 0)] = _matrix(self.V, shapes, self.head_transposed)
        if self.E:
            places[Block(EMBEDDING, "E", 0)] = _matrix(self.E, shapes)
        if self.d:
            places[Block(HEAD, "d", 0)] = BlockPlace(self.d, slice(None))
        return Placement(places, shapes)

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
            found[Block(layer, "R", 0, direction)] = _matrix(name, shapes, self.transposed)
            size = self._rows(name, shapes)
        held = {"W": self.W, "U": self.U, "b": self.b, "c": self.c, "p": self.p}
        for letter, gate in self._gates().items():
            for kind, names in held.items():
                skipped = (kind == "U" and self.combined) or (kind == "p" and letter in CANDIDATE)
                if not names or skipped:
                    continue
                name, own = self._name(names, directed, letter)
                _named(name, shapes)
                block = Block(layer, kind, gate, direction)
                rows = slice(None)
                if not own and len(self.order) > 1:
                    order = [k for k in self.order if kind != "p" or k not in CANDIDATE]
                    place = order.index(letter)
                    rows = slice(place * units, (place + 1) * units)
                if kind in "bcp":
                    found[block] = BlockPlace(name, rows)
                    continue
                _matrix(name, shapes)
                columns = {kind: slice(None)}
                if self.combined:
                    columns = _columns(self.combined, self._width(name, shapes), size)
                for part, stretch in columns.items():
                    place_of = BlockPlace(name, rows, stretch, self.transposed)
                    found[block._replace(kind=part)] = place_of
        if self.candidate_bias:
            name = self._name(self.candidate_bias, directed, "n")[0]
            found[Block(layer, "c", 2, direction)] = BlockPlace(name, slice(None))
        return found

    def _name(self, names: Names, directed: tuple[int, int], letter: str = "") -> tuple[str, bool]:
        """The tensor that holds a gate of a directed layer, and whether it holds no other."""
        layer, direction = directed
        template = names if isinstance(names, str) else names[layer * self.directions + direction]
        name = template.format(gate=letter, layer=layer, direction=direction)
        return name, "{gate}" in template

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
        name, own = self._name(self.W if self.combined else self.U, directed, self.order[0])
        rows = self._rows(name, shapes)
        gates = 1 if own else len(self.order)
        if rows % gates:
            refuse(f"layout: {name}", f"rows for {gates} gates", shapes[name])
        return int(rows // gates)

    def _rows(self, name: str, shapes: Mapping[str, Shape]) -> int:
        _named(name, shapes)
        return int(shapes[name][-1 if self.transposed else 0])

    def _width(self, name: str, shapes: Mapping[str, Shape]) -> int:
        return int(shapes[name][0 if self.transposed else -1])

    def _data(self, x: Array, units: int, size: int, outputs: int) -> Data:
        T, B = x.shape[:2]
        lengths = np.full(B, T) if self.lengths is None else np.asarray(self.lengths).reshape(B)
        loss = self.loss
        targets = as_targets(loss.kind, self.targets, T, B, outputs, loss.last)
        axes = (self.layers, self.directions, B)
        h, c = _state(self.h0, (*axes, size)), _state(self.c0, (*axes, units))
        mask = None if self.mask is None else np.asarray(self.mask, np.float64)
        final = None
        if self.final is not None:
            final = (_state(self.final[0], h.shape), _state(self.final[1], c.shape))
        return Data(x, targets, lengths, h, c, mask, self.between, final)


def with_every(layout: Layout, **choices: tuple[Any, ...]) -> Iterator[Layout]:
    """The layout with each combination of these choices for its attributes."""
    for combination in itertools.product(*choices.values()):
        yield replace(layout, **dict(zip(choices, combination, strict=True)))


def _inputs(given: Any, features: int) -> Array:
    """(T, B, I), from numbers (T, B, I) or (T, I), or classes (T, B) or (T,)."""
    array = np.asarray(given)
    if array.dtype.kind in "iu" and array.ndim <= 2:
        if array.min() < 0 or array.max() >= features:
            seen = f"{array.min()} … {array.max()}"
            refuse("layout's inputs", f"classes 0 … {features - 1}", seen)
        array = np.eye(features)[array.reshape(len(array), -1)]
    array = np.asarray(array, np.float64)
    if array.ndim == 2:
        array = array[:, None]
    if array.ndim != 3 or array.shape[2] != features:
        refuse("layout's inputs", f"(T, B, I) with I = {features}", array.shape)
    return array


def _state(given: Any, shape: tuple[int, ...]) -> Array:
    if given is None:
        return np.zeros(shape)
    array = np.asarray(given, np.float64)
    if array.size != np.prod(shape):
        refuse("layout's states", f"{shape}, layers, directions, B and H", array.shape)
    return array.reshape(shape).copy()


def _named(name: str, shapes: Mapping[str, Shape]) -> None:
    if name not in shapes:
        refuse("layout", "names among " + ", ".join(shapes), repr(name))


def _matrix(name: str, shapes: Mapping[str, Shape], transposed: bool = False) -> BlockPlace:
    """The place of a block that is a matrix of its own."""
    if name in shapes and len(shapes[name]) != 2:
        refuse(f"layout: {name}", "a matrix", shapes[name])
    return BlockPlace(name, slice(None), slice(None), transposed)


def _columns(combined: str, width: int, size: int) -> dict[str, slice]:
    """The columns of x and of h, given the size of h."""
    if combined == "hx":
        return {"U": slice(0, size), "W": slice(size, width)}
    return {"W": slice(0, width - size), "U": slice(width - size, width)}


@dataclass(frozen=True)
class Guess:
    """What `tt.layouts.guess` makes: the data, and what else is known of the run.

    Attributes:
        inputs, targets: as in a Layout.
        run: other attributes of the Layout that are known.
    """

    inputs: Any
    targets: Any
    run: Mapping[str, Any] = field(default_factory=dict)

    def layouts(self, shapes: Mapping[str, Shape]) -> Iterator[Layout]:
        """Every layout that tensors of these names and shapes could have, the likeliest first."""
        inputs = np.asarray(self.inputs)
        for held in chain(_gate_by_gate(shapes), _held(shapes, inputs)):
            kind = held.pop("kind")
            orders = [held.pop("order")] if "order" in held else _orders(kind)
            for order, cell, loss in product(orders, VARIANTS[kind], self._losses()):
                yield Layout(
                    cell, order, self.inputs, self.targets, loss=loss, **held, **dict(self.run)
                )

    def _losses(self) -> Iterator[Loss]:
        targets, inputs = np.asarray(self.targets), np.asarray(self.inputs)
        likely = targets.shape[:1] != inputs.shape[:1]
        for last in (likely, True) if not likely else (True,):
            yield from _reductions(targets.dtype.kind in "iu", last)


def _reductions(classes: bool, last: bool) -> Iterator[Loss]:
    ways = list(product(("mean", "sum"), ("mean", "sum")))
    if classes:
        yield from (Loss(time=time, batch=batch, last=last) for time, batch in ways)
        return
    for outputs, half, (time, batch) in product(("mean", "sum"), (False, True), ways):
        yield Loss("squared_error", time, batch, outputs, half, False, last)
    yield Loss("squared_error", root=True, last=last)
    for time, batch in ways:
        yield Loss("binary", time, batch, last=last)


def _orders(kind: str) -> Iterator[str]:
    """Orders of the gates: the usual ones first, then all others."""
    usual = USUAL_ORDERS[kind]
    yield from usual
    yield from (o for o in map("".join, permutations(usual[0])) if o not in usual)


def _gate_by_gate(shapes: Mapping[str, Shape]) -> Iterator[dict[str, Any]]:
    """Layouts with one matrix for each gate: names that differ in one letter, that of the gate."""
    for kind in ("LSTM", "GRU"):
        letters: dict[str, str] = {}
        for name in shapes:
            for place, letter in enumerate(name):
                template = name[:place] + "{gate}" + name[place + 1 :]
                letters[template] = letters.get(template, "") + letter
        groups = {template: found for template, found in letters.items() if _gates(kind, found)}
        for order in dict.fromkeys(groups.values()):
            names = [template for template, found in groups.items() if found == order]
            first = {name: shapes[name.format(gate=order[0])] for name in names}
            weights = [name for name, shape in first.items() if _is_matrix(shape)]
            biases = [name for name in names if name not in weights]
            rest = [n for n in shapes if all(n != m.format(gate=k) for m in names for k in order)]
            yield from _assigned(kind, order, first, weights, biases, {n: shapes[n] for n in rest})


def _assigned(
    kind: str,
    order: str,
    first: Mapping[str, Shape],
    weights: list[str],
    biases: list[str],
    rest: Mapping[str, Shape],
) -> Iterator[dict[str, Any]]:
    """The ways to assign parameters to groups of names."""
    matrices = {name: shape for name, shape in rest.items() if _is_matrix(shape)}
    vectors = {name: int(np.prod(shape)) for name, shape in rest.items() if name not in matrices}
    common = {"kind": kind, "order": order, **dict(zip("bc", (*biases, "", ""), strict=False))}
    ways: list[tuple[dict[str, Any], int]] = []
    for transposed in (False, True):
        if len(weights) == 1:
            units = first[weights[0]][-1 if transposed else 0]
            ways += [
                ({"W": weights[0], "U": "", "combined": way, "transposed": transposed}, units)
                for way in ("xh", "hx")
            ]
        if len(weights) == 2:
            for W, U in (weights, weights[::-1]):
                if first[U][0] == first[U][1]:
                    ways.append(({"W": W, "U": U, "transposed": transposed}, first[U][0]))
    for way, units in ways:
        for head in _heads(list(matrices), matrices, vectors, units):
            yield {**common, **way, **head}


def _gates(kind: str, letters: str) -> bool:
    """Whether these letters stand for every gate exactly once."""
    known = LETTERS[kind]
    owners = [own for letter in letters for own, names in known.items() if letter in names]
    return len(letters) == len(known) and sorted(owners) == sorted(known)


def _held(shapes: Mapping[str, Shape], inputs: Any) -> Iterator[dict[str, Any]]:
    """Which tensors may be which, one bias or two, with or without a head."""
    matrices = {name: shape for name, shape in shapes.items() if _is_matrix(shape)}
    vectors = {name: int(np.prod(shape)) for name, shape in shapes.items() if name not in matrices}
    for kind, gates in GATES.items():
        for way in (_apart(matrices, gates), _combined(matrices, gates, inputs)):
            for one, units in way:
                rest = [name for name in matrices if name not in (one["W"], one.get("U"))]
                for head in _heads(rest, matrices, vectors, units):
                    left = [name for name in vectors if name != head.get("d")]
                    if len(left) > 2 or any(vectors[name] != gates * units for name in left):
                        continue
                    for biases in permutations(left) if kind == "GRU" else [tuple(left)]:
                        names = dict(zip("bc", (*biases, "", ""), strict=False))
                        yield {"kind": kind, "U": "", **one, **head, **names}


def _is_matrix(shape: Shape) -> bool:
    return len(shape) == 2 and min(shape) > 1


def _apart(matrices: Mapping[str, Shape], gates: int) -> Iterator[tuple[dict[str, Any], int]]:
    """W and U as two tensors, of which U is `gates` times as long as it is wide."""
    for transposed in (False, True):
        turned = {name: s[::-1] if transposed else s for name, s in matrices.items()}
        pairs = [
            ({"W": W, "U": U, "transposed": transposed}, shape[1])
            for U, shape in turned.items()
            if shape[0] == gates * shape[1]
            for W, other in turned.items()
            if W != U and other[0] == shape[0]
        ]
        yield from sorted(pairs, key=lambda pair: not RECURRENT.search(str(pair[0]["U"])))


def _combined(
    matrices: Mapping[str, Shape], gates: int, inputs: Any
) -> Iterator[tuple[dict[str, Any], int]]:
    """W and U as one matrix, over [x, h] or [h, x]."""
    for transposed in (False, True):
        for name, shape in matrices.items():
            rows, columns = shape[::-1] if transposed else shape
            units = rows // gates
            if rows % gates or columns <= units:
                continue
            if inputs.dtype.kind == "f" and columns - units != inputs.shape[-1]:
                continue
            for combined in ("xh", "hx"):
                yield {"W": name, "combined": combined, "transposed": transposed}, units


def _heads(
    rest: list[str], matrices: Mapping[str, Shape], vectors: Mapping[str, int], units: int
) -> Iterator[dict[str, Any]]:
    """The one matrix that is left as the head, with a bias of its size or none."""
    if not rest:
        yield {}
    if len(rest) != 1:
        return
    shape = matrices[rest[0]]
    for turned in (False, True):
        outputs, inner = shape[::-1] if turned else shape
        if inner != units:
            continue
        for bias in [name for name, size in vectors.items() if size == outputs] + [""]:
            yield {"V": rest[0], "d": bias, "head_transposed": turned}
