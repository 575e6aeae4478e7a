"""Recurrent layers inside a model: gradients that arrive at many steps, down through the stack.

A loss that looks at several steps past the recurrence (attention, pooling, another recurrent
module) hands something to each of them. Here n such losses go back side by side, a layer and a
direction at a time, through all steps: rows (n, B, ·), to which something is added at every step.
A lower layer receives from the upper one at every step too; in a second direction time runs
backwards. As in `lag_by_lag`, what would leave the range of the precision is multiplied by powers
of two.

`recurrences` makes each direction a network by itself, with what arrives there as its loss: what
truncation gives up, by which path gradients go, and for how long units remember, are facts of one
recurrence. The layers of a stack that runs in one direction are one recurrence, since time goes the
same way in all of them; of layers that run both ways each direction is one.

`inner_layers` opens a network that runs both ways: its recurrent layers alone, and what lies above
them as losses. What lies below the lowest of them, and the head, have no part in any recurrence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from throughtime.arrays import Array, array_of, refuse, step_counts
from throughtime.cells import State, Tape
from throughtime.gradient_flow.jacobians import Linear, linear
from throughtime.gradient_flow.lag_by_lag import rescaling, through_head
from throughtime.gradient_flow.upstream import (
    ExternalLoss,
    Losses,
    OwnStepSource,
    UpstreamGradient,
    external_targets,
)
from throughtime.network import (
    Dropout,
    Layer,
    Network,
    NetworkTape,
    RecurrentTape,
    checked_inputs,
    reverse,
)

ABSENT = np.int32(-(2**24))  # the exponent of what is 0
DIRECTIONS_NOTE = (
    "Only recurrent layers are numbered, from 0, with each direction counted by itself; shares, "
    "bias and gradient norm are those of their parameters."
)


@dataclass(frozen=True)
class Scaled:
    """Arrays times powers of two: part to (…, ·), and exponents (…)."""

    parts: State
    powers: Array

    def __add__(self, other: Scaled) -> Scaled:
        """Adds the parts of `other` to those of the same name."""
        if not any(part.any() for part in other.parts.values()):
            return self
        common = self.powers
        mine, theirs = self.parts, other.parts
        if (self.powers != other.powers).any():
            common = np.maximum(self._there(), other._there())
            common = np.where(common == ABSENT, 0, common)
            mine, theirs = self._at(common), other._at(common)
        return Scaled(mine | {name: mine[name] + part for name, part in theirs.items()}, common)

    def _there(self) -> Array:
        some = np.logical_or.reduce([part.any(axis=-1) for part in self.parts.values()])
        return np.where(some, self.powers, ABSENT)

    def _at(self, powers: Array) -> State:
        shift = (self.powers - powers)[..., None]
        return {name: np.ldexp(part, shift) for name, part in self.parts.items()}


@dataclass(frozen=True)
class StackDirection:
    """One direction of one layer of a run.

    Attributes:
        layer: the layer's number.
        number: its own, where the directions of all layers are counted.
        prefix: of its names within the layer: "", or "1." for the second direction.
        p: its parameters.
        tape: of its run, in its own time.
        linear: the derivatives of its steps.
    """

    layer: int
    number: int
    prefix: str
    p: Mapping[str, Array]
    tape: Tape
    linear: Linear

    @property
    def backwards(self) -> bool:
        """Whether its time runs from the end to the beginning."""
        return bool(self.prefix)


class Stack:
    """One run of a network that consists of recurrent layers, with the derivatives of its steps.

    Attributes:
        directions: those of each layer, from the lowest.
        last: (B,), the last step of each sequence.
    """

    def __init__(self, network: Network, tape: NetworkTape, lengths: Array) -> None:
        self.lengths, self.last = lengths, lengths - 1
        self.directions: list[list[StackDirection]] = []
        for layer, recurrent in network.recurrent.items():
            own, p = tape.layers[layer], network.of_layer(layer)
            assert isinstance(own, RecurrentTape)
            self.directions.append([])
            for prefix, one in zip(recurrent.prefixes, own.directions, strict=True):
                part = {name: p[prefix + name] for name in recurrent.cell.shapes()}
                step = linear(recurrent.cell, part, one)
                number = sum(map(len, self.directions))
                self.directions[-1].append(StackDirection(layer, number, prefix, part, one, step))

    @property
    def width(self) -> int:
        """The largest number of outputs of a layer, in all its directions."""
        return max(sum(one.linear.sizes["h"] for one in layer) for layer in self.directions)

    def descend(self, upstream: UpstreamGradient) -> Iterator[Descent]:
        """One `Descent` for each direction, from the top layer to the lowest.

        The caller must exhaust `steps_back` of each before it asks for the next one.
        """
        arriving = Scaled({"h": upstream.outputs}, np.zeros(upstream.outputs.shape[:3], np.int32))
        for directions in reversed(self.directions):
            lowest = directions is self.directions[0]
            halves = np.split(arriving.parts["h"], len(directions), axis=3)
            below: Scaled | None = None
            for direction, half in zip(directions, halves, strict=True):
                own = self._in_time_of(direction, Scaled({"h": half}, arriving.powers))
                final = {
                    part: upstream.final[name]
                    for part in direction.linear.sizes
                    if (name := f"{direction.layer}.{direction.prefix}{part}") in upstream.final
                }
                inner = {
                    part: upstream.inner[name]
                    for part in direction.linear.sizes
                    if (name := f"{direction.layer}.{part}") in upstream.inner
                }
                descent = Descent(direction, own, final, inner, self.last, not lowest)
                yield descent
                if not lowest:
                    part = self._in_time_of(direction, descent.below)
                    below = part if below is None else below + part
            if below is not None:
                arriving = below

    def _in_time_of(self, direction: StackDirection, arriving: Scaled) -> Scaled:
        """Converts the run's time to the direction's, or the other way round."""
        if not direction.backwards:
            return arriving
        turned = reverse(np.moveaxis(arriving.parts["h"], 0, 2), self.lengths)
        powers = reverse(np.moveaxis(arriving.powers, 0, 2), self.lengths)
        return Scaled({"h": np.moveaxis(turned, 2, 0)}, np.moveaxis(powers, 2, 0))


class Descent:
    """n losses on their way back through one direction.

    Attributes:
        direction: the one that they go through.
        arriving: "h", (n, T, B, ·), in the direction's time.
        final: part to (n, B, ·), with respect to the state after each sequence's last step.
        inner: part to (n, T, B, ·), with respect to the state after every step.
        below: "h", (n, T, B, ·), for the layer below; complete once `steps_back` is exhausted.
    """

    def __init__(
        self,
        direction: StackDirection,
        arriving: Scaled,
        final: State,
        inner: State,
        last: Array,
        wanted: bool,
    ) -> None:
        self.direction, self.arriving = direction, arriving
        self.final, self.inner = final, inner
        self.last, self.wanted = last, wanted
        n, T, B, _ = arriving.parts["h"].shape
        I = direction.p["W"].shape[1] if wanted else 0  # noqa: E741
        values = np.zeros((n, T, B, I), direction.linear.dtype)
        self.below = Scaled({"h": values}, np.zeros((n, T, B), np.int32))

    def arriving_at(self, k: int) -> Scaled:
        """What arrives at step k from outside this direction's recurrence."""
        found = Scaled({"h": self.arriving.parts["h"][:, k]}, self.arriving.powers[:, k])
        here = (self.last == k)[:, None]
        if not self.inner and not (self.final and here.any()):
            return found
        sizes, (n, B, _) = self.direction.linear.sizes, found.parts["h"].shape
        dtype = self.direction.linear.dtype
        blank = {part: np.zeros((n, B, size), dtype) for part, size in sizes.items()}
        ends = {part: np.where(here, array, dtype.type(0)) for part, array in self.final.items()}
        whole = Scaled(blank, np.zeros_like(found.powers)) + found
        whole = whole + Scaled(ends, blank_powers(n, B))
        inner = {part: array[:, k] for part, array in self.inner.items()}
        return whole + Scaled(inner, blank_powers(n, B))

    def steps_back(self, least: int) -> Iterator[tuple[int, Scaled]]:
        """Yields k with ∂E/∂h_k and ∂E/∂c_k, from the last step at which something arrives.

        It goes back to the step `least`, or to the first step if there is a layer below.
        """
        least = 0 if self.wanted else least
        one = self.direction.linear
        n, T, B, _ = self.arriving.parts["h"].shape
        zeros = {part: np.zeros((n, B, size), one.dtype) for part, size in one.sizes.items()}
        rows = Scaled(zeros, blank_powers(n, B))
        for k in reversed(range(least, self._begin(T) + 1)):
            rows = rows + self.arriving_at(k)
            deltas, before = one.vjp(k, rows.parts)
            yield k, Scaled({part: deltas[part] for part in one.sizes}, rows.powers)
            if self.wanted:
                self.below.parts["h"][:, k] = one.to_inputs(k, deltas["z"])
                self.below.powers[:, k] = rows.powers
            rows = _rescaled(Scaled(before, rows.powers))

    def _begin(self, steps: int) -> int:
        if self.final or self.inner:
            return steps - 1
        some = np.flatnonzero(self.arriving.parts["h"].any(axis=(0, 2, 3)))
        return int(some[-1]) if len(some) else -1


