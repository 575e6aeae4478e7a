"""A target's inputs and targets, recovered from its losses, step after step.

At points of the parameters that are drawn at random, the losses at length T tell what step T was
given, once the steps before it are known: the network that is supposed runs up to that step, and
the data of step T are what gives the losses that were measured. There are more losses than unknown
numbers, so that a wrong network has no data that fit.

Inputs or targets that are classes are found by trying each of them, others by least squares: the
error of a step is at most quadratic in its targets, so that these are eliminated, and the inputs
are found by damped Gauss–Newton steps (Levenberg and Marquardt).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement, product
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.drawn_losses import BlockSetting, DrawnLosses, Mask, Start
from throughtime.diagnosis.driven_points import Drive, driving_input, settings, zeroed
from throughtime.diagnosis.errors_of_targets import InTargets
from throughtime.diagnosis.mutants.cells import LSTM, RNN, Weights, forward
from throughtime.diagnosis.mutants.layout import Layout
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.mutants.model import EMBEDDING, HEAD, START, Block, Model
from throughtime.diagnosis.tolerances import (
    CLASS_CHOICES_AT_ONCE,
    DRAWN_PARAMETERS,
    GAUSS_NEWTON_STARTS,
    GAUSS_NEWTON_STEPS,
    MOST_BLIND_DESCENTS,
    MOST_CLASS_CHOICES,
    MOST_CLASS_PAIRS,
    NEAR_A_WHOLE_NUMBER,
    SPARE_POINTS,
)

Values = Mapping[str, Array]


class Given(NamedTuple):
    """What one step is given: inputs (B, I) and targets (B, O)."""

    x: Array
    y: Array


class LayoutSizes(NamedTuple):
    """Of a network: inputs I (classes, below an embedding), outputs O, and of its states."""

    inputs: int
    outputs: int
    layers: int
    h: int
    c: int


class RecoveredNetwork:
    """The network that a layout describes, at the drawn points, one step at a time.

    Args:
        layout: without data.
        losses: of the target that may be this network.
        without: the kinds of blocks that are 0; without "WU" it sees neither inputs nor, through
            U, states, and without "lowest W" no inputs.
        drive: instead of that, what a first step is driven to, whatever its data are.

    Attributes:
        sequences: B, where initial states that are parameters tell it.
        shown: where the blocks lie that are not 0, in words.

    Raises:
        ValueError: if the layout does not fit the target's shapes.
    """

    def __init__(
        self, layout: Layout, losses: DrawnLosses, without: str = "", drive: Drive | None = None
    ) -> None:
        self.losses, self.drive = losses, drive
        lowest, without = without.startswith("lowest"), without.removeprefix("lowest ")
        placement = layout.placement(losses.shapes)
        blocks = placement.blocks({name: np.zeros(s) for name, s in losses.shapes.items()})
        units, size = blocks[Block(0, "U", 0)].shape
        embedding = blocks.get(Block(EMBEDDING, "E", 0))
        inputs = blocks[Block(0, "W", 0)].shape[1] if embedding is None else len(embedding)
        head = blocks.get(Block(HEAD, "V", 0))
        if layout.fixed_head is not None:
            head = np.asarray(layout.fixed_head[0])
        outputs = layout.first_units or (size if head is None else len(head))
        self.sizes = LayoutSizes(inputs, outputs, layout.layers, size, units)
        given = [len(a) for b, a in blocks.items() if b.layer == START and a.ndim > 1]
        given += [1 for b, a in blocks.items() if b.layer == START and a.ndim == 1]
        self.sequences = given[0] if given else None
        places = placement.places
        gone = {b for b in places if b.kind in without and not (lowest and b.layer)}
        self.zero = Mask.of([places[b] for b in gone], losses.shapes) if without else None
        put: tuple[BlockSetting, ...] = ()
        if drive is not None:
            gone = {b for b in places if b.layer >= 0 and zeroed(drive, layout.cell, b)}
            widths = {b: blocks[b].shape[1] for b in places if b[:2] == (0, "W")}
            put = settings(drive, layout.cell, places, widths)
            self.zero = Mask.of([places[b] for b in gone], losses.shapes, put)
            self._row = next((one.along for one in put if one.along is not None), np.ones(inputs))
        left = {b: place for b, place in places.items() if b not in gone}
        driven = [(one.place, one.value, one.patterned) for one in put]
        self.shown = repr((drive, driven, sorted(left.items(), key=lambda pair: pair[0])))
        B = self.sequences or 1
        x, y = np.zeros((1, B, inputs)), np.zeros((1, B, outputs))
        self.layout = replace(layout, inputs=x, targets=y)
        self._placement = placement
        self._first: Model | None = None  # made where it is run
        self._models: dict[int, tuple[Model, list[Weights]]] = {}

    def _at(self, number: int) -> tuple[Model, list[Weights]]:
        """The network at a point, and the weights of its layers."""
        if number not in self._models:
            blocks = self._placement.blocks(self.losses.point(number, self.zero))
            self._first = self._first or self.layout.model(self.losses.point(0))
            model = self._first.with_blocks(blocks)
            self._models[number] = model, list(model.weights().values())
        return self._models[number]

    def step(self, number: int, x: Array, start: Start) -> tuple[Array, Start]:
        """Outputs (N, O) and the next states of N sequences at one point, from inputs (N, I)."""
        model, weights = self._at(number)
        blocks = {**model.constants, **model.blocks}
        if model.has_embedding:
            x = x @ blocks[Block(EMBEDDING, "E", 0)]
        states = []
        for w, h, c in zip(weights, *start, strict=True):
            tape = forward(model.cell, w, x[None], h, c)
            states.append((tape.h[-1], tape.c[-1]))
            x = tape.h[-1]
        x = model.middle(x)
        if Block(HEAD, "V", 0) in blocks:
            x = x @ blocks[Block(HEAD, "V", 0)].T + blocks.get(Block(HEAD, "d", 0), 0.0)
        return x, Start(*map(np.stack, zip(*states, strict=True)))

    def without_inputs(self, points: int, sequences: int) -> Array:
        """The outputs of a first step at the first points, (K, B, O)."""
        x = np.zeros((sequences, self.sizes.inputs))
        return np.stack([self.step(k, x, self.start(k, sequences))[0] for k in range(points)])

    def driven(self, points: int, sequences: int) -> tuple[Array, Array]:
        """What a first step gives without its data, where the network is driven to that.

        Returns:
            the outputs (S, K, B, O) and the target's losses (S, K), of which only the sums over the
            signs S of what drives belong together.
        """
        assert self.drive is not None
        masks = [self.zero]
        if len(self.drive.signs) > 1 and self.zero is not None:
            masks.append(self.zero.turned())
        measured = np.array([self.losses.losses(1, points, mask) for mask in masks])
        outputs = [
            [self._driven_step(k, sign, sequences) for k in range(points)]
            for sign in self.drive.signs
        ]
        return np.array(outputs), measured

    def _driven_step(self, k: int, sign: float, sequences: int) -> Array:
        blocks = self._at(k)[0].blocks
        x = np.zeros((sequences, self.sizes.inputs))
        if self.drive is not None and self.drive.inputs:
            embedding = blocks.get(Block(EMBEDDING, "E", 0))
            x = x + sign * driving_input(self._row, embedding)
        return self.step(k, x, self.start(k, sequences))[0]

    def start(self, number: int, sequences: int, given: Start | None = None) -> Start:
        """The initial states at a point: parameters, or given, or 0."""
        s, blocks = self.sizes, self._at(number)[0].blocks
        if given is None:
            zeros = (np.zeros((s.layers, sequences, size)) for size in (s.h, s.c))
            given = Start(*zeros)
        own = (blocks.get(Block(START, kind, 0)) for kind in "hk")
        found = zip(given, own, strict=True)
        return Start(*(old if mine is None else mine.reshape(old.shape) for old, mine in found))


@dataclass(frozen=True)
class Way:
    """How the data of a step are looked for.

    Attributes:
        sequences: B.
        inputs, targets: "classes" or "numbers".
        states: whether the initial states are unknown too.
    """

    sequences: int
    inputs: str
    targets: str
    states: bool = False

    def points(self, sizes: LayoutSizes) -> int:
        """How many losses a step takes, a few more than there are unknown numbers."""
        unknown = 0
        if self.inputs == "numbers":
            unknown += self.sequences * sizes.inputs
        if self.targets == "numbers":
            unknown += self.sequences * sizes.outputs + 1
        return unknown + SPARE_POINTS if self.inputs == "classes" else self._enough(unknown)

    def points_of_states(self, sizes: LayoutSizes) -> int:
        """How many it takes to find initial states without inputs."""
        each = sizes.outputs + sizes.layers * (sizes.h + sizes.c)
        return self._enough(self.sequences * each + 1)

    def _enough(self, unknown: int) -> int:
        # With fewer points, descents for several sequences end elsewhere.
        return int(np.ceil((1 + self.sequences / 3) * unknown)) + SPARE_POINTS


@dataclass
class Recovery:
    """The data of a network's first steps.

    Attributes:
        network: the network that is supposed.
        loss: its loss.
        way: how its data are looked for.
        given: the data of every step that is known.
        start: the initial states.
    """

    network: RecoveredNetwork
    loss: ModelLoss
    way: Way
    given: list[Given] = field(default_factory=list)
    start: Start | None = None
    _states: list[Start] = field(default_factory=list)
    _errors: list[list[float]] = field(default_factory=list)  # by point, then by step

    @property
    def sizes(self) -> LayoutSizes:
        """Of the network."""
        return self.network.sizes

    def under(self, loss: ModelLoss) -> Recovery:
        """The same with another reduction over steps, which a single step does not show."""
        errors = [list(own) for own in self._errors]
        return replace(
            self, loss=loss, given=list(self.given), _states=list(self._states), _errors=errors
        )

    def further(self) -> bool:
        """Recovers one step more; False where no data fit.

        Raises:
            TooExpensive: where that takes more evaluations than may be made.
        """
        steps = len(self.given) + 1
        if steps == 1 and self.way.states and self.start is None and not self._begun():
            return False
        points = self.way.points(self.sizes)
        measured = self.network.losses.losses(steps, points)
        if not np.isfinite(measured).all():
            return False
        if not self._states:
            B = self.way.sequences
            self._states = [self.network.start(k, B, self.start) for k in range(points)]
            self._errors = [[] for _ in range(points)]
        wanted, allowed = self._of_this_step(measured, steps)
        found = self._found(wanted, allowed)
        if found is None:
            return False
        self._keep(found)
        return True

    def _begun(self) -> bool:
        """Finds initial states: those that show without U and inputs, then all without inputs.

        Neither depends on the kind of inputs, so that what was found once is kept.
        """
        losses, layout = self.network.losses, self.network.layout
        structure = layout.cell, layout.squash, layout.first_units, self.network.shown
        key = (*structure, self.loss, self.way.sequences)
        if key not in losses.starts:
            if losses.sought >= MOST_BLIND_DESCENTS:
                return False
            losses.starts[key] = self._states_without_inputs()
        self.start = losses.starts[key]
        return self.start is not None

    def _states_without_inputs(self) -> Start | None:
        found: Array | None = None
        recurrent = isinstance(self.network.layout.cell, RNN)  # no state matters but through U
        for without in ("lowest W",) if recurrent else ("WU", "lowest W"):
            network = RecoveredNetwork(self.network.layout, self.network.losses, without)
            here = StatesAlone(network, self.loss, self.way, known=found)
            points = self.way.points_of_states(self.sizes)
            measured = network.losses.losses(1, points, network.zero)
            if not np.isfinite(measured).all():
                return None
            here._states = [network.start(k, self.way.sequences) for k in range(points)]
            here._errors = [[] for _ in range(points)]
            if here._found(*here._of_this_step(measured, 1)) is None:
                return None
            found = here.end
        return None if found is None else _as_start(found, self.sizes)

    def _of_this_step(self, measured: Array, steps: int) -> tuple[Array, Array]:
        """This step's errors, summed over sequences, and how far they may be off, by point."""
        w = self.loss.weights(steps, np.full(self.way.sequences, steps))[:, 0]
        whole = measured**2 if self.loss.root else measured
        before = np.array([w[:-1] @ self._errors[k] for k in range(len(measured))])
        allowed = self.network.losses.tolerance * np.maximum(1.0, np.abs(whole)) / w[-1]
        return (whole - before) / w[-1], allowed

    def _found(self, wanted: Array, allowed: Array) -> Given | None:
        if self.way.inputs == "classes":
            return self._classes_of_inputs(wanted, allowed)
        for start in self._starts():
            self.network.losses.descents += 1
            found = self._descended(start, wanted, allowed)
            if found is not None:
                return found
        return None

    def _classes_of_inputs(self, wanted: Array, allowed: Array) -> Given | None:
        """One of the classes for the inputs of each sequence.

        Of targets that are numbers, every choice of classes allows what a linear system says.
        """
        B, x = self.way.sequences, np.eye(self.sizes.inputs)
        every = np.broadcast_to(x[:, None], (len(x), B, len(x)))
        outputs = np.stack([self._outputs(k, every) for k in range(len(wanted))])
        parts = InTargets.of(self.loss, outputs)  # (K, I, B), (K, I, B, O)
        if self.way.targets == "classes":
            if x.size * self.sizes.outputs > MOST_CLASS_PAIRS:
                return None
            table = parts.constant[:, :, 0, None] + parts.slope[:, :, 0] + parts.bend
            off = (np.abs(table - wanted[:, None, None]) / allowed[:, None, None]).max(axis=0)
            i, o = map(int, np.unravel_index(int(off.argmin()), off.shape))
            return Given(x[[i]], np.eye(self.sizes.outputs)[[o]]) if off[i, o] <= 1 else None
        best, least = None, 1.0
        for chosen in self._likely_classes(parts, wanted, allowed):
            places = chosen, np.arange(B)
            own = InTargets(parts.constant[:, *places], parts.slope[:, *places], parts.bend)
            y, rest = own.solved(wanted)
            off = float((np.abs(rest) / allowed).max())
            # Of equal sequences only the sum of targets shows; with an ε it alone tells how many.
            shares = self.loss.kind != "softmax" or B == 1 or np.allclose(y.sum(axis=1), 1, 0, 0.1)
            if off <= least and shares:
                best, least = Given(x[chosen], y), off
        return best and self._rounded(best, wanted, allowed)

    def _likely_classes(self, parts: InTargets, wanted: Array, allowed: Array) -> Iterator[Array]:
        """Choices of one class for each sequence, (B,), that leave little of what is wanted."""
        B, classes = self.way.sequences, self.sizes.inputs
        alike = all((part == part[:, :1]).all() for state in self._states for part in state)
        if classes**B > MOST_CLASS_CHOICES:
            return
        chosen = np.array(
            list(
                combinations_with_replacement(range(classes), B)  # sequences have no order yet
                if alike
                else product(range(classes), repeat=B)
            )
        )
        if B == 1:
            yield from chosen
            return
        places = np.arange(B)
        for some in np.array_split(chosen, -(-len(chosen) // CLASS_CHOICES_AT_ONCE)):
            columns = np.moveaxis(parts.slope[:, some, places], 0, 1)  # (N, K, B, O)
            columns = columns.reshape(*columns.shape[:2], -1)
            if parts.bend:
                columns = np.concatenate([columns, np.ones((*columns.shape[:2], 1))], axis=2)
            basis = np.linalg.qr(columns)[0]
            rest = (wanted[:, None] - parts.constant[:, some, places].sum(axis=2)).T  # (N, K)
            rest = rest - np.einsum("nkc,njc,nj->nk", basis, basis, rest, optimize=True)
            yield from some[(np.abs(rest) <= 10 * allowed).all(axis=1)]

    def _starts(self) -> Iterator[Array]:
        """Where a descent begins: what is unknown of each sequence, (B, ·)."""
        B, first, sizes = self.way.sequences, not self.given, self.sizes
        rng = np.random.default_rng(len(self.given))
        ends = tuple(self.network.losses.ends.get(len(self.given), ()))
        yield from (one for one in ends if one.shape == (B, sizes.inputs))
        if B == 1:
            yield np.zeros((B, sizes.inputs))
        for number in range(GAUSS_NEWTON_STARTS * (B if first else B * B + 1)):
            yield (0.3, 1.0, 2.0)[number % 3] * rng.standard_normal((B, sizes.inputs))

    def _descended(self, unknown: Array, wanted: Array, allowed: Array) -> Given | None:
        """Inputs, targets, and perhaps initial states, at the end of a descent."""
        damping = 1e-2
        sight = self._sight(unknown, wanted)
        sizes: list[float] = []
        for _ in range(GAUSS_NEWTON_STEPS):
            size = float(np.linalg.norm(sight.rest / allowed))
            sizes.append(size)
            stuck = len(sizes) > 4 and size > 0.7 * sizes[-4]
            if stuck or size <= 1e-5:
                break
            slopes = self._slopes(unknown, sight.y, len(wanted))
            scale = np.linalg.norm(slopes, axis=0)
            scale = np.maximum(scale, 1e-8 * max(float(scale.max(initial=0.0)), 1e-300))
            for _ in range(8):
                whole = np.block(
                    [
                        [slopes, sight.columns],
                        [np.sqrt(damping) * np.diag(scale), np.zeros((unknown.size, sight.width))],
                    ]
                )
                right = np.concatenate([-sight.rest, np.zeros(unknown.size)])
                move = np.linalg.lstsq(whole, right, rcond=None)[0][: unknown.size]
                tried = unknown + move.reshape(unknown.shape)
                there = self._sight(tried, wanted)
                after = float(np.linalg.norm(there.rest / allowed))
                if after < size:
                    break
                damping *= 8
            else:
                break
            unknown, sight, damping = tried, there, max(damping / 10, 1e-15)
        if (np.abs(sight.rest) > allowed).any():
            return None
        return self._ended(unknown, sight.y, wanted, allowed)

    def _ended(self, unknown: Array, y: Array, wanted: Array, allowed: Array) -> Given | None:
        """What a descent has found."""
        found = self._rounded(Given(unknown, y), wanted, allowed)
        ends = self.network.losses.ends.setdefault(len(self.given), [])
        known = any(one.shape == unknown.shape and np.allclose(one, unknown) for one in ends)
        if found is not None and not known:
            ends.append(unknown)
        return found

    def _sight(self, unknown: Array, wanted: Array) -> Sight:
        outputs = np.stack([self._outputs(k, unknown[None])[0] for k in range(len(wanted))])
        parts = InTargets.of(self.loss, outputs)
        y, rest = parts.solved(wanted)
        return Sight(y, rest, parts.columns())

    def _slopes(self, unknown: Array, y: Array, points: int) -> Array:
        """The derivatives of the sums of errors by what is unknown, (K, B·n)."""
        B, n = unknown.shape
        h = 1e-5 * max(1.0, float(np.abs(unknown).max(initial=0.0)))
        moves = np.concatenate([h * np.eye(n), -h * np.eye(n)])[:, None]  # (2n, 1, n)
        rows = []
        for k in range(points):
            outputs = self._outputs(k, unknown[None] + moves)
            if self.loss.kind == "absolute_error":  # as smooth as it is at targets of 0 and 1
                e = InTargets.of(self.loss, outputs).errors(y)  # (2n, B)
            else:
                e = self.loss.errors(outputs, np.broadcast_to(y, outputs.shape))[0]
            rows.append(((e[:n] - e[n:]) / (2 * h)).T.reshape(B * n))
        return np.array(rows)

    def _outputs(self, k: int, unknown: Array) -> Array:
        """Outputs (N, B, O) of this step, from N sets of what is unknown (N, B or 1, ·)."""
        N, B, n = unknown.shape
        state = Start(*(np.tile(part, (1, N, 1)) for part in self._states[k]))
        y, _ = self.network.step(k, unknown.reshape(N * B, n), state)
        return y.reshape(N, B, -1)

    def _rounded(self, found: Given, wanted: Array, allowed: Array) -> Given | None:
        """Whole numbers where these fit as well, and a look at whether the whole fits."""
        found = self._settled(found, wanted)
        for one in (
            Given(*(_whole(part) for part in found)),
            Given(_whole(found.x), found.y),
            Given(found.x, _whole(found.y)),
            found,
        ):
            off = np.abs(self._errors_with(one, len(wanted)) - wanted) / allowed
            if (off <= 1).all():
                return one
        return None

    def _settled(self, found: Given, wanted: Array) -> Given:
        outputs = np.stack([self._outputs(k, found.x[None])[0] for k in range(len(wanted))])
        return Given(found.x, InTargets.of(self.loss, outputs).settled(found.y, wanted))

    def _errors_with(self, given: Given, points: int) -> Array:
        outputs = np.stack([self._outputs(k, given.x[None])[0] for k in range(points)])
        targets = np.broadcast_to(given.y, outputs.shape)
        errors: Array = self.loss.errors(outputs, targets)[0].sum(axis=1)
        return errors

    def _keep(self, found: Given) -> None:
        self.given.append(found)
        for k, state in enumerate(self._states):
            y, self._states[k] = self.network.step(k, found.x, state)
            self._errors[k].append(float(self.loss.errors(y, found.y)[0].sum()))


@dataclass
class StatesAlone(Recovery):
    """The initial states of a network that sees no inputs, by which a first step differs.

    Attributes:
        known: what was found of them with more parameters at 0, (B, ·).
        end: what was found.
    """

    known: Array | None = None
    end: Array | None = None

    def _found(self, wanted: Array, allowed: Array) -> Given | None:
        for start in self._starts():
            self.network.losses.sought += 1
            found = self._descended(start, wanted, allowed)
            if found is not None:
                return found
        return None

    def _starts(self) -> Iterator[Array]:
        """Cell states that are known stay; all others are drawn."""
        B, sizes = self.way.sequences, self.sizes
        rng, split = np.random.default_rng(B), sizes.layers * sizes.h
        if self.known is not None:
            yield self.known
        for number in range(GAUSS_NEWTON_STARTS * B):
            size = (0.3, 1.0, 2.0)[number % 3] * DRAWN_PARAMETERS
            drawn = size * rng.standard_normal((B, split + sizes.layers * sizes.c))
            if self.known is not None and isinstance(self.network.layout.cell, LSTM):
                drawn[:, split:] = self.known[:, split:]
            yield drawn

    def _outputs(self, k: int, unknown: Array) -> Array:
        N, B, n = unknown.shape
        state = _as_start(unknown.reshape(N * B, n), self.sizes)
        y, _ = self.network.step(k, np.zeros((N * B, self.sizes.inputs)), state)
        return y.reshape(N, B, -1)

    def _ended(self, unknown: Array, y: Array, wanted: Array, allowed: Array) -> Given | None:
        self.end = unknown
        return Given(unknown, y)


class Sight(NamedTuple):
    """At one place of a descent: the targets, what is left, and its derivatives by the targets."""

    y: Array
    rest: Array
    columns: Array

    @property
    def width(self) -> int:
        """How many numbers of the targets are unknown."""
        return int(self.columns.shape[1])


def _as_start(flat: Array, sizes: LayoutSizes) -> Start:
    """Initial states from one row of numbers for each sequence."""
    split = sizes.layers * sizes.h
    h = flat[:, :split].reshape(len(flat), sizes.layers, sizes.h)
    c = flat[:, split:].reshape(len(flat), sizes.layers, sizes.c)
    return Start(np.swapaxes(h, 0, 1), np.swapaxes(c, 0, 1))


def _whole(array: Array) -> Array:
    """The numbers that are nearly whole ones made so."""
    near = np.round(array)
    return np.where(np.abs(array - near) < NEAR_A_WHOLE_NUMBER, near, array)
