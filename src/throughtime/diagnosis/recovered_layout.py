"""The layout of a target that has none: found, together with its data, by its losses alone.

Every layout that names and shapes allow is supposed in turn. With all weights below the output
layer at 0 a single step shows no inputs, and most layouts are refuted there by a few losses.
With those that are left the data are recovered step after step, and a layout is believed only if
its network then has the target's loss at further points drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice, product
from typing import Any

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.diagnosis.drawn_losses import DrawnLosses, TooExpensive
from throughtime.diagnosis.driven_points import CLOSED, EITHER_SIGN, Drive, one_sign
from throughtime.diagnosis.errors_of_targets import InTargets
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.model_from_target import described
from throughtime.diagnosis.mutants.arrangements import arrangements
from throughtime.diagnosis.mutants.data_readings import Readings
from throughtime.diagnosis.mutants.layout import VARIANTS, Layout
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.recovered_data import RecoveredNetwork, Recovery, Way
from throughtime.diagnosis.single_step_losses import RecurrentWeights, SingleStep
from throughtime.diagnosis.tolerances import (
    COARSE_EPSILON,
    DIRECTIONS_OF_W,
    LEAST_DRIVEN,
    MOST_BLIND_DESCENTS,
    MOST_DESCENTS,
    MOST_RECOVERIES,
    MOST_SEQUENCES,
    MOST_STRUCTURES,
    POINTS_THAT_MOVE,
    SAME_WEIGHT,
    SHARE_OF_RECOVERY,
    SPARE_POINTS,
    STRUCTURES_AT_ONCE,
    STRUCTURES_THAT_COUNT,
    USUAL_EPSILONS,
)

AT_ONCE = 2  # ways that are tried before anything else is asked
FURTHER_POINTS = (1001, 1002)  # numbers of points at which no data were looked for


def with_layout(study: Study) -> None:
    """Gives a study's target the layout that its losses alone tell, if one does."""
    steps = study.steps
    if not steps or (steps > 1 and study.target.at_length is None):
        return
    losses = DrawnLosses(study, SHARE_OF_RECOVERY * study.budget.left)
    with suppress(TooExpensive):
        unused = losses.survey(steps)
        found = LayoutSearch(losses, steps).run()
        if found is None and losses.decay:  # what looked like an L2 term was none
            losses.without_decay()
            found = LayoutSearch(losses, steps).run()
        if found is not None:
            found = replace(found, unused=unused, decay=losses.decay)
            if losses.decay and not _has_the_loss(found, study, losses.tolerance):
                return
            said = (
                f"Your network was recognised: {described(found)}. Its inputs and targets were "
                f"recovered from {losses.used:,} of your losses; at further points drawn at random "
                "its loss is yours."
            )
            study.target = replace(study.target, layout=replace(found, notes=(said,)))


def _has_the_loss(layout: Layout, study: Study, tolerance: float) -> bool:
    """Whether its network has the target's loss at the target's own parameters."""
    mine = layout.model({name: np.asarray(a) for name, a in study.values.items()}).value()
    yours = study.loss({})
    return bool(abs(mine - yours) <= tolerance * max(1.0, abs(yours)))


@dataclass(frozen=True)
class Supposed:
    """A layout and a loss that may be the target's.

    Attributes:
        layout: without data.
        loss: but for its reduction over steps.
        sequences: B, where initial states that are parameters tell it.
        shown: whether a single step without inputs agreed, and its outputs differ.
        weight: the sum of the weights of that step's terms, where that shows.
        states: whether its initial states are not 0.
    """

    layout: Layout
    loss: ModelLoss
    sequences: int | None = None
    shown: bool = False
    weight: float | None = None
    states: bool = False

    def allows(self, way: Way) -> bool:
        """Whether so many sequences have this weight; of one, sum and mean are the same."""
        if self.sequences not in (None, way.sequences) or (self.sequences and way.states):
            return False
        if self.states and not way.states:
            return False
        if way.sequences == 1 and self.loss.batch == "sum" and self.loss.kind != "weighted":
            return False
        expected = float(self.loss.weights(1, np.ones(way.sequences, int)).sum())
        return self.weight is None or abs(self.weight - expected) <= SAME_WEIGHT * expected

    def allows_some(self) -> bool:
        """Whether any number of sequences has this weight."""
        counts = range(1, MOST_SEQUENCES + 1)
        return any(self.allows(Way(B, "numbers", "numbers", self.states)) for B in counts)


