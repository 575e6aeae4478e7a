"""Which arrays may be which parameter: every way that shapes allow, the likeliest names first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import prod
from typing import Any

from throughtime.arrays import Shape
from throughtime.diagnosis.mutants.data_readings import Readings
from throughtime.diagnosis.mutants.gate_names import (
    Group,
    Grouping,
    Layered,
    groupings,
    layered,
    orders_by_name,
    usual_orders,
)

# What the names of arrays speak for, in small letters.
SPEAKS_FOR = {
    "W": re.compile(r"x|in|ih|kernel|^u"),
    "U": re.compile(r"hh|aa|ss|rec|^u|^r|^v|_u|w_?h(?!y|o|x)|h$"),
    "V": re.compile(r"y|out|dec|fc|dense|head|logit|aff|lin|^v|o$|w_?2"),
    "E": re.compile(r"emb|^e$|lookup|wte"),
}
STARTS = {  # names of initial states that are parameters
    "h": re.compile(r"([has]_?(0|init|prev|start)|initial_?(state|h|hidden))$"),
    "k": re.compile(r"(c_?(0|init|prev|start)|initial_?c(ell)?)$"),
}
KINDS = {"RNN": "h", "LSTM": "ifgo", "GRU": "rzn", "coupled": "igo"}  # with their gates
CANDIDATES = "gn"
MOST_ITEMS = 10  # W, U, b, c, p, V, d, Q, q and E


@dataclass(frozen=True)
class Item:
    """One array, or a group of them, one for each gate.

    Attributes:
        names: its name, or the names for each gate, in the order of the grouping.
        shape: of each array; a vector is a column.
        own: whether each gate has an array of its own.
        vector: whether it may be a bias.
        letters: the gate of each array, where no order of the gates need tell.
    """

    names: Group
    shape: tuple[int, int]
    own: bool = False
    vector: bool = False
    letters: str = ""

    @property
    def size(self) -> int:
        """How many numbers one array has."""
        return prod(self.shape)

    def turned(self, transposed: bool) -> tuple[int, int]:
        """Its rows and columns."""
        return (self.shape[1], self.shape[0]) if transposed else self.shape

    def speaks_for(self, role: str) -> bool:
        """Whether its names speak for a role."""
        return any(name and SPEAKS_FOR[role].search(name.lower()) for name in self.names)


@dataclass(frozen=True)
class Arrangement:
    """What every array is.

    Attributes:
        kind: "RNN", "LSTM", "GRU", or "coupled", an LSTM in which f = 1 − i.
        orders: the orders of the gates, the likeliest first.
        items: the arrays by the attribute of a Layout that names them.
        options: other attributes of the Layout.
        features: how many numbers a step's inputs have, or how many classes there are.
        outputs: how many numbers a step's outputs have.
        layers: by layer from general names to names.
    """

    kind: str
    orders: Sequence[str]
    items: Mapping[str, Item]
    options: Mapping[str, Any]
    features: int
    outputs: int
    layers: tuple[Mapping[str, str], ...]

    def names(self, order: str) -> dict[str, Any]:
        """The names, as a Layout holds them, with the gates in this order."""
        held: dict[str, Any] = {}
        for role, item in self.items.items():
            if role in ("V", "d", "Q", "q", "E", "h_start", "c_start"):
                held[role] = item.names[0]
                continue
            each = tuple(_in_layer(item, order, layer) for layer in self.layers)
            held[role] = each if len(each) > 1 else each[0]
        return held


class NamesByGate(dict[str, str]):
    """From a gate's letter to a name; unlike a dict it can be a part of a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _in_layer(item: Item, order: str, layer: Mapping[str, str]) -> str | NamesByGate:
    if not item.own:
        return layer[item.names[0]]
    pairs = zip(item.letters or order, item.names, strict=True)
    return NamesByGate({letter: layer[name] for letter, name in pairs if name})


def arrangements(shapes: Mapping[str, Shape], data: Readings) -> Iterator[Arrangement]:
    """Every way in which arrays of these shapes may hold a network with these data."""
    starts = {f"{kind}_start".replace("k_", "c_"): _starting(kind, shapes) for kind in STARTS}
    given = {role: name for role, name in starts.items() if name}
    for states in (given, {}) if given else ({},):
        left = {name: shape for name, shape in shapes.items() if name not in states.values()}
        items = {role: Item((name,), _column(shapes[name])) for role, name in states.items()}
        for stack in layered(left):
            own = {general: left[name] for general, name in stack.layers[0].items()}
            own |= {name: left[name] for name in stack.rest}
            for kind, letters in KINDS.items():
                yield from _of_kind(kind, letters, own, stack, data, items)


def _starting(kind: str, shapes: Mapping[str, Shape]) -> str:
    return next((name for name in shapes if STARTS[kind].search(name.lower())), "")


