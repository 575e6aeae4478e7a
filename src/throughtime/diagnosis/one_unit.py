"""Which known faults explain what a backward pass does to one unit, where none sees another.

The numerical derivatives by the biases are sums of e_1 … e_T, what the loss sends into h_t, with
coefficients that the cell's equations give. So they tell e_t, and more: they fit no other cell, and
no other order of its gates. From e_t every known fault predicts the gradient of every bias. A fault
is named if it is right about all of them, at every point that was looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.cells import ACTIVATIONS, GRU, LSTM, RNN, MutantCell
from throughtime.diagnosis.mutants.interventions import Interventions, Mutation
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.mutants.model import (
    Block,
    BlockPlace,
    Blocks,
    Data,
    DirectedLayer,
    Model,
    Placement,
)
from throughtime.diagnosis.mutants.mutations import mutations
from throughtime.diagnosis.simple_points import SimplePoints, right
from throughtime.diagnosis.tolerances import (
    GATE_BIASES,
    SAME_IN_A_UNIT,
    SMALLEST_ERROR_BAR,
    UNIT_WEIGHT,
)
from throughtime.diagnosis.unit_points import GateBias, UnitObservation, UnitPoints

GATED: dict[int, tuple[MutantCell, ...]] = {  # by how many gates they have
    3: (
        *(GRU(reset_after, keep) for keep in ("z", "1-z") for reset_after in (True, False)),
        LSTM(coupled=True),
    ),
    4: (LSTM(), LSTM("identity")),
}


@dataclass(frozen=True)
class OneUnit:
    """What the biases tell.

    Attributes:
        cell: the cell, whose equations the numerical derivatives follow.
        gates: each block of biases, in the order of the target: "gate f (b[0:4])".
        off: whether each of them is wrong at one of the lengths.
        looks: what was looked at.
        fitting: the mutations that are right about every number, the likeliest first.
        refuted: faults that would show here, and would show otherwise.
        alone: whether no other layer lies below, of which nothing is known.
    """

    cell: MutantCell
    gates: tuple[str, ...]
    off: tuple[bool, ...]
    looks: tuple[UnitObservation, ...]
    fitting: tuple[Mutation, ...]
    refuted: frozenset[str]
    alone: bool = True

    @property
    def wrong(self) -> tuple[str, ...]:
        """The gates that are wrong."""
        return tuple(gate for gate, off in zip(self.gates, self.off, strict=True) if off)

    @property
    def point(self) -> str:
        """Where the numbers come from, in words."""
        lengths = dict.fromkeys(f"T = {seen.steps}" for seen in self.looks)
        weights = {seen.recurrent for seen in self.looks} - {0.0}
        but = f" but {UNIT_WEIGHT} on the diagonal of the recurrent ones" if weights else ""
        return (
            f"At {', '.join(lengths)}, with all matrices below the output layer at 0{but}, no "
            "unit sees another one"
        )

    @property
    def name(self) -> str:
        """The cell in words."""
        return f"a{'' if isinstance(self.cell, GRU) else 'n'} {type(self.cell).__name__}"


def one_unit(points: SimplePoints) -> OneUnit | None:
    """What the biases tell; None where the top layer's are not those of a known cell.

    Without recurrent weights first: what is wrong there is told even where what goes back through
    them is wrong too.
    """
    places = UnitPoints(points)
    G = len(places.gates)
    if G == 1:
        plain = [look for bias in GATE_BIASES if (look := places.look(1, (bias,)))]
    else:
        plain = [look for T in (1, 2, 3) if (look := places.look(T, GATE_BIASES))] if G else []
    cells = _cells(places)
    first = _merged(places, cells, plain)
    if first is None or not points.knows_recurrent:
        return first
    lengths = (2, 3) if G > 1 else (2,)
    further = [places.look(T, GATE_BIASES, UNIT_WEIGHT, through=G == 1) for T in lengths]
    if not all(further):
        return first
    both = _merged(places, cells, [*plain, *(look for look in further if look)])
    if both is None or (first.fitting and not both.fitting):
        return first
    both = _with_inputs(both, points)
    return replace(both, off=first.off) if any(first.off) else both


def _with_inputs(unit: OneUnit, points: SimplePoints) -> OneUnit:
    """The same, told whether W stands in U's place, where W = 0 makes that look as if nothing did.

    With recurrent weights at 0 and W as given it shows at T = 2, and nothing else does.
    """
    other = {m for m in unit.fitting if m.fault == "wrong_matrix"}
    if not other or len(other) == len(unit.fitting):
        return unit
    cut = right(points.study.look(2, points.without_recurrent(), points.all_biases()))
    if cut is None:
        return unit
    return replace(unit, fitting=tuple(m for m in unit.fitting if (m in other) != cut))


def _cells(places: UnitPoints) -> tuple[MutantCell, ...]:
    if len(places.gates) != 1:
        return GATED.get(len(places.gates), ())
    return tuple(RNN(kind) for kind in ("tanh", "sigmoid") if places.state_is(ACTIVATIONS[kind]))


def _merged(
    places: UnitPoints, cells: Sequence[MutantCell], looks: Sequence[UnitObservation]
) -> OneUnit | None:
    """What the looks tell; None where no cell fits them, or cells that have nothing in common."""
    if not looks or looks[0].steps != 1:
        return None
    known = [own for cell in cells for own in _orders(cell, looks)]
    if len({(type(own.cell), own.order) for own in known}) != 1:
        return None
    told = [_told(own, places.gates) for own in known]
    fitting = {(m.fault, m.where): m for own in told for m in own.fitting}
    refuted = frozenset.intersection(*(own.refuted for own in told))
    one = told[0]
    by_table = tuple(fitting.values())
    if not places.alone:  # a fault of the layer below alone does not show
        refuted = frozenset()
    return OneUnit(one.cell, one.gates, one.off, one.looks, by_table, refuted, places.alone)


@dataclass(frozen=True)
class _Sent:
    """What the loss sends into the steps of every unit at one look.

    Attributes:
        e: (T, H); empty where the numerical derivatives do not tell it.
        inverse: what makes it from them, (T, ·).
        bars: their error bars, (·, H).
    """

    e: Array
    inverse: Array
    bars: Array


@dataclass(frozen=True)
class _Known:
    """A cell, the order of its gates, and what was sent into the steps at each look."""

    cell: MutantCell
    order: tuple[int, ...]
    models: tuple[Model, ...]
    looks: tuple[UnitObservation, ...]
    sent: tuple[_Sent, ...]

    def expected(
        self, made: Sequence[tuple[Mutation, ...]]
    ) -> list[tuple[UnitObservation, Array, Array]]:
        """Each look with the gradient of every bias there, and its error bars.

        Args:
            made: the mutations that the backward pass has there.
        """
        found = []
        for model, seen, sent, own in zip(self.models, self.looks, self.sent, made, strict=True):
            responses = _responses(model, own, self.order)
            found.append((seen, responses @ sent.e, np.abs(responses @ sent.inverse) @ sent.bars))
        return found


def _orders(cell: MutantCell, looks: Sequence[UnitObservation]) -> Iterator[_Known]:
    """The orders of the cell's gates with which its equations give the numerical derivatives."""
    for order in permutations(range(len(cell.gates))):
        told: list[tuple[Model, UnitObservation, _Sent]] = []
        for seen in looks:
            model = _model(cell, order, seen)
            sent = _sent(model, order, seen)
            if sent is None:
                break
            if sent.e.size:
                told.append((model, seen, sent))
        else:
            yield _Known(cell, order, *zip(*told, strict=True))