def blank_powers(n: int, batch: int) -> Array:
    """Exponents of 0, (n, B)."""
    return np.zeros((n, batch), np.int32)


def _rescaled(rows: Scaled) -> Scaled:
    """Rescales rows that have left the range."""
    largest = np.maximum.reduce([np.abs(part).max(axis=-1) for part in rows.parts.values()])
    shift = rescaling(largest)
    if not shift.any():
        return rows
    parts = {name: np.ldexp(part, -shift[..., None]) for name, part in rows.parts.items()}
    return Scaled(parts, rows.powers + shift)


@dataclass(frozen=True)
class SingleRecurrence:
    """One recurrence as the arguments of `Network.loss_and_gradient`, in its own time.

    Attributes:
        first: the number of its first layer, where the directions of all layers are counted.
        backwards: whether its time runs from the end to the beginning.
    """

    network: Network
    inputs: Array
    targets: Array
    state: Mapping[str, Array] | None
    first: int = 0
    backwards: bool = False


def recurrences(
    network: Network,
    inputs: Array,
    losses: Losses,
    state: Mapping[str, Array] | None,
    stack: Stack,
) -> Iterator[SingleRecurrence]:
    """The recurrences of a module whose layers run in one direction or in both."""
    if not network.bidirectional:
        own, targets = _with_loss(network, losses.whole, losses.values, stack.last)
        yield SingleRecurrence(own, inputs, targets, state)
        return
    for descent in stack.descend(losses.whole):
        for _ in descent.steps_back(0):
            pass  # completes what the layer below receives
        direction = descent.direction
        arriving = np.ldexp(descent.arriving.parts["h"], descent.arriving.powers[..., None])
        final = {f"0.{part}": end for part, end in descent.final.items()}
        upstream = UpstreamGradient(arriving, final)
        values = losses.values if direction.number == 0 else np.zeros_like(losses.values)  # once
        own, targets = _with_loss(_as_network(direction), upstream, values, stack.last)
        begin = {f"0.{part}": array[0] for part, array in direction.tape.states.items()}
        x = np.ascontiguousarray(direction.tape.inputs)
        yield SingleRecurrence(own, x, targets, begin, direction.number, direction.backwards)


