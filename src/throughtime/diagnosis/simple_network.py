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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations, permutations, product

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.network_readings import (
    KINDS,
    Drawn,
    GradientMap,
    Kind,
    NetworkReading,
    Rows,
    model_of,
)
from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.tolerances import (
    DIFFERS_BEYOND,
    DRAWN_BIASES,
    DRAWN_RECURRENT,
    MOST_CHOICES,
    MOST_UNKNOWN_STEPS,
    OUTPUT_WEIGHTS,
    SECOND_HAND,
    SUM_REFINED,
    SUMS_TRIED,
)
from throughtime.diagnosis.wiring import Place, Wires, recurrent, wirings

GOLDEN = 0.618  # the golden section


@dataclass(frozen=True)
class LengthObservation:
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
        still: the same without recurrent weights, where that was looked at.
    """

    study: Study
    reading: NetworkReading
    drawn: Drawn
    observations: dict[int, Observed | None] = field(default_factory=dict)
    still: SimpleNetwork | None = None

    def at(self, steps: int) -> LengthObservation | None:
        """The network at a length; None where the target cannot be read in this way there."""
        observed = self.look(steps)
        if observed is None:
            return None
        rows = self.reading.own(_rows(self.reading.wires, observed))
        if rows.vague:
            return None
        for reading in self._signed(steps):
            self.reading = reading
            found = self._deltas(rows, steps)
            if found is not None:
                return self._seen(observed, found, rows)
        return None

    def has_any_loss(self, steps: int) -> bool:
        """Whether nothing is assumed of the loss at a length, and it could be observed there."""
        observed = self.look(steps) if 1 < steps <= MOST_UNKNOWN_STEPS else None
        wires = self.reading.wires
        if observed is None or wires.of_inputs or wires.head is None:
            return False
        return not self.reading.own(_rows(wires, observed)).vague

    def _signed(self, steps: int) -> list[NetworkReading]:
        """The reading with the sum of the last step's inputs, of either sign.

        A tanh network without biases shows the sign only where one step sees the one before.
        """
        known = self.reading.sums
        if not self.reading.wires.of_inputs or steps == 1:
            return [self.reading]
        if steps > len(known):  # one-hot inputs stay one-hot
            known = (*known, *[1.0] * (steps - len(known))) if set(known) == {1.0} else ()
            return [replace(self.reading, sums=known)] if known else []
        turned = (*known[: steps - 1], -known[steps - 1], *known[steps:])
        return [self.reading, replace(self.reading, sums=turned)]

    def look(self, steps: int) -> Observed | None:
        """The observation at a length."""
        if steps not in self.observations:
            self.observations[steps] = _look(self.study, self.reading, self.drawn, steps)
        return self.observations[steps]

    def _deltas(self, rows: Rows, steps: int) -> Array | None:
        """δ of the outputs, (T, outputs): at the last step alone, if that explains all."""
        fit = GradientMap(self.reading, self.drawn, steps)
        last = fit.deltas(rows, [steps - 1])
        if last is not None:
            return last
        found = fit.deltas(rows, range(steps)) if steps <= MOST_UNKNOWN_STEPS else None
        if found is None and self.reading.wires.head is None:
            return self._linear(rows, steps)
        if found is None and steps > MOST_UNKNOWN_STEPS:
            return self._one_after_another(rows, steps)
        return found

    def _one_after_another(self, rows: Rows, steps: int) -> Array | None:
        """The same, step by step, where a longer run has the same terms and some more."""
        for mean in (False, True):
            found = self._collected(steps, mean=mean)
            if found is not None:
                return found
        return None

    def _collected(self, steps: int, *, mean: bool) -> Array | None:
        """δ of each step's outputs, from what a run that ends with it has in addition."""
        found = np.zeros((steps, len(self.outputs)))
        before: Array | float = 0.0
        unsure: Array | float = 0.0
        for s in range(1, steps + 1):
            observed = self.look(s)
            if observed is None:
                return None
            now = self.reading.own(_rows(self.reading.wires, observed))
            scale = s if mean else 1
            own = Rows(scale * now.numerical - before, scale * now.bars + unsure)
            alone = self.reading.wires.head is None
            delta = GradientMap(self.reading, self.drawn, s, second_look=alone).deltas(own, [s - 1])
            if delta is None:
                return None
            found[s - 1], before, unsure = delta[-1], scale * now.numerical, scale * now.bars
        return found / (steps if mean else 1)

    def _linear(self, rows: Rows, steps: int) -> Array | None:
        """The same without an output layer, where the loss is linear in the states.

        Then δ is the same without recurrent weights, and predicts what is seen with them.
        """
        reading = replace(self.reading, recurrent=())
        if self.still is None:
            self.still = SimpleNetwork(self.study, reading, self.drawn.still)
        self.still.reading = replace(reading, sums=self.reading.sums)
        for last, mean in ((True, False), (False, False), (False, True)):
            if last:
                observed = self.still.look(steps)
                own = None if observed is None else reading.own(_rows(reading.wires, observed))
                fit = GradientMap(self.still.reading, self.drawn.still, steps, second_look=True)
                found = None if own is None else fit.deltas(own, [steps - 1])
            else:
                found = self.still._collected(steps, mean=mean)
            if found is not None and GradientMap(self.reading, self.drawn, steps).predicts(
                rows, found
            ):
                return found
        return None

    def without_recurrent(self) -> Observed | None:
        """Vectors at T = 2 where recurrent weights are 0, and all others as given."""
        values = {name: np.array(array) for name, array in self.study.values.items()}
        for name, places in self.reading.stretches:
            values[name].reshape(-1)[places] = 0.0
        wanted: dict[str, list[Array]] = {}
        for name, places in self.reading.wires.seen:
            wanted.setdefault(name, []).append(places.reshape(-1))
        places_of = {name: np.sort(np.concatenate(own)) for name, own in wanted.items()}
        return self.study.look(2, values, places_of)

    @property
    def outputs(self) -> Array:
        """The outputs that are looked at."""
        return np.arange(self.drawn.head.shape[0])

    def _seen(self, observed: Observed, deltas: Array, rows: Rows) -> LengthObservation:
        last = len(deltas) > 1 and not deltas[:-1].any()
        model = model_of(self.reading, self.drawn, deltas, last=last)
        gradient = {name: np.zeros(shape) for name, shape in model.placement.shapes.items()}
        for name, (tensor, places) in self.reading.places().items():
            found = observed.gradient[tensor].reshape(-1)[places].astype(np.float64)
            several = self.reading.wires.of_inputs and name.startswith("b")
            gradient[name] = found.sum(axis=1, keepdims=True) if several else found
        precision = float(rows.bars.max()) / float(np.abs(rows.numerical).max())
        if self.reading.wires.of_inputs or self.reading.wires.head is None:
            precision = max(precision, SECOND_HAND)
        return LengthObservation(model, gradient, precision)


