"""Gradients that arrive at many steps, down through a stack of layers of one or two directions.

A loss that looks at several steps past the recurrence (attention, pooling, another recurrent
module) hands something to each of them. Here n such losses go back side by side, a layer and a
direction at a time, through all steps: rows (n, B, ·), to which something is added at every step.
A lower layer receives from the upper one at every step too; of a second direction, time runs
backwards.

As in `walk`, what would leave the range of the precision is multiplied by powers of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import State, Tape, input_gradient
from throughtime.gradient_flow.linear import Linear, linear
from throughtime.gradient_flow.tolerances import RESCALED_BEYOND
from throughtime.gradient_flow.upstream import UpstreamGradient
from throughtime.network import Network, NetworkTape, RecurrentTape, reverse

ABSENT = np.int32(-(2**24))  # the exponent of what is 0


@dataclass(frozen=True)
class Scaled:
    """Numbers times powers of two: part to (…, ·), and exponents (…)."""

    parts: State
    powers: Array

    def __add__(self, other: Scaled) -> Scaled:
        """The parts of `other` added to those of the same name."""
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
class Line:
    """One direction of one layer of a run.

    Attributes:
        layer, number: of the layer, and as the two directions of all layers are counted.
        prefix: of its names within the layer: "" or, of the second direction, "1.".
        p: its parameters.
        tape: of its run, in its own time.
        linear: the derivative of its steps.
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
    """One run of recurrent layers, nothing but these, ready to be walked back.

    Attributes:
        lines: by layer, from the lowest.
        last: (B,), the last step of each sequence.
    """

    def __init__(self, network: Network, tape: NetworkTape, lengths: Array) -> None:
        self.lengths, self.last = lengths, lengths - 1
        self.lines: list[list[Line]] = []
        for layer, recurrent in network.recurrent.items():
            own, p = tape.layers[layer], network.of_layer(layer)
            assert isinstance(own, RecurrentTape)
            self.lines.append([])
            for prefix, direction in zip(recurrent.prefixes, own.directions, strict=True):
                part = {name: p[prefix + name] for name in recurrent.cell.shapes()}
                step = linear(recurrent.cell, part, direction)
                number = sum(map(len, self.lines))
                self.lines[-1].append(Line(layer, number, prefix, part, direction, step))

    @property
    def width(self) -> int:
        """Of the widest thing that is handed from a layer to the one below it, or to the top."""
        sizes = [sum(line.linear.sizes["h"] for line in lines) for lines in self.lines]
        return max(sizes)

    def descend(self, upstream: UpstreamGradient) -> Iterator[Passing]:
        """From the top layer to the lowest: lines, each to be walked before the next one."""
        arriving = Scaled({"h": upstream.outputs}, np.zeros(upstream.outputs.shape[:3], np.int32))
        for lines in reversed(self.lines):
            lowest = lines is self.lines[0]
            halves = np.split(arriving.parts["h"], len(lines), axis=3)
            below: Scaled | None = None
            for line, half in zip(lines, halves, strict=True):
                own = self._in_time_of(line, Scaled({"h": half}, arriving.powers))
                final = {
                    part: upstream.final[name]
                    for part in line.linear.sizes
                    if (name := f"{line.layer}.{line.prefix}{part}") in upstream.final
                }
                passing = Passing(line, own, final, self.last, not lowest)
                yield passing
                if not lowest:
                    part = self._in_time_of(line, passing.below)
                    below = part if below is None else below + part
            if below is not None:
                arriving = below

    def _in_time_of(self, line: Line, arriving: Scaled) -> Scaled:
        """The line's time instead of the run's, or the other way round."""
        if not line.backwards:
            return arriving
        turned = reverse(np.moveaxis(arriving.parts["h"], 0, 2), self.lengths)
        powers = reverse(np.moveaxis(arriving.powers, 0, 2), self.lengths)
        return Scaled({"h": np.moveaxis(turned, 2, 0)}, np.moveaxis(powers, 2, 0))


class Passing:
    """n losses on their way back through one line.

    Attributes:
        line: which one.
        arriving: "h", (n, T, B, ·), in the line's time.
        final: part to (n, B, ·), with respect to the state after each sequence's last step.
        below: what is left for the layer below, "h", once it was walked.
    """

    def __init__(
        self, line: Line, arriving: Scaled, final: State, last: Array, wanted: bool
    ) -> None:
        self.line, self.arriving, self.final = line, arriving, final
        self.last, self.wanted = last, wanted
        n, T, B, _ = arriving.parts["h"].shape
        I = line.p["W"].shape[1] if wanted else 0  # noqa: E741
        values = np.zeros((n, T, B, I), line.linear.dtype)
        self.below = Scaled({"h": values}, np.zeros((n, T, B), np.int32))

    def arriving_at(self, k: int) -> Scaled:
        """All that comes from outside this line's recurrence at one step of its time."""
        found = Scaled({"h": self.arriving.parts["h"][:, k]}, self.arriving.powers[:, k])
        here = (self.last == k)[:, None]
        if not self.final or not here.any():
            return found
        sizes, (n, B, _) = self.line.linear.sizes, found.parts["h"].shape
        dtype = self.line.linear.dtype
        blank = {part: np.zeros((n, B, size), dtype) for part, size in sizes.items()}
        ends = {part: np.where(here, array, dtype.type(0)) for part, array in self.final.items()}
        return Scaled(blank, np.zeros_like(found.powers)) + found + Scaled(ends, blank_powers(n, B))

    def walk(self, least: int) -> Iterator[tuple[int, Scaled]]:
        """From the last step at which something arrives: k, and ∂E/∂h_k and ∂E/∂c_k.

        Back to the step `least`, or, where there is a layer below, to the first.
        """
        least = 0 if self.wanted else least
        one = self.line.linear
        n, T, B, _ = self.arriving.parts["h"].shape
        zeros = {part: np.zeros((n, B, size), one.dtype) for part, size in one.sizes.items()}
        rows = Scaled(zeros, blank_powers(n, B))
        for k in reversed(range(least, self._begin(T) + 1)):
            rows = rows + self.arriving_at(k)
            deltas, before = one.vjp(k, rows.parts)
            yield k, Scaled({part: deltas[part] for part in one.sizes}, rows.powers)
            if self.wanted:
                self.below.parts["h"][:, k] = input_gradient(deltas["z"], self.line.p["W"])
                self.below.powers[:, k] = rows.powers
            rows = _brought_back(Scaled(before, rows.powers))

    def _begin(self, steps: int) -> int:
        if self.final:
            return steps - 1
        some = np.flatnonzero(self.arriving.parts["h"].any(axis=(0, 2, 3)))
        return int(some[-1]) if len(some) else -1


def blank_powers(n: int, batch: int) -> Array:
    """(n, B) of exponents 0."""
    return np.zeros((n, batch), np.int32)


def _brought_back(rows: Scaled) -> Scaled:
    """Rows that have left the range, times powers of two."""
    largest = np.maximum.reduce([np.abs(part).max(axis=-1) for part in rows.parts.values()])
    _, exponents = np.frexp(np.where(np.isfinite(largest), largest, 1))
    outside = (np.abs(exponents) > RESCALED_BEYOND) & (largest > 0)
    shift = np.where(outside, exponents, 0).astype(np.int32)
    if not shift.any():
        return rows
    parts = {name: np.ldexp(part, -shift[..., None]) for name, part in rows.parts.items()}
    return Scaled(parts, rows.powers + shift)