def _as_network(direction: StackDirection) -> Network:
    cell = replace(direction.linear.cell, bidirectional=False)
    found = Network([cell], dtype=direction.linear.dtype)
    for name, array in direction.p.items():
        found.parameters[f"0.{name}"] = array
    return found


def _with_loss(
    network: Network, whole: UpstreamGradient, values: Array, last: Array
) -> tuple[Network, Array]:
    """The network with what arrives as its loss, and the targets of that loss."""
    also = {}
    for name, part in whole.final.items():
        layer, letter = name.split(".")
        array = np.zeros((*values.shape, part.shape[2]), part.dtype)
        array[last, np.arange(len(last))] = part[0]
        also[int(layer), letter] = array
    for name, part in whole.inner.items():
        layer, letter = name.split(".")
        also[int(layer), letter] = also.get((int(layer), letter), 0) + part[0]
    names, targets = external_targets(whole.outputs[0], values, also)
    found = Network(network.specs, ExternalLoss(also=names), dtype=network.dtype)
    found.parameters.flat[...] = network.parameters.flat
    return found, targets


@dataclass(frozen=True)
class InnerLayers:
    """The recurrent layers of a network alone, as the arguments of `network_flow`.

    Attributes:
        network: these layers, with the parameters of the whole network.
        inputs: what the lowest of them receives.
        state: by the names of `network`.
        lengths: (B,) or None.
        losses: the loss of each step, as these layers see it.
    """

    network: Network
    inputs: Array
    state: Mapping[str, Array] | None
    lengths: Array | None
    losses: Losses