def _column(shape: Shape) -> tuple[int, int]:
    return (shape[0], prod(shape[1:])) if shape else (1, 1)


def _of_kind(
    kind: str,
    letters: str,
    shapes: Mapping[str, Shape],
    stack: Layered,
    data: Readings,
    starts: Mapping[str, Item],
) -> Iterator[Arrangement]:
    """The arrangements of one kind of cell, by the groupings of its gates."""
    alone = [Grouping((), ())]
    for grouping in [*groupings(shapes, len(letters)), *alone] if len(letters) > 1 else alone:
        roles = _Roles(len(letters), kind, shapes, grouping, stack, data)
        found = sorted(roles.assigned(), key=lambda one: -one.likely)
        orders = usual_orders(kind, letters)
        if grouping.keys:
            orders = orders_by_name(kind.replace("coupled", "LSTM"), letters, grouping.keys)
        for one in found:
            fitting = [order for order in orders if one.has_its_gates(order)]
            items = {**one.items, **starts}
            yield Arrangement(
                kind, fitting, items, one.options, one.features, one.outputs, stack.layers
            )


@dataclass(frozen=True)
class _Assigned:
    """Roles of all arrays."""

    items: Mapping[str, Item]
    options: Mapping[str, Any]
    features: int
    outputs: int

    @property
    def likely(self) -> float:
        """How many names speak for their roles; two matrices of one orientation are likelier."""
        spoken = sum(item.speaks_for(k) for k, item in self.items.items() if k in SPEAKS_FOR)
        one = bool(self.options["transposed"])
        other = bool(self.options.get("recurrent_transposed", one))
        return spoken - 0.5 * (one != other)

    def has_its_gates(self, order: str) -> bool:
        """Whether only the candidate lacks a peephole."""
        p = self.items.get("p")
        if p is None or not p.own or "" not in p.names:
            return True
        return order[p.names.index("")] in CANDIDATES