def read(study: Study) -> Iterator[SimpleNetwork]:
    """The target as a network that is known: its uppermost layer, in each of its directions."""
    read_already: set[tuple[object, ...]] = set()
    for wires in wirings(study):
        place = () if wires.head is None else (wires.head[0], *wires.head[1].reshape(-1))
        if place in read_already:
            continue
        found = _read(study, wires)
        if found is not None:
            read_already.add(place)
            yield found


def _read(study: Study, wires: Wires) -> SimpleNetwork | None:
    drawn = _drawn(study, wires)
    blank = NetworkReading(wires, KINDS[0], ())
    seen = {steps: _look(study, blank, drawn.still, steps) for steps in (1, 2)}
    rows = {steps: _rows(wires, one) for steps, one in seen.items() if one is not None}
    if len(rows) < 2 or any(one.vague for one in rows.values()):
        return None
    fitting = [
        one
        for one in _readings(wires, drawn.still, rows, _InputSums(study, wires, drawn.still))
        if wires.head is None
        or GradientMap(one, drawn.still, 2).deltas(one.own(rows[2]), range(2)) is not None
    ]
    still: SimpleNetwork | None = None
    for matrices in recurrent(study, wires) if fitting else ():
        looked: dict[tuple[object, ...], Observed | None] = {}
        for reading in fitting:
            for places in _orders(reading, matrices.blocks):
                there = replace(
                    reading,
                    recurrent=places,
                    stretches=matrices.stretches,
                    inputs=matrices.inputs,
                )
                key = tuple((name, *array.reshape(-1)) for name, array in places)
                if key not in looked:
                    looked[key] = _look(study, there, drawn, 2)
                found = SimpleNetwork(study, there, drawn, {2: looked[key]}, still)
                if found.at(2) is not None:
                    return found
                still = found.still
    return None