def inner_layers(
    network: Network,
    inputs: object,
    targets: object,
    state: Mapping[str, Array] | None,
    lengths: object,
) -> InnerLayers:
    """Runs the network, and takes its loss back through what lies above its recurrent layers.

    Raises:
        ValueError, TypeError: for a network without a loss, data that do not fit, or a layer other
            than Dropout between the recurrent ones.
    """
    numbers = sorted(network.recurrent)
    _stacked(network, numbers)
    if network.loss is None:
        refuse("loss", "a loss", "none", "build the network with loss=…")
    x = checked_inputs(network.layers[0], network.inputs, network.dtype, inputs)
    steps, batch = x.shape[:2]
    counts = step_counts(lengths, steps, batch)
    outputs, _, tape = network.forward(x, state, counts)
    weights = network.loss.weights(steps, batch, counts)
    wanted = network.loss.check_targets(array_of("targets", targets), outputs)
    loss = network.loss.evaluate(outputs, wanted, weights)
    arriving, _ = through_head(network, tape, numbers[-1], loss.doutputs)
    whole = UpstreamGradient(arriving[None], {})
    losses = Losses(OwnStepSource(arriving), whole, weights * loss.terms)
    lowest = tape.layers[numbers[0]]
    assert isinstance(lowest, RecurrentTape)
    own = None if state is None else _renumbered(state, numbers)
    x = lowest.directions[0].inputs
    return InnerLayers(_recurrent_layers(network, numbers), x, own, counts, losses)


def _stacked(network: Network, numbers: list[int]) -> None:
    between: list[Layer] = [network.layers[n] for n in range(numbers[0], numbers[-1])]
    others = [layer for layer in between if layer not in network.recurrent.values()]
    strange = [type(layer).__name__ for layer in others if not isinstance(layer, Dropout)]
    if strange:
        expected = "recurrent layers directly one upon another, where one of them runs both ways"
        refuse("network", expected, f"{strange[0]} between them", "analyse each part by itself")


def _recurrent_layers(network: Network, numbers: list[int]) -> Network:
    found = Network([network.specs[n] for n in numbers], dtype=network.dtype)
    for own, number in enumerate(numbers):
        for name, array in network.of_layer(number).items():
            found.parameters[f"{own}.{name}"] = array
    return found


def _renumbered(state: Mapping[str, Array], numbers: list[int]) -> dict[str, Array]:
    return {
        f"{numbers.index(int(number))}.{rest}": array
        for name, array in state.items()
        for number, _, rest in [name.partition(".")]
    }