@dataclass(frozen=True)
class _Roles:
    """The search for roles among arrays and groups of arrays."""

    gates: int
    kind: str
    shapes: Mapping[str, Shape]
    grouping: Grouping
    stack: Layered
    data: Readings
    items: list[Item] = field(init=False)

    def __post_init__(self) -> None:
        found = [self._item(group, own=True) for group in self.grouping.groups]
        single = [name for name in self.shapes if name not in self.grouping.covered]
        found += [self._item((name,), own=False) for name in single]
        object.__setattr__(self, "items", found)

    def _idle(self, item: Item) -> int:
        """How many of its arrays do not matter in a first step, in any layer."""
        if not self.data.idle:
            return 0
        layers = self.stack.layers

        def idle(name: str) -> bool:
            own = [layer.get(name, name) for layer in layers]
            return all(one in self.data.idle for one in own)

        return sum(idle(name) for name in item.names if name)

    def _may_be(self, role: str, item: Item) -> bool:
        """Whether a first step may depend on it as far as it does.

        On U it depends in all gates or, where states are 0, in none; of the rest, all matters but
        what belongs to a gate that multiplies a state before, or to inputs that are 0.
        """
        idle = self._idle(item)
        if not idle or role == "p" or (role in "WUE" and idle == len(item.names)):
            return True
        own = self.kind == "LSTM" and item.own and role == "U"
        if role == "U":
            return own and idle == len(item.names) - 1  # where c_0 is 0 and h_0 is not
        return item.own and idle == 1 and self.kind in ("LSTM", "GRU")

    def _item(self, names: Group, own: bool) -> Item:
        shape = self.shapes[next(name for name in names if name)]
        flat = not own and self.gates > 1 and len(shape) == 2 and shape[0] == self.gates
        vector = len(shape) < 2 or min(shape) == 1 or flat
        return Item(names, _column(shape), own, vector, self.grouping.letters if own else "")

    def assigned(self) -> Iterator[_Assigned]:
        """Every assignment of roles."""
        if len(self.items) > MOST_ITEMS:
            return
        for cell, options, units, features in self._cells():
            left = [item for item in self.items if item not in cell.values()]
            for below, given in self._below(left, features):
                rest = [item for item in left if item not in below.values()]
                for head, turned, outputs in self._heads(rest, units):
                    more = [item for item in rest if item not in head.values()]
                    for vectors in self._vectors(more, units, outputs, bool(head), options):
                        found = {**cell, **below, **head, **vectors}
                        yield _Assigned(found, {**options, **turned}, given, outputs)

    def _cells(self) -> Iterator[tuple[dict[str, Item], dict[str, Any], int, int]]:
        """W and U, how they are held, H and I."""
        matrices = [item for item in self.items if self._recurrent(item)]
        for W in matrices:
            if not self._may_be("W", W):
                continue
            for transposed in (False, True):
                rows, columns = W.turned(transposed)
                units, rest = divmod(rows, 1 if W.own else self.gates)
                if rest or not units:
                    continue
                options: dict[str, Any] = {"transposed": transposed}
                for form in ("hx", "xh", "hx1", "xh1", "1hx", "1xh"):
                    if (features := columns - units - ("1" in form)) > 0:
                        yield {"W": W}, {**options, "combined": form}, units, features
                for U in matrices:
                    for turned in (False, True):
                        across, along = U.turned(turned)
                        same = along == units and across == units * (1 if U.own else self.gates)
                        if U is not W and same and self._may_be("U", U):
                            held = {**options, "recurrent_transposed": turned}
                            yield {"W": W, "U": U}, held, units, columns

    def _recurrent(self, item: Item) -> bool:
        """Whether it may be W or U."""
        return "" not in item.names and not item.letters and self._of_layer(item)

    def _of_layer(self, item: Item) -> bool:
        """Whether it may belong to a layer: where these are numbered, by its number."""
        return len(self.stack.layers) == 1 or not set(item.names) & set(self.stack.rest)

    def _beside(self, item: Item) -> bool:
        return not item.own and (len(self.stack.layers) == 1 or item.names[0] in self.stack.rest)

    def _below(self, left: list[Item], features: int) -> Iterator[tuple[dict[str, Item], int]]:
        """The embedding, or none, and how many numbers or classes inputs have."""
        for E in left:
            classes, inner = E.shape
            fits = self._beside(E) and inner == features and self._may_be("E", E)
            if fits and self.data.may_be_classes(classes):
                yield {"E": E}, classes
        if self.data.may_have(features):
            yield {}, features

    def _heads(
        self, left: list[Item], units: int
    ) -> Iterator[tuple[dict[str, Item], dict[str, Any], int]]:
        """The head's matrix, its orientation, and O; without a head, h itself or its first unit."""
        if self.data.outputs is not None:
            yield {}, {}, self.data.outputs
            return
        for V in left:
            if not self._beside(V) or not self._may_be("V", V):
                continue
            for turned in (False, True):
                outputs, inner = V.turned(turned)
                if inner == units and self.data.may_give(outputs):
                    yield {"V": V}, {"head_transposed": turned}, outputs
                if self.data.may_give(outputs):
                    yield from self._two_layers(V, turned, left, units)
        if self.data.may_give(units):
            yield {}, {}, units
        if units > 1:
            yield {}, {"first_units": 1}, 1

    def _two_layers(
        self, V: Item, turned: bool, left: list[Item], units: int
    ) -> Iterator[tuple[dict[str, Item], dict[str, Any], int]]:
        """Heads of two layers, the second of which has the matrix V."""
        outputs, inner = V.turned(turned)
        for Q in left:
            if Q is V or not self._beside(Q) or Q.turned(turned) != (inner, units):
                continue
            if not self._may_be("Q", Q):
                continue
            rest = [item for item in left if item not in (V, Q)]
            if not all(item.vector for item in rest):
                continue
            biases = [q for q in rest if self._beside(q) and q.size == inner]
            for q in (*biases, None):
                found = {"V": V, "Q": Q} | ({"q": q} if q else {})
                for squash in ("tanh", "relu", "sigmoid"):
                    yield found, {"head_transposed": turned, "squash": squash}, outputs

    def _vectors(
        self,
        left: list[Item],
        units: int,
        outputs: int,
        has_head: bool,
        options: Mapping[str, Any],
    ) -> Iterator[dict[str, Item]]:
        """Biases and peepholes: what is left, all of it."""
        fits = {"b": self.gates * units, "c": self.gates * units}
        if "1" in options.get("combined", ""):
            del fits["b"]
        if has_head:
            fits["d"] = outputs
        if self.kind in ("LSTM", "coupled"):
            fits["p"] = (self.gates - 1) * units
        if not all(item.vector for item in left):
            return
        for roles in permutations(fits, len(left)):
            in_order = "c" not in roles or "b" in roles[: roles.index("c")]
            pairs = dict(zip(roles, left, strict=True))
            if (in_order or self.kind == "GRU") and all(
                self._has(role, item, fits[role], units) for role, item in pairs.items()
            ):
                yield pairs

    def _allowed(self, role: str, item: Item) -> bool:
        return self._beside(item) if role == "d" else self._of_layer(item)

    def _has(self, role: str, item: Item, size: int, units: int) -> bool:
        """Whether an array has a role's size, or each of a group has that of one gate."""
        if ("" in item.names and role != "p") or not self._allowed(role, item):
            return False
        if (item.letters and role != "p") or not self._may_be(role, item):
            return False
        if item.own:
            return item.size == units
        return item.size == size