def _readings(
    wires: Wires,
    drawn: Drawn,
    rows: Mapping[int, Rows],
    sums_of_inputs: Callable[[Kind], tuple[float, ...] | None],
) -> Iterator[NetworkReading]:
    """Which vector may be which: those to which the loss reacts are the same in both networks."""
    moving = {steps: _moving(wires, one) for steps, one in rows.items()}
    for kind in KINDS:
        if len(kind.letters) > len(wires.seen):
            continue
        sums: tuple[float, ...] = ()
        if wires.of_inputs:
            if kind.letters != kind.cell.gates:
                continue
            known = sums_of_inputs(kind)
            if known is None:
                continue
            sums = known
        wanted = _moving_letters(wires, kind, drawn, sums)
        if sum(moving[2]) != sum(wanted[2]):
            continue
        groups: dict[tuple[bool, bool], list[int]] = {}
        for own in range(len(wires.seen)):
            groups.setdefault((moving[1][own], moving[2][own]), []).append(own)
        letters: dict[tuple[bool, bool], list[int]] = {}
        for number in range(len(kind.letters)):
            letters.setdefault((wanted[1][number], wanted[2][number]), []).append(number)
        if any(len(own) > len(groups.get(key, [])) for key, own in letters.items()):
            continue
        ways = [permutations(groups[key], len(own)) for key, own in letters.items()]
        numbers = [number for own in letters.values() for number in own]
        for chosen in product(*ways):
            order = dict(zip(numbers, chain(*chosen), strict=True))
            yield NetworkReading(
                wires, kind, tuple(order[k] for k in range(len(numbers))), sums=sums
            )


def _moving(wires: Wires, rows: Rows) -> list[bool]:
    """To which of the target's vectors the loss reacts."""
    units = len(wires.chosen)
    parts = np.split(np.arange(len(wires.seen) * units), len(wires.seen))
    return [bool((np.abs(rows.numerical[k]) > DIFFERS_BEYOND * rows.bars[k]).any()) for k in parts]


def _moving_letters(
    wires: Wires, kind: Kind, drawn: Drawn, sums: tuple[float, ...]
) -> dict[int, list[bool]]:
    """To which of a cell's vectors the loss reacts, where recurrent weights are 0."""
    reading = NetworkReading(wires, kind, tuple(range(len(kind.letters))), sums=sums)
    found = {}
    for steps in (1, 2):
        deltas = np.ones((steps, len(drawn.head)))
        gradient = model_of(reading, drawn, deltas, last=False).gradient()
        found[steps] = [bool(gradient[f"b_{letter}"].any()) for letter in kind.letters]
    return found


class _InputSums:
    """Sums of the inputs of every step, for input weights that are alike in each row and gate.

    They are found one step after the other, as the numbers with which the network is the target.
    That takes a single sequence, or the same sum in all of them.
    """

    def __init__(self, study: Study, wires: Wires, drawn: Drawn) -> None:
        self.study, self.wires = study, wires
        self.drawn = replace(drawn, biases=np.broadcast_to(drawn.biases[:1], drawn.biases.shape))
        self.seen: dict[int, Observed | None] = {}

    def __call__(self, kind: Kind) -> tuple[float, ...] | None:
        """The sums at T = 1, 2 and 3, as far as they can be found; None where not even two can."""
        found: tuple[float, ...] = ()
        for steps in (1, 2, 3):
            value = self._next(kind, found, steps)
            if value is None:
                break
            found = (*found, value)
        return found if len(found) > 1 else None

    def _next(self, kind: Kind, before: tuple[float, ...], steps: int) -> float | None:
        if steps not in self.seen:
            blank = NetworkReading(self.wires, KINDS[0], ())
            self.seen[steps] = _look(self.study, blank, self.drawn, steps)
        observed = self.seen[steps]
        if observed is None:
            return None
        own = NetworkReading(self.wires, kind, tuple(range(len(kind.letters))))
        rows = own.own(_rows(self.wires, observed))
        if rows.vague:
            return None

        def off(value: float) -> float:
            reading = replace(own, sums=(*before, value))
            return GradientMap(reading, self.drawn, steps).off(rows, range(steps))

        if off(1.0) <= 1.0:  # one-hot
            return 1.0
        best = min(SUMS_TRIED, key=off)
        width = SUMS_TRIED[1] - SUMS_TRIED[0]
        for _ in range(SUM_REFINED):  # golden section
            ends = (best - GOLDEN * width, best, best + GOLDEN * width)
            best, width = min(ends, key=off), GOLDEN * width
        return best if off(best) <= 1.0 else None