def _sent(model: Model, order: tuple[int, ...], seen: UnitObservation) -> _Sent | None:
    """What is sent into the steps; None where the numerical derivatives are not this cell's."""
    responses, n, bars = _responses(model, (), order), seen.n, seen.bars
    told = responses
    if seen.through is not None:
        through, unsure = seen.through
        told = np.concatenate([responses, _through(model)[None]])
        n, bars = np.concatenate([n, through[None]]), np.concatenate([bars, unsure[None]])
    sure = 1 / (bars.max(axis=1) + SAME_IN_A_UNIT * np.abs(n).max(initial=0.0) + SMALLEST_ERROR_BAR)
    inverse = np.linalg.pinv(sure[:, None] * told, rcond=SAME_IN_A_UNIT) * sure
    e = inverse @ n
    if not seen.right(responses @ e, np.abs(responses @ inverse) @ bars):
        return None
    tells = np.linalg.matrix_rank(told, SAME_IN_A_UNIT) == seen.steps
    return _Sent(e if tells else np.empty(0), inverse, bars)


def _model(cell: MutantCell, order: tuple[int, ...], seen: UnitObservation) -> Model:
    """One unit, run once for every step that e_t can be sent into."""
    gates = range(len(cell.gates))
    blocks: Blocks = {Block(0, "W", k): np.zeros((1, 1)) for k in gates}
    blocks |= {Block(0, "U", k): np.full((1, 1), seen.recurrent) for k in gates}
    for bias, k in zip(seen.biases, order, strict=True):
        blocks[Block(0, "b", k)] = np.array([bias])
    one, names = slice(0, 1), {block: f"{block.kind}{block.gate}" for block in blocks}
    places = {
        block: BlockPlace(name, one, None if block.kind == "b" else one)
        for block, name in names.items()
    }
    shapes = {names[block]: array.shape for block, array in blocks.items()}
    T = seen.steps
    sent = np.eye(T)[:, :, None]  # into step t of sequence t
    start = np.zeros((1, 1, T, 1))
    data = Data(np.zeros((T, T, 1)), sent, np.full(T, T), start, start)
    return Model(cell, Placement(places, shapes), blocks, data, ModelLoss("weighted"))


