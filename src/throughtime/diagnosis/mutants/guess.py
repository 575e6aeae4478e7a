"""Layouts that names and shapes allow, the likeliest first; the loss tells which is right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, permutations, product
from typing import Any

import numpy as np

from throughtime.arrays import Shape
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN
from throughtime.diagnosis.mutants.layout import LETTERS, Layout
from throughtime.diagnosis.mutants.losses import Loss

ORDERS = {
    "LSTM": ("ifgo", "ifog", "fiog", "figo", "iofg", "gifo"),
    "GRU": ("rzn", "zrn"),
    "RNN": ("h",),
}
VARIANTS: dict[str, tuple[Any, ...]] = {
    "LSTM": (LSTM(), LSTM("identity")),
    "GRU": (GRU(), GRU(False), GRU(True, "1-z"), GRU(False, "1-z")),
    "RNN": (RNN(), RNN("relu"), RNN("sigmoid")),
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
RECURRENT = re.compile(r"hh|rec|^u|_u|w_?h(?!y|o)|u_?h", re.IGNORECASE)


@dataclass(frozen=True)
class Guess:
    """What `tt.layouts.guess` makes: the data, and what else is known of the run.

    Attributes:
        inputs, targets: as for a Layout.
        run: other attributes of a Layout that are known.
    """

    inputs: Any
    targets: Any
    run: Mapping[str, Any] = field(default_factory=dict)

    def layouts(self, shapes: Mapping[str, Shape]) -> Iterator[Layout]:
        """Every layout that such tensors could have."""
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
    """The usual orders first, then all others."""
    usual = ORDERS[kind]
    yield from usual
    yield from (o for o in map("".join, permutations(usual[0])) if o not in usual)


def _gate_by_gate(shapes: Mapping[str, Shape]) -> Iterator[dict[str, Any]]:
    """One matrix a gate: names that differ in one letter, which is a gate's."""
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
            yield from _named(kind, order, first, weights, biases, {n: shapes[n] for n in rest})


def _named(
    kind: str,
    order: str,
    first: Mapping[str, Shape],
    weights: list[str],
    biases: list[str],
    rest: Mapping[str, Shape],
) -> Iterator[dict[str, Any]]:
    """Which of the groups of names is which."""
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
    """Whether these letters stand for each gate once."""
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
    """W and U of their own; U is the one that is `gates` times as long as it is wide."""
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
    """One matrix over [x, h] or [h, x]."""
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
    """The one matrix that is left, with a bias of its outputs or none."""
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