class LayoutSearch:
    """Supposes one layout after the other.

    Args:
        losses: of the target.
        steps: T, its own length.
    """

    def __init__(self, losses: DrawnLosses, steps: int) -> None:
        self.losses, self.steps = losses, steps
        self.began = False  # whether data of a first step were found
        self.recoveries = 0  # how often data were looked for
        self.known: dict[
            tuple[Any, ...], list[tuple[ModelLoss, float | None, bool, Array | None]]
        ] = {}

    def run(self) -> Layout | None:
        """The first layout that is believed."""
        weights = RecurrentWeights(self.losses)
        possible = filter(weights.allows, structures(self.losses.shapes, weights.idle()))
        every = list(islice(possible, MOST_STRUCTURES))
        any_shown: list[Supposed] = []
        for start in range(0, len(every), STRUCTURES_AT_ONCE):
            part = every[start : start + STRUCTURES_AT_ONCE]
            shown = [one for one in self._possible("WU", part) if one.shown]
            any_shown += shown
            if shown and (found := self._among(shown, self._with_epsilon(shown), at_once=True)):
                return found
        if not any_shown:
            shown = list(self._possible("WU", every, unusual=True))
            if shown:
                return self._among(shown, at_once=True)
        if any("1" not in one.layout.combined for one in any_shown):
            return None
        for driven in self._driven(every):
            self.losses.sought = 0  # of inputs, all that one kind of drive allows share a limit
            if driven and (found := self._among(driven)):
                return found
        # With initial states that are not 0, only the head's bias shows.
        with_states = [replace(one, states=True) for one in self._possible("WUV", every)]
        shown = [one for one in with_states if one.shown]
        if shown:
            return self._among(shown)
        # An input that is 1 in every sequence looks like a bias within W, until a further step.
        supposed = [one for one in self._possible("WU", every) if not one.shown]
        single = SingleStep(self.losses)
        allowed = [one for one in supposed if single.allows(one.layout, one.loss)]
        return self._among(allowed or supposed or with_states)

    def _driven(self, every: list[Layout]) -> Iterator[list[Supposed]]:
        """What fits where a first step is driven to something known, whatever its data are.

        First gates that keep initial states are closed by their biases; then, where there are no
        biases, the candidate is at its bounds; then it is, with these gates closed by inputs.
        """
        single = SingleStep(self.losses)
        alone = [one for one in every if single.allows_layout(one)]
        directions = max(1, min(DIRECTIONS_OF_W, MOST_STRUCTURES // max(len(every), 1)))
        for drive, among in ((CLOSED, every), (EITHER_SIGN, alone)):
            self.losses.descents = 0
            for unusual in (False, True):
                shown = self._shown(among, drive, unusual)
                yield [replace(one, states=True) for one in shown] if drive is CLOSED else shown
        self.losses.descents = 0
        for unusual in (False, True):
            for drive in one_sign(directions):
                shown = self._shown(every, drive, unusual)
                yield [replace(one, states=True) for one in shown]

    def _shown(self, among: list[Layout], drive: Drive, unusual: bool) -> list[Supposed]:
        found = self._possible("", among, unusual=unusual, drive=drive)
        return [one for one in found if one.shown and one.allows_some()]

    def _with_epsilon(self, shown: list[Supposed]) -> Iterator[Supposed]:
        """The same with a small ε in the logarithm, which shows at some points alone."""
        logs = [one for one in shown if one.loss.kind in ("softmax", "binary")]
        layouts = {id(one.layout): one.layout for one in logs}.values()
        yield from self._possible("WU", layouts, unusual=True)

    def _among(
        self, supposed: list[Supposed], also: Iterable[Supposed] = (), *, at_once: bool = False
    ) -> Layout | None:
        """The first of these that is believed.

        Args:
            supposed: the likeliest first.
            also: further ones, tried where inputs may be classes, which takes little.
            at_once: whether one sequence of classes that starts at 0 is tried before initial
                states are looked at, since it takes few losses.
        """
        least = 1  # sequences: several that begin alike look like one, and more, like fewer
        ways = self._ways(self._likely(supposed)) if supposed else ()
        for number, way in enumerate(ways):
            if number == AT_ONCE and at_once:  # with U, initial states of every cell show
                still = [one for one in supposed if self._starts_at_zero(one)]
                supposed = still or [replace(one, states=True) for one in supposed]
            for one in supposed if way.sequences >= least else ():
                if found := self._tried(one, way):
                    return found
            if way.inputs == "classes" and not way.states and way.sequences >= least:
                also = list(also)
                for one in () if self.began else also:
                    if found := self._tried(one, way):
                        return found
            if self.began:  # data that fit the first step are no data of another kind
                least, self.began = max(least, way.sequences + 1), False
        return None

    def _tried(self, one: Supposed, way: Way) -> Layout | None:
        with suppress(ValueError):  # of a layout that does not fit after all
            return self._with_data(one, way) if one.allows(way) else None
        return None

    def _starts_at_zero(self, one: Supposed) -> bool:
        """Whether a step without inputs is what it is where no initial state is unknown."""
        try:
            network = RecoveredNetwork(one.layout, self.losses, "lowest W")
            points = network.sizes.outputs + 2 + SPARE_POINTS
            measured = self.losses.losses(1, points, network.zero)
            outputs = network.without_inputs(points, network.sequences or 1)
        except ValueError:
            return False
        return _weight(one.loss, outputs[None], measured[None], self.losses.tolerance)[0]

    def _possible(
        self,
        without: str,
        among: Iterable[Layout],
        *,
        unusual: bool = False,
        drive: Drive | None = None,
    ) -> Iterator[Supposed]:
        """Layouts and losses that a single step allows, with some kinds of blocks at 0, or driven.

        Unusual are an ε in a logarithm and a head that is no parameter.
        """
        for layout in among:
            try:
                found = list(self._allowed(layout, without, unusual, drive))
            except ValueError:
                continue
            yield from found

    def _allowed(
        self, layout: Layout, without: str, unusual: bool, drive: Drive | None
    ) -> Iterator[Supposed]:
        network = RecoveredNetwork(layout, self.losses, without, drive)
        key = (layout.cell, layout.squash, layout.first_units, network.shown, unusual)
        if key not in self.known:
            self.known[key] = list(self._read(network, unusual))
        for loss, weight, varied, head in self.known[key]:
            own = replace(layout, fixed_head=(head, None), head_transposed=False)
            used = layout if head is None else own
            yield Supposed(used, loss, network.sequences, varied, weight)

    def _read(
        self, network: RecoveredNetwork, unusual: bool
    ) -> Iterator[tuple[ModelLoss, float | None, bool, Array | None]]:
        """Losses, weights of their terms, whether anything shows, and a head beside parameters."""
        alone = network.sizes.outputs == 1
        kinds = [one for one in _alike_losses() if not (alone and one[0].kind == "softmax")]
        points, B = network.sizes.outputs + 2 + SPARE_POINTS, network.sequences or 1
        if network.drive is not None and not self._moves(network):
            return
        outputs, measured = self._first_step(network, points, B)
        varied = bool(np.ptp(outputs, axis=1).max() > 0)  # without biases nothing shows
        moved = np.ptp(measured, axis=1).max()
        if varied and moved <= self.losses.tolerance * np.abs(measured).max():
            return
        if not unusual:
            for loss, weight in self._fitting(kinds, outputs, measured):
                yield loss, weight if varied else None, varied, None
        elif varied and network.layout.V:
            with_epsilon = (
                [replace(loss, epsilon=epsilon) for loss in alike]
                for alike in kinds
                if alike[0].kind in ("softmax", "binary")
                for epsilon in (*USUAL_EPSILONS, COARSE_EPSILON)
            )
            for loss, weight in self._fitting(with_epsilon, outputs, measured):
                yield loss, weight, True, None
        elif varied and not network.layout.first_units:
            for loss, head in self._outside(network):
                yield loss, None, True, head

    def _moves(self, network: RecoveredNetwork) -> bool:
        """Whether the losses differ from point to point where the network is driven."""
        measured = self.losses.losses(1, POINTS_THAT_MOVE, network.zero)
        least = LEAST_DRIVEN * np.sqrt(self.losses.tolerance) * np.abs(measured).max()
        return bool(np.ptp(measured) > least)

    def _first_step(self, network: RecoveredNetwork, points: int, B: int) -> tuple[Array, Array]:
        """Outputs (S, K, B, O) and losses (S, K), of which the sums over S belong together."""
        if network.drive is not None:
            return network.driven(points, B)
        measured = self.losses.losses(1, points, network.zero)
        return network.without_inputs(points, B)[None], measured[None]

    def _outside(self, network: RecoveredNetwork) -> Iterator[tuple[ModelLoss, Array]]:
        """Squared errors of a linear head that is no parameter, with its matrix.

        They are hᵀAh − 2bᵀh + c, so that any V with VᵀV = A will do; an output with no weights
        has as its target what is left of c.
        """
        H = network.sizes.outputs
        upper = np.triu_indices(H)
        unknown = len(upper[0]) + H + 1
        points = unknown + max(unknown // 2, SPARE_POINTS)
        if not self.losses.affordable(points):
            return
        outputs, measured = self._first_step(network, points, 1)
        each = [
            np.column_stack([h[:, upper[0]] * h[:, upper[1]], h, np.ones(points)])
            for h in outputs[:, :, 0]
        ]
        rows = np.sum(each, axis=0)
        for root in (False, True):
            whole = (measured**2 if root else measured).sum(axis=0)
            found, *_ = np.linalg.lstsq(rows, whole, rcond=None)
            rest = np.abs(rows @ found - whole)
            if (rest > self.losses.tolerance * np.maximum(1.0, np.abs(whole))).any():
                continue
            A = np.zeros((H, H))
            A[upper] = found[: len(upper[0])]
            sizes, axes = np.linalg.eigh((A + A.T) / 2)
            kept = sizes > np.sqrt(self.losses.tolerance) * np.abs(sizes).max()
            V = np.sqrt(sizes[kept])[:, None] * axes[:, kept].T
            loss = ModelLoss("squared_error", batch="mean", outputs="sum", root=root)
            yield loss, np.concatenate([V, np.zeros((1, H))])

    def _fitting(
        self, losses: Iterable[Sequence[ModelLoss]], outputs: Array, measured: Array
    ) -> Iterator[tuple[ModelLoss, float | None]]:
        """The losses with which the outputs may have what was measured, and the terms' weight."""
        for first, *others in losses:
            fits, weight = _weight(first, outputs, measured, self.losses.tolerance)
            for loss in (first, *others) if fits else ():
                own = weight if loss is first else None
                yield loss, own or _weight(loss, outputs, measured, self.losses.tolerance)[1]

    def _ways(self, likely: int) -> Iterator[Way]:
        """The likelier and cheaper ones first; so many sequences are likely, 0: any number.

        Initial states of further sequences are not looked for, since that takes many descents.
        """
        yield Way(1, "classes", "classes")
        yield Way(1, "classes", "numbers")
        for states in (False, True):
            ways = [
                Way(sequences, inputs, "numbers", states)
                for inputs in ("classes", "numbers")
                for sequences in range(1, MOST_SEQUENCES + 1)
            ]
            ways.sort(key=lambda way: bool(likely) and way.sequences != likely)
            for way in ways:
                further = states and likely not in (0, way.sequences)
                if not further and way != Way(1, "classes", "numbers"):
                    yield way

    def _counts(self, layout: Layout) -> list[int]:
        """How many sequences there may be, by the rank of the gradient of W and b at T = 1."""
        rank, full = self._rank(layout)
        return [B for B in range(1, MOST_SEQUENCES + 1) if rank <= B or rank == full]

    def _likely(self, supposed: list[Supposed]) -> int:
        """How many there are if all inputs differ, by any of these; 0 where nothing tells."""
        found = set()
        for one in supposed[:STRUCTURES_THAT_COUNT]:
            with suppress(ValueError):
                rank, full = self._rank(one.layout)
                found.add(rank if rank < full else 0)
        return min(found - {0}, default=0)

    def _rank(self, layout: Layout) -> tuple[int, int]:
        """The rank of the gradient of W and b at T = 1, and the largest that it can have.

        That is Σ δz xᵀ over sequences. A backward pass that is wrong is wrong in δz, hardly ever
        in x. Of two sequences with the same x one alone counts; a full rank tells nothing.
        """
        found = self.losses.gradient_of_a_step()
        if found is None:
            return 0, 0
        blocks = layout.placement(self.losses.shapes).blocks(found)
        rows = [
            np.column_stack([array, blocks.get(block._replace(kind="b"), np.zeros(len(array)))])
            for block, array in blocks.items()
            if block.kind == "W" and block.layer == 0
        ]
        sizes = np.linalg.svd(np.concatenate(rows), compute_uv=False)
        rank = int((sizes > np.sqrt(self.losses.tolerance) * sizes[0]).sum())
        return rank, len(sizes) - (not (layout.b or "1" in layout.combined))

    def _with_data(self, one: Supposed, way: Way) -> Layout | None:
        cheap = way.sequences == 1 and way.inputs == "classes" and not way.states
        if not cheap and way.sequences not in self._counts(one.layout):
            return None
        if self.recoveries >= MOST_RECOVERIES:
            return None
        self.recoveries += 1
        network = RecoveredNetwork(one.layout, self.losses)
        if not self.losses.affordable(self.steps * way.points(network.sizes)):
            return None
        most = MOST_DESCENTS if one.shown and not way.states else MOST_BLIND_DESCENTS
        if way.inputs == "numbers" and self.losses.descents >= most:
            return None
        first = Recovery(network, one.loss, way)
        if not first.further():
            return None
        self.began = True
        for loss in self._over_steps(one, first):
            recovery = first.under(loss)
            while len(recovery.given) < self.steps and recovery.further():
                pass
            if len(recovery.given) == self.steps:
                found = self._believed(one.layout, recovery)
                if found is not None:
                    return found
        return None

    def _over_steps(self, one: Supposed, first: Recovery) -> Iterator[ModelLoss]:
        """The reductions over steps that two steps without inputs allow."""
        loss, layout = one.loss, one.layout
        if self.steps == 1:
            yield loss
            return
        every = [replace(loss, time=time) for time in ("mean", "sum")]
        every.append(replace(loss, last=True))
        if not one.shown:
            yield from every
            return
        network = RecoveredNetwork(layout, self.losses, without="WU")
        B, seen = first.way.sequences, []
        points = B * network.sizes.outputs + 2 + SPARE_POINTS
        measured = self.losses.losses(2, points, network.zero)
        for k in range(points):
            nothing = np.zeros((B, network.sizes.inputs))
            y, after = network.step(k, nothing, network.start(k, B, first.start))
            seen.append((y, network.step(k, nothing, after)[0]))
        known = np.array([loss.errors(y, first.given[0].y)[0].sum() for y, _ in seen])
        parts = InTargets.of(loss, np.stack([y for _, y in seen]))
        whole = measured**2 if loss.root else measured
        allowed = self.losses.tolerance * np.maximum(1.0, np.abs(whole))
        for variant in every:
            before, own = variant.weights(2, np.full(B, 2))[:, 0]
            _, rest = parts.solved((whole - before * known) / own)
            if (np.abs(rest) * own <= allowed).all():
                yield variant

    def _believed(self, layout: Layout, recovery: Recovery) -> Layout | None:
        """The layout with its data, if it has the losses of further points, at two lengths."""
        for steps in {self.steps, (self.steps + 1) // 2}:
            whole = with_data(layout, recovery, steps)
            for number in FURTHER_POINTS:
                mine = whole.model(self.losses.point(number)).value()
                yours = self.losses.loss(steps, number)
                if not abs(mine - yours) <= self.losses.tolerance * max(1.0, abs(yours)):
                    return None
        return with_data(layout, recovery, self.steps)


def with_data(layout: Layout, recovery: Recovery, steps: int) -> Layout:
    """A layout with the first steps of recovered data."""
    given = recovery.given[:steps]
    start: dict[str, Any] = {}
    if recovery.start is not None and recovery.way.states:
        start = {"h0": recovery.start.h, "c0": recovery.start.c}
    inputs, targets = np.array([one.x for one in given]), np.array([one.y for one in given])
    return replace(layout, inputs=inputs, targets=targets, loss=recovery.loss, **start)


class Anything(Readings):
    """Data of which nothing is known, and which any network may have."""

    def may_have(self, features: int) -> bool:
        """Whether inputs of one step may be so many numbers."""
        return True

    def may_give(self, outputs: int) -> bool:
        """Whether one step may have so many outputs."""
        return True

    def may_be_classes(self, classes: int) -> bool:
        """Whether the inputs may be one of so many classes."""
        return True


def structures(shapes: Mapping[str, Shape], idle: frozenset[str] = frozenset()) -> Iterator[Layout]:
    """Every layout that these names and shapes allow, without data and loss.

    First all of them with their likeliest order of the gates.

    Args:
        shapes: of the arrays.
        idle: names of those on which the loss of a single step does not depend.
    """
    found = list(arrangements(shapes, Anything(None, None, idle=idle)))
    for number in range(max((len(one.orders) for one in found), default=0)):
        for one in found:
            if number >= len(one.orders):
                continue
            order = one.orders[number]
            peepholes = {"peepholes": True} if "p" in one.items else {}
            options = {"U": "", "b": "", **one.names(order), "layers": len(one.layers)}
            options |= one.options
            for cell in VARIANTS[one.kind]:
                yield Layout(replace(cell, **peepholes), order, None, None, **options)


def _losses() -> Iterator[ModelLoss]:
    """Every kind of loss as it shows in a single step."""
    for batch in ("mean", "sum"):
        yield ModelLoss(batch=batch)
        for outputs, half in product(("sum", "mean"), (False, True)):
            yield ModelLoss("squared_error", batch=batch, outputs=outputs, half=half)
        for outputs in ("sum", "mean"):
            yield ModelLoss("binary", batch=batch, outputs=outputs)
        yield ModelLoss("squared_error", batch=batch, root=True)
        yield ModelLoss(batch=batch, outputs="mean")
    yield ModelLoss("weighted")
    for activation in ("sigmoid", "tanh", "softmax"):
        for batch in ("mean", "sum"):
            for outputs, half in product(("sum", "mean"), (False, True)):
                yield ModelLoss("squared_error", "", batch, outputs, half, activation=activation)
    for activation in ("sigmoid", "softmax"):  # of targets of 0 and 1
        for batch, outputs in product(("mean", "sum"), ("sum", "mean")):
            yield ModelLoss("absolute_error", "", batch, outputs, activation=activation)


@cache
def _alike_losses() -> list[list[ModelLoss]]:
    """The same, those together that differ by a factor alone: what fits one fits all of them."""
    found: dict[ModelLoss, list[ModelLoss]] = {}
    for loss in _losses():
        whole = replace(loss, batch="sum", outputs="sum", half=False)
        found.setdefault(whole, []).append(loss)
    return list(found.values())


def _weight(
    loss: ModelLoss, outputs: Array, measured: Array, tolerance: float
) -> tuple[bool, float | None]:
    """Whether outputs (S, K, B, O) may have such losses (S, K), and the sum of their weights.

    The sums over S are compared.
    """
    S, K = outputs.shape[:2]
    own = InTargets.of(loss, outputs)
    whole = (measured**2 if loss.root else measured).sum(axis=0)
    columns = np.column_stack([own.constant.sum(axis=(0, 2)), own.slope.sum(axis=0).reshape(K, -1)])
    if own.bend:
        columns = np.column_stack([columns, np.full(K, S * own.bend)])
    found, *_ = np.linalg.lstsq(columns, whole, rcond=None)
    rest = np.abs(columns @ found - whole)
    told = bool((rest <= tolerance * np.maximum(1.0, np.abs(whole))).all())
    if loss.kind == "softmax" and loss.epsilon:  # −Σ a log(p + ε): shares a, whose sum is 1
        return told, float(found[1:].sum())
    if loss.kind == "weighted":
        return told, None
    weight = float(found[0]) * outputs.shape[2]
    straight = np.ptp(columns[:, 0]) > 0 and weight <= tolerance  # a weighted sum's losses
    return told and not straight, weight