def _responses(model: Model, made: tuple[Mutation, ...], order: tuple[int, ...]) -> Array:
    """The gradient of each gate's bias where 1 is sent into one step, (G, T)."""
    _, dh = model.head_gradient(made)
    deltas = model.recursion(made, dh)[DirectedLayer(0, 0)]
    kept = Interventions(made, 0, 0)("kept_b", np.ones(deltas.z.shape[:2]))
    return np.asarray(np.einsum("tbg,tb->gb", deltas.z[..., 0], kept)[list(order)])


def _through(model: Model) -> Array:
    """The gradient of the only gate's recurrent weight where 1 is sent into one step, (T,)."""
    _, dh = model.head_gradient(())
    one = DirectedLayer(0, 0)
    deltas, tape = model.recursion((), dh)[one], model.forward().tapes[one]
    return np.asarray(np.einsum("tb,tb->b", deltas.u[..., 0, 0], tape.h[:-1, :, 0]))


def _told(known: _Known, gates: Sequence[GateBias]) -> OneUnit:
    """Which known faults are right about every number, and which are not."""
    looks = known.looks
    tables = [_table(model) for model in known.models]
    longest = max(range(len(looks)), key=lambda k: looks[k].steps)
    fitting: list[Mutation] = []
    refuted: dict[str, None] = {}
    for key, mutation in tables[longest].items():
        expected = known.expected([(table[key],) if key in table else () for table in tables])
        if not any(seen.differs(own, unsure) for seen, own, unsure in expected):
            continue
        if all(seen.fits(own, unsure) for seen, own, unsure in expected):
            fitting.append(mutation)
        else:
            refuted[mutation.fault] = None
    letters = tuple(known.cell.gates[k] for k in known.order)
    words = [f"gate {letter} ({gate})" for letter, gate in zip(letters, gates, strict=True)]
    off = np.any([seen.wrong for seen in looks], axis=0)
    return OneUnit(
        known.cell,
        tuple(words) if len(words) > 1 else (str(gates[0]),),
        tuple(bool(wrong) for wrong in off),
        looks,
        tuple(fitting),
        frozenset(refuted) - {mutation.fault for mutation in fitting},
    )


def _table(model: Model) -> dict[tuple[str, str], Mutation]:
    """What a single sequence can have below the output layer, by fault and place."""
    data, one = model.data, slice(0, 1)
    alone = Data(
        data.x[:, one],
        data.targets[:, one],
        data.lengths[one],
        data.h[:, :, one],
        data.c[:, :, one],
    )
    single = Model(model.cell, model.placement, model.blocks, alone, model.loss)
    found = (m for m in mutations(single) if m.everywhere and not m.in_head)
    return {(mutation.fault, mutation.where): mutation for mutation in found}
