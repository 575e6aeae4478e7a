"""Faults that predicted the gradient: each is put into a network that is known, and compared.

A `SimpleNetwork` is the target at points where we know all of it. There every fault, and every pair
of faults, predicts numbers for each bias, each recurrent matrix and the output layer, at every
length. A name is given only where these are the numbers of the gradient under test at each length
that is looked at; faults that predict the same are named together. Where no fault does, a wrong
quantity is looked for instead: whether one δ, with values of its own, explains everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.mutants import Match, explain, passes
from throughtime.diagnosis.mutants.cells import LSTM
from throughtime.diagnosis.mutants.interventions import Intervention, Mutation
from throughtime.diagnosis.mutants.matches import as_found
from throughtime.diagnosis.mutants.model import Blocks, Model
from throughtime.diagnosis.mutants.mutations import mutations
from throughtime.diagnosis.mutants.postprocessing import FoundFault
from throughtime.diagnosis.mutants.tested import seen_of
from throughtime.diagnosis.simple_network import LengthObservation, SimpleNetwork, read
from throughtime.diagnosis.tolerances import (
    FINEST_PREDICTION,
    LONGEST_READ,
    MOST_SAID,
    NEWTON_STEPS,
    PASSES_OF_PAIRS,
    PREDICTED_WITHIN,
    SAME_FACTOR,
    TELLING_APART,
)


@dataclass(frozen=True)
class Prediction:
    """What a known network says of the gradient under test.

    Attributes:
        found: the faults whose prediction holds, the best first; empty where none does.
        others: faults that predict the same.
        gate: the gate whose δ is wrong, if no fault was found and it is that of one gate.
        said: sentences.
        wrong: whether the gradient is wrong at these points at all.
    """

    found: tuple[FoundFault, ...] = ()
    others: tuple[str, ...] = ()
    gate: str = ""
    said: tuple[str, ...] = ()
    wrong: bool = True


def predicted(study: Study, longest: int) -> Prediction | None:
    """What holds at lengths from which on the gradient is wrong.

    Args:
        study: experiments on the target.
        longest: the length up to which the gradient agrees.

    Returns:
        None where the target could not be read as a network that is known.
    """
    best: Prediction | None = None
    for network in read(study):
        told = _of_network(study, network, longest)
        if told is not None and told.found:
            return told
        if told is not None and (best is None or (told.wrong and not best.wrong)):
            best = told
    return best


def _of_network(study: Study, network: SimpleNetwork, longest: int) -> Prediction | None:
    if longest >= LONGEST_READ:
        return None
    seen: dict[int, LengthObservation] = {}
    for steps in (longest + 1, longest + 2):
        here = network.at(steps)
        if here is not None:
            seen[steps] = here
    if not seen:
        return _another_forward_pass(network, longest)
    wrong = {steps: one for steps, one in seen.items() if not _right(one)}
    if not wrong:
        return Prediction(wrong=False)
    cell = type(network.reading.kind.cell).__name__
    lengths = " and ".join(f"T = {steps}" for steps in wrong)
    lead = (
        f"Without inputs, with biases, recurrent weights and an output layer drawn at random, the "
        f"loss is that of {ARTICLE[cell]} {cell}, so that each fault predicts numbers"
    )

    def named(found: Sequence[FoundFault], others: Sequence[str] = ()) -> Prediction:
        words = " and ".join(f"{f.fault} ({f.where})" if f.where else f.fault for f in found)
        said = f"{lead}: at {lengths} the gradient is what {words} predicts."
        names = {one.fault for one in found}
        beside = dict.fromkeys(name for name in others if name not in names)
        return Prediction(tuple(found), tuple(beside), said=(said,))

    if singles := _by_other_weights(network, _singly(network, wrong, longest)):
        best, others = singles[0], [one.fault for one in singles]
        if best.facts.get("k") == "1":  # then nothing at all is handed back
            return named([FoundFault("dh_next_missing"), FoundFault("dc_next_missing")], others)
        return named([best], others)
    if (k := _reach(wrong, longest)) is not None:
        words = f"k = {k}, from the loss of each step"
        return named([FoundFault("truncated", words, {"where": words, "k": str(k)})])
    if pairs := _in_pairs(study, network, wrong, longest):
        return named(pairs[0].found, [name for match in pairs for name in match.faults])
    sentences = [f"{lead}; at {lengths} none of them holds."]
    quantity = _where(wrong)
    if quantity is not None:
        words = quantity.words
        sentences.append(
            f"It is that of a backward pass in which {words} has other values and nothing else is "
            "changed."
        )
    gate = quantity.gate if quantity is not None else ""
    return Prediction(gate=gate, said=(*sentences, *_counted(wrong)))


def _another_forward_pass(network: SimpleNetwork, longest: int) -> Prediction | None:
    """What can be said where the loss is that of a known cell up to the length that agrees only."""
    if not network.has_any_loss(longest + 1) or network.at(longest) is None:
        return None
    cell = type(network.reading.kind.cell).__name__
    said = (
        f"Without inputs the loss is that of {ARTICLE[cell]} {cell} up to T = {longest}, and not "
        f"at T = {longest + 1}, where the gradient is wrong: the forward pass itself does "
        "something else there, as it does with a buffer that is added to and never cleared."
    )
    return Prediction(said=(said,))


ARTICLE = {"RNN": "an", "LSTM": "an", "GRU": "a"}


def _tolerance(seen: LengthObservation) -> float:
    return max(FINEST_PREDICTION, PREDICTED_WITHIN * seen.precision)


def _right(seen: LengthObservation) -> bool:
    return _equal(seen, seen.model.data_gradient())


def _equal(seen: LengthObservation, blocks: Blocks) -> bool:
    tested = seen_of(seen.model, seen.gradient, _tolerance(seen))
    return all(tested.equal(block, g, blocks[block]) for block, g in tested.blocks.items())


Way = tuple[Mutation, ...]


def _singly(
    network: SimpleNetwork, wrong: Mapping[int, LengthObservation], longest: int
) -> list[FoundFault]:
    """The faults that predict the gradient at every length, each in its first way that does."""
    held: dict[str, set[str]] | None = None
    for seen in wrong.values():
        here: dict[str, set[str]] = {}
        for one in mutations(seen.model):
            if (held is None or one.fault in held) and _holds(seen, (one,)):
                here.setdefault(one.fault, set()).add(one.where)
        # The words may hold a number of steps; where they are the same, they are the same way.
        held = here if held is None else {f: held[f] & w or w for f, w in here.items()}
    found: dict[str, FoundFault] = {}
    first = wrong[max(wrong)].model
    for one in mutations(first):
        if one.fault in found or one.where not in (held or {}).get(one.fault, ()):
            continue
        if _right_up_to(network, longest, [(one.fault, one.where)]):
            found[one.fault] = as_found(first, one)
    return list(found.values())


def _holds(seen: LengthObservation, way: Way) -> bool:
    return _equal(seen, seen.model.data_gradient(way))


def _in_pairs(
    study: Study, network: SimpleNetwork, wrong: Mapping[int, LengthObservation], longest: int
) -> list[Match]:
    """The sets of faults that predict the gradient at every length where it is wrong."""
    ranked: list[Match] = []
    for number, (_, one) in enumerate(sorted(wrong.items(), reverse=True)):
        most = len(mutations(one.model)) + PASSES_OF_PAIRS
        budget = study.budget.part(min(passes(one.model), most), share=0.25)
        found = explain(one.model, one.gradient, error=_tolerance(one), budget=budget)
        whole = [match for match in found if not match.unexplained]
        names = [frozenset(match.faults) for match in whole]
        ranked = [m for m in ranked if frozenset(m.faults) in names] if number else whole
        if not ranked:
            break
    return [
        match
        for match in ranked
        if _right_up_to(network, longest, [(one.fault, one.where) for one in match.found])
    ]


def _right_up_to(network: SimpleNetwork, longest: int, named: Sequence[tuple[str, str]]) -> bool:
    """Whether a set of faults predicts that the gradient is right where it is."""
    for steps in (1, longest):
        here = network.at(steps)
        if here is None or not _right(here):
            continue  # nothing to hold it against
        every = mutations(here.model, [fault for fault, _ in named])
        own = [[m for m in every if (m.fault, m.where) == one] for one in named]
        ways = product(*(some for some in own if some))  # a fault may need more steps
        if not any(_holds(here, way) for way in ways):
            return False
    return True


def _by_other_weights(network: SimpleNetwork, held: list[FoundFault]) -> list[FoundFault]:
    """Without those that other weights refute: at the points above, all but the known ones are 0.

    Where recurrent weights are 0, and all others as given, a wrong matrix in their place shows.
    """
    if len(held) < 2 or all(one.fault != OTHER_WEIGHTS for one in held):
        return held
    cut = network.without_recurrent()
    if cut is None:
        return held
    shown = bool(cut.wrong())
    return [one for one in held if (one.fault == OTHER_WEIGHTS) == shown] or held


OTHER_WEIGHTS = "wrong_matrix"


# --- where no fault fits ---


@dataclass(frozen=True)
class SuspectedQuantity:
    """What may be wrong in one place of the backward pass, with values of its own.

    Attributes:
        words: what it is.
        place: the place of the interventions.
        shape: of the values that are added to it, steps first.
        add: from these values to the intervention.
        gate: the gate that it belongs to, if it does.
    """

    words: str
    place: str
    shape: tuple[int, ...]
    add: Callable[[Array], Intervention]
    gate: str = ""


def _quantities(model: Model) -> Iterator[SuspectedQuantity]:
    T, units, gates = model.steps, model.data.h.shape[-1], model.cell.gates
    yield SuspectedQuantity(BACK.format("h"), "carried", (T - 1, units), _carried(0))
    if isinstance(model.cell, LSTM):
        yield SuspectedQuantity(BACK.format("c"), "carried", (T - 1, units), _carried(1))
    for k, gate in enumerate(gates) if len(gates) > 1 else ():
        yield SuspectedQuantity(f"δ of gate {gate}", "slopes", (T, units), _slope(k), gate)


BACK = "δ{} as a step hands it to the one before"


def _carried(which: int) -> Callable[[Array], Intervention]:
    def add(more: Array) -> Intervention:
        def edit(carried: tuple[Array, Array], t: int, T: int) -> tuple[Array, Array]:
            parts = list(carried)
            if t < T - 1:
                parts[which] = parts[which] + more[t]
            return parts[0], parts[1]

        return edit

    return add


def _slope(gate: int) -> Callable[[Array], Intervention]:
    def add(more: Array) -> Intervention:
        def edit(slopes: Array, **_: Any) -> Array:
            wrong = slopes.copy()
            wrong[:, 0, gate] += more
            return wrong

        return edit

    return add


def _where(wrong: Mapping[int, LengthObservation]) -> SuspectedQuantity | None:
    """The one quantity whose values alone would explain the gradient at every length."""
    found: dict[str, SuspectedQuantity] | None = None
    for _, seen in sorted(wrong.items()):
        here = {one.words: one for one in _quantities(seen.model) if _explains(seen, one)}
        found = here if found is None else {word: q for word, q in found.items() if word in here}
    return next(iter(found.values())) if found and len(found) == 1 else None


def _explains(seen: LengthObservation, quantity: SuspectedQuantity) -> bool:
    """Whether some values of a quantity give the whole gradient, by Newton's method.

    The gradient is linear in each of the values.
    """
    values = np.zeros(int(np.prod(quantity.shape)))
    wanted = _flat(seen.model.placement.blocks(seen.gradient))

    def at(moved: Array) -> Blocks:
        edit = quantity.add(moved.reshape(quantity.shape))
        own = Mutation("", "", ((quantity.place, edit),))
        return seen.model.data_gradient((own,))

    for _ in range(NEWTON_STEPS):
        here = at(values)
        if _equal(seen, here):
            return True
        flat = _flat(here)
        slopes = [_flat(at(values + unit)) - flat for unit in np.eye(values.size)]
        step, *_ = np.linalg.lstsq(np.array(slopes).T, wanted - flat, rcond=None)
        values = values + step
        if not np.isfinite(values).all():
            return False
    return _equal(seen, at(values))


def _flat(blocks: Blocks) -> Array:
    return np.concatenate([blocks[block].reshape(-1) for block in sorted(blocks)])


def _reach(wrong: Mapping[int, LengthObservation], longest: int) -> int | None:
    """How many steps the loss of every single step is carried back, if that is what is wrong."""
    for k in range(1, longest + 1):
        if all(_equal(seen, _carried_back(seen.model, k)) for seen in wrong.values()):
            return k
    return None


def _carried_back(model: Model, k: int) -> Blocks:
    """The gradient where the loss of each step goes back over k steps, its own among them."""
    total: Blocks = {}
    for s in range(model.steps):

        def cut(carried: tuple[Array, Array], t: int, T: int, s: int = s) -> tuple[Array, Array]:
            return (0 * carried[0], 0 * carried[1]) if t <= s - k else carried

        own = Mutation("", "", (("carried", cut),))
        for block, part in _of_step(model, s).data_gradient((own,)).items():
            total[block] = total[block] + part if block in total else part
    return total


def _of_step(model: Model, s: int) -> Model:
    """The same network with the loss of step s alone."""
    data = replace(model.data, targets=model.data.targets * _only(s, model.steps)[:, :, None])
    loss = replace(model.loss, last=False)
    return replace(model, data=data, loss=loss, _deltas={}, _forward=None)


def shares(seen: LengthObservation) -> Array | None:
    """How often the loss of step s counts by way of step t, (T, T); None where that is no answer.

    Biases and recurrent weights are sums over s and over t ≤ s. Each part is known, and should
    count once.
    """
    model, T = seen.model, seen.model.steps
    pairs = [(s, t) for s in range(T) for t in range(s + 1)]
    kinds = ("kept_b", "kept_U", "kept_c")
    columns: list[Array] = []
    for s, t in pairs:
        kept = Mutation("", "", tuple((kind, lambda _, t=t: _only(t, T)) for kind in kinds))
        columns.append(_hidden(_of_step(model, s).data_gradient((kept,))))
    wanted = _hidden(model.placement.blocks(seen.gradient))
    table = np.array(columns).T
    here = np.abs(table).max(axis=0) > 0  # a loss at the last step alone has no other parts
    norms = np.linalg.norm(table[:, here], axis=0)
    if not here.any() or np.linalg.cond(table[:, here] / norms) > TELLING_APART:
        return None
    counts, *_ = np.linalg.lstsq(table[:, here], wanted, rcond=None)
    off = np.abs(table[:, here] @ counts - wanted).max()
    if off > _tolerance(seen) * np.abs(wanted).max():
        return None
    found = np.full((T, T), np.nan)
    found[tuple(np.array(pairs)[here].T)] = counts
    return found


def _only(step: int, T: int) -> Array:
    return np.asarray((np.arange(T) == step)[:, None], np.float64)


def _hidden(blocks: Blocks) -> Array:
    return np.concatenate(
        [b.reshape(-1) for block, b in sorted(blocks.items()) if block.layer >= 0]
    )


def _counted(wrong: Mapping[int, LengthObservation]) -> tuple[str, ...]:
    """A sentence on the parts that do not count once, at the shortest length that is wrong."""
    steps, seen = min(wrong.items())
    found = shares(seen)
    if found is None:
        return ()
    odd = [
        f"what the loss of step {s + 1} says by way of step {t + 1} counts "
        f"{np.round(found[s, t], 3) + 0.0:g} times"
        for s in range(steps)
        for t in range(s + 1)
        if abs(found[s, t] - 1) > SAME_FACTOR  # NaN is none
    ]
    whole = np.abs(found - np.round(found))[~np.isnan(found)].max() < SAME_FACTOR
    told = whole or seen.model.data.h.shape[-1] > steps  # fewer units fit any counts of step 1
    if not odd or len(odd) > MOST_SAID or not told:
        return ()
    return (f"At T = {steps}, {'; '.join(odd)}. Everything else counts once.",)