def _orders(reading: NetworkReading, matrices: Sequence[Place]) -> Iterator[tuple[Place, ...]]:
    """The recurrent matrices in the cell's order: sorted as the biases are, or in any order."""
    cell = reading.kind.cell
    gates = len(cell.gates)
    own = [reading.order[reading.kind.letters.index(gate)] for gate in cell.gates]
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
    # Those of several layers; or input weights that do not matter at T = 1 either, like a forget
    # gate's. One gate's tensors mostly follow another's in the same order.
    names = reading.wires.matrices
    chosen = sorted(combinations(matrices, gates), key=lambda some: _uneven(some, names))
    for some in chosen[:MOST_CHOICES]:
        yield tuple(some[k] for k in ranks)


def _uneven(matrices: Sequence[Place], names: Sequence[str]) -> tuple[int, int]:
    """How unevenly tensors follow one another, and how far they are from the last one."""
    places = np.array([names.index(name) for name, _ in matrices])
    return int(np.ptp(np.diff(places))), len(names) - int(places[-1])


# --- values, and what is seen there ---


def _drawn(study: Study, wires: Wires) -> Drawn:
    rng = np.random.default_rng([study.seed, 31])
    units = len(wires.chosen)
    outputs = units if wires.head is None else len(wires.head[1])
    signs = rng.choice((-1.0, 1.0), (len(wires.seen), units))
    biases = signs * rng.uniform(*DRAWN_BIASES, signs.shape)
    recurrent = DRAWN_RECURRENT * rng.standard_normal((4, units, units))
    head = OUTPUT_WEIGHTS * rng.standard_normal((outputs, units))
    bias = np.asarray(OUTPUT_WEIGHTS * rng.standard_normal(outputs))
    return Drawn(biases, recurrent, head, bias)


def _look(study: Study, reading: NetworkReading, drawn: Drawn, steps: int) -> Observed | None:
    """Vectors and output layer at a length, with nothing but the drawn values other than 0."""
    wires = reading.wires
    values = {name: np.zeros(array.shape) for name, array in study.values.items()}
    wanted: dict[str, list[Array]] = {}

    def put(place: Place, value: Array) -> None:
        name, places = place
        same = places.ndim > value.ndim  # several entries with one value
        values[name].reshape(-1)[places] = value[:, None] if same else value

    own = reading.order or range(len(wires.seen))  # lower layers are idle, once that is known
    for number, (every, few) in enumerate(zip(wires.whole, wires.seen, strict=True)):
        value = drawn.biases[number]
        units = np.full(wires.units, value[0])
        units[wires.chosen] = value
        put(every, units)
        if number in own:
            wanted.setdefault(few[0], []).append(few[1].reshape(-1))
    for place, value in zip(reading.recurrent, drawn.recurrent, strict=False):
        put(place, value)
    if wires.head is not None:
        put(wires.head, drawn.head)
        wanted.setdefault(wires.head[0], []).append(wires.head[1].reshape(-1))
    if wires.head_bias is not None:
        put(wires.head_bias, drawn.head_bias)
        wanted.setdefault(wires.head_bias[0], []).append(wires.head_bias[1])
    places = {name: np.sort(np.concatenate(several)) for name, several in wanted.items()}
    return study.look(steps, values, places)


def _rows(wires: Wires, observed: Observed) -> Rows:
    parts = [*wires.seen, *(one for one in (wires.head, wires.head_bias) if one is not None)]
    numerical, bars = [], []
    for number, (name, places) in enumerate(parts):
        own = observed.sampled.get(name)
        n, error = np.zeros(places.shape), np.zeros(places.shape)  # where it was not looked at
        if own is not None and np.isin(places, own.places).all():
            here = np.searchsorted(own.places, places)
            n, error = own.numerical[here], own.errors[here]
        several = places.ndim == 2 and number < len(wires.seen)
        numerical.append((n.sum(axis=1) if several else n).reshape(-1))
        bars.append((np.linalg.norm(error, axis=1) if several else error).reshape(-1))
    return Rows(np.concatenate(numerical), np.concatenate(bars))
