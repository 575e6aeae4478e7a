"""A target's losses at points of its parameters that are drawn at random, at every length.

An L2 term is found beforehand and left out of them, and so are tensors without effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.mutants.model import BlockPlace
from throughtime.diagnosis.observed import standing
from throughtime.diagnosis.tolerances import (
    DRAWN_PARAMETERS,
    DRAWN_WIDTH,
    FAR_OUT,
    SAME_DECAY,
    SAME_LOSS,
    SILENT_ROWS,
)
from throughtime.gradcheck import Evaluator, Target

Values = Mapping[str, Array]


class TooExpensive(Exception):
    """More evaluations would be needed than may be spent."""


class BlockSetting(NamedTuple):
    """What a block is put to at a point: one number, or multiples of one row.

    Attributes:
        place: of the block.
        value: of every entry, or what each row is multiplied with.
        along: the row; None for a number.
        patterned: whether the rows are multiplied by −1, 0 and 1 besides, as the point has it.
    """

    place: BlockPlace
    value: float
    along: Array | None = None
    patterned: bool = False

    @property
    def key(self) -> bytes:
        """Equal for equal ones."""
        along = b"" if self.along is None else self.along.tobytes()
        return f"{self.place} {self.value} {self.patterned}".encode() + along

    def put(self, into: Array, drawn: Array) -> None:
        """Puts the block, a view, to its value where these entries were drawn."""
        if self.along is None:
            into[...] = self.value
            return
        pattern = np.ones(len(drawn))
        if self.patterned:
            first = drawn[:, 0]
            pattern = np.sign(first) * (np.abs(first) > SILENT_ROWS * np.abs(drawn).mean())
            pattern = pattern if pattern.any() else np.sign(first)
        into[...] = self.value * np.outer(pattern, self.along)


class Mask(NamedTuple):
    """Entries of the parameters that are 0, by name, what blocks are put to, and a key of both."""

    entries: Mapping[str, Array]
    key: bytes
    settings: tuple[BlockSetting, ...] = ()

    @classmethod
    def of(
        cls,
        places: Iterable[BlockPlace],
        shapes: Mapping[str, Shape],
        settings: tuple[BlockSetting, ...] = (),
    ) -> Mask:
        """The entries of some blocks, and the settings of others."""
        found = {name: np.zeros(shape, bool) for name, shape in shapes.items()}
        for place in places:
            place.view(found[place.tensor])[...] = True
        parts = (*(array.tobytes() for array in found.values()), *(one.key for one in settings))
        return cls(found, b"".join(parts), settings)

    def turned(self) -> Mask:
        """The same with the opposite of every pattern of rows."""
        own = [one._replace(value=-one.value) if one.patterned else one for one in self.settings]
        return self._replace(key=self.key + b" turned", settings=tuple(own))


class Start(NamedTuple):
    """Initial states of B sequences: h (L, B, P) and c (L, B, H)."""

    h: Array
    c: Array


class DrawnLosses:
    """A target's losses at points drawn at random, at every length, each evaluated once.

    Args:
        study: of the target.
        allowance: how many evaluations may be made.
    """

    def __init__(self, study: Study, allowance: float) -> None:
        self.study, self.allowance = study, allowance
        self.shapes = {name: np.shape(array) for name, array in study.values.items()}
        self.used = 0
        self.descents = 0  # by which inputs were looked for …
        self.sought = 0  # … and initial states
        self.decay = 0.0  # λ of an L2 term λ/2 Σ w² …
        self.decayed: tuple[str, ...] = ()  # … over these tensors
        kinds = {array.dtype.name for array in study.target.parameters.values()}
        self.tolerance = max(SAME_LOSS.get(kind, SAME_LOSS["float64"]) for kind in kinds)
        # By step, what was found with one layout, where a descent with another may begin.
        self.ends: dict[int, list[Array]] = {}
        self.starts: dict[tuple[object, ...], Start | None] = {}  # by what may be known of them
        self._gradient: list[dict[str, Array] | None] = []  # once it was asked for
        self._targets: dict[int, Target | None] = {}
        self._points: dict[int, dict[str, Array]] = {}
        self._losses: dict[tuple[int, int, bytes], float] = {}

    def point(self, number: int, zero: Mask | None = None) -> dict[str, Array]:
        """Parameters drawn at random, as the target's own precision holds them; some of them 0."""
        if number not in self._points:
            rng = np.random.default_rng([self.study.seed, 17, number])
            self._points[number] = {
                name: (_size(shape) * rng.standard_normal(shape))
                .astype(self.study.target.parameters[name].dtype)
                .astype(np.float64)
                for name, shape in self.shapes.items()
            }
        found = self._points[number]
        if zero is None:
            return found
        there = {name: np.where(zero.entries[name], 0.0, array) for name, array in found.items()}
        for one in zero.settings:
            name = one.place.tensor
            one.put(one.place.view(there[name]), one.place.view(found[name]))
        return there

    def loss(self, steps: int, number: int, zero: Mask | None = None) -> float:
        """The loss at one of these points and a length; NaN where there is none."""
        key = (steps, number, b"" if zero is None else zero.key)
        if key not in self._losses:
            self._losses[key] = self._evaluate(steps, self.point(number, zero))
        return self._losses[key]

    def with_multiple(self, steps: int, number: int, name: str, times: float) -> float:
        """The same with one tensor multiplied by a number."""
        key = (steps, number, f"{times} {name}".encode())
        if key not in self._losses:
            values = self.point(number)
            self._losses[key] = self._evaluate(steps, values | {name: times * values[name]})
        return self._losses[key]

    def gradient_of_a_step(self) -> dict[str, Array] | None:
        """The gradient under test of a single step at the first point, right or wrong."""
        if not self._gradient:
            self._gradient.append(self._gradient_of_a_step())
        return self._gradient[0]

    def _gradient_of_a_step(self) -> dict[str, Array] | None:
        target = self.study.shorter(1)
        if target is None:
            return None
        self.used += 1
        self.study.budget.take()
        try:
            with standing(target.parameters, self.point(0)), np.errstate(all="ignore"):
                evaluator = Evaluator(target)
                evaluator.loss()
                found = evaluator.gradient()
        except Exception:  # the user's own code, at a point that it was not meant for
            return None
        return {name: array.astype(np.float64) for name, array in found.items()}

    def survey(self, steps: int) -> tuple[str, ...]:
        """Finds an L2 term and tensors on which the loss does not depend.

        Each tensor in turn is put far out, for a single step. What the loss has there besides is
        bounded, where states are; so the least of the terms that grow with the square of a tensor
        is an L2 term. It is left out of the losses from then on. Tensors without effect keep their
        values.

        Returns:
            the names of the tensors without effect.
        """
        found: dict[str, float] = {}
        still: list[str] = []
        here = self.loss(1, 0)
        for name in self.shapes:
            far = FAR_OUT * self.point(0)[name]
            value = self._evaluate(1, self.point(0) | {name: far})
            slope = 2 * value / float((far * far).sum())
            found[name] = slope  # NaN of a head that overflows there, as in exp(y) / Σ exp(y)
            if value == here and steps > 1:  # or it matters from the second step on
                moved = self._evaluate(steps, self.point(0) | {name: self.point(1)[name]})
                still += [name] if moved == self.loss(steps, 0) else []
        matrices = [n for n in found if sum(size > 1 for size in self.shapes[n]) > 1]
        matrices = [n for n in matrices if n not in still]
        least = min((found[n] for n in matrices if np.isfinite(found[n])), default=0.0)
        if least * FAR_OUT >= 1:  # and not bounded
            over = least * (1 + SAME_DECAY)
            self.decay = float(np.median([k for k in found.values() if least <= k <= over]))
            biases = any(least <= found[n] <= over for n in found if n not in matrices)
            like = {n for n in found if n in matrices or (biases and np.isnan(found[n]))}
            self.decayed = tuple(n for n in found if n in like or least <= found[n] <= over)
            self.decayed += tuple(n for n in found if found[n] > over and self._decays_alone(n))
            self._losses.clear()
        if still and len(still) < len(self.shapes):
            self.shapes = {name: s for name, s in self.shapes.items() if name not in still}
            self._points.clear()
            self._losses.clear()
            return tuple(still)
        return ()

    def _decays_alone(self, name: str) -> bool:
        """Whether a tensor has the L2 term, though other terms grow with its square as well.

        That of a linear output of one number, which no shape tells from a bias, is seen where all
        the others are 0, and the states with them.
        """
        nothing = {other: np.zeros(shape) for other, shape in self.shapes.items()}
        far = FAR_OUT * self.point(0)[name]
        if name in self.decayed:
            return False
        more = self._evaluate(1, nothing | {name: far}) - self._evaluate(1, nothing)
        return abs(2 * more / float((far * far).sum()) - self.decay) <= SAME_DECAY * self.decay

    def _penalty(self, values: Values) -> float:
        """The L2 term at these values."""
        return self.decay / 2 * sum(float((values[name] ** 2).sum()) for name in self.decayed)

    def without_decay(self) -> None:
        """Gives up an L2 term."""
        self.decay, self.decayed = 0.0, ()
        self._losses.clear()

    def losses(self, steps: int, points: int, zero: Mask | None = None) -> Array:
        """The losses at the first so many points."""
        return np.array([self.loss(steps, number, zero) for number in range(points)])

    def affordable(self, evaluations: int) -> bool:
        """Whether so many further evaluations may be made."""
        return self.used + evaluations <= self.allowance

    def _evaluate(self, steps: int, values: Values) -> float:
        if steps not in self._targets:
            self._targets[steps] = self.study.shorter(steps)
        target = self._targets[steps]
        if target is None:
            return np.nan
        if not self.affordable(1):
            raise TooExpensive
        self.used += 1
        self.study.budget.take()
        try:
            with standing(target.parameters, values), np.errstate(all="ignore"):
                return Evaluator(target).loss() - self._penalty(values)
        except Exception:  # the user's own code, at a point that it was not meant for
            return np.nan


def _size(shape: Shape) -> float:
    """The standard deviation of a tensor drawn at random: pre-activations are of order 1."""
    width = max(shape, default=1) if len(shape) > 1 and min(shape) > 1 else 1
    return DRAWN_PARAMETERS * min(1.0, float(np.sqrt(DRAWN_WIDTH / width)))
