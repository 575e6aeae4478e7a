"""One point of the parameters, with the gradient there: where lines are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives import (
    START_EXPONENTS,
    WIDEST_EXPONENT,
    FunctionValue,
    LineFunction,
    Noise,
    Slope,
    StepSearch,
    measure_noise,
    search_steps,
    sum_terms,
)
from throughtime.gradcheck.budget import Budget
from throughtime.gradcheck.search_direction import (
    Block,
    MovedParameters,
    SearchDirection,
    draw_moves,
    length,
    product,
    scales_of,
)
from throughtime.gradcheck.target import Evaluator, Target
from throughtime.gradcheck.tolerances import (
    BENT_RATIO,
    BLOWN_UP_RATIO,
    DOUBLE_PRECISION_NOISE,
    FORMAT_PROBE,
    NEAREST_EXPONENT,
    NOISE_MARGIN,
    SIMILAR_SCALES,
)

NEIGHBOURS = (-1.5, -0.5, 0.5, 1.5)  # · 16 units in the last place
THIRD = np.array([-1.0, 3.0, -3.0, 1.0]) / np.sqrt(20)  # keeps the deviation of equal noises


@dataclass(frozen=True)
class Measurement:
    """The slope of the loss along a line, beside the gradient's.

    Attributes:
        direction: what was measured.
        gradient: g·v of the gradient under test.
        numerical: the numerical derivative.
        error: their common error bar; infinite where there is no numerical derivative.
        rounding: the gradient's own part of it.
        slope: how the numerical derivative came about.
        step_exponents: of the ladder, that hold its window.
        flat: whether the loss did not change at any step.
        stairs: whether it came out the same at neighbouring steps.
        at_kink: whether it has a kink here, and that makes the error bar what it is.
        hidden_kink: how much wider the error bar must be to span kinks that may hide among the steps;
            0 where gradient and slope agree without.
        valley: of a direction over whole tensors: farthest steps, noise and truncation there.
    """

    direction: SearchDirection
    gradient: float
    numerical: float
    error: float
    rounding: float
    slope: Slope | None
    step_exponents: tuple[int, ...]
    flat: bool
    stairs: bool = False
    at_kink: bool = False
    hidden_kink: float = 0.0
    valley: tuple[Array, Array, Array] | None = None

    @property
    def residual(self) -> float:
        """How far the two are apart."""
        return self.gradient - self.numerical

    @property
    def z(self) -> float:
        """That, in error bars."""
        return abs(self.residual) / max(self.error, np.finfo(float).tiny)

    @property
    def step(self) -> float:
        """The farthest step of the numerical derivative; 0 where there is none."""
        return (
            self.direction.unit * 2.0 ** (self.step_exponents[-1] / 2)
            if self.step_exponents
            else 0.0
        )


class EvaluationPoint:
    """Where the parameters of a target stand, and what is known there.

    Args:
        target: its parameters are moved in place and put back, bit for bit.
        gradient: the gradient under test.
        budget: what the evaluations are taken from.
        seed: of what is drawn.
    """

    def __init__(
        self, target: Target, gradient: dict[str, Array], budget: Budget, seed: int = 0
    ) -> None:
        self.evaluator = Evaluator(target)
        self.target, self.gradient, self.budget, self.seed = target, gradient, budget, seed
        self.parameters = target.parameters
        self.scales = scales_of(self.parameters)
        self.sizes = {n: float(np.linalg.norm(g.astype(np.float64))) for n, g in gradient.items()}
        self.noise = Noise(0.0, 0.0, np.finfo(float).eps)
        self.own_noise: dict[str, float] = {}  # of tensors along which the loss has more
        self.gradient_noise: dict[str, Array] = {}
        self.terms = 1
        self.loss = np.nan

    def survey(self, known: EvaluationPoint | None = None) -> None:
        """Measures the loss, its noise, and the noise of the gradient.

        Args:
            known: the same code at another point. In double precision, where noise is far below
                what is looked for, it is taken to be as large here, relative to the loss.

        Raises:
            Spent: where the budget does not reach so far.
        """
        blocks = self.direction_over_all("all").blocks
        function = self.loss_along(blocks)
        self.budget.take()
        self.loss, rounding = sum_terms(self._count_terms)
        if not np.isfinite(self.loss):
            return
        if known is not None and known.noise.relative < DOUBLE_PRECISION_NOISE:
            deviation = max(known.noise.relative * abs(self.loss), known.noise.deviation, rounding)
            self.noise = Noise(deviation, abs(self.loss), known.noise.digits)
            return
        others = (self.loss, function(FORMAT_PROBE).raw)
        eps = max(self._spacing(array) for array in self.parameters.values())
        slope = product(blocks, self.gradient)
        self.noise = measure_noise(function, float(eps), rounding, others, slope)
        self.gradient_noise = self._sample_gradient_noise(float(eps))

    def nearby(self, gradient: dict[str, Array]) -> EvaluationPoint:
        """The site of the same code at a point close by, where the parameters stand now.

        Sizes and noise are as they are here.

        Raises:
            Spent: where the budget does not reach so far.
        """
        other = copy(self)
        other.evaluator, other.gradient = Evaluator(self.target), gradient
        self.budget.take()
        other.loss = other.evaluator.loss()
        return other

    def portable(self) -> EvaluationPoint:
        """A copy without what stays in this process: the progress bar."""
        other = copy(self)
        other.budget = Budget(deadline=self.budget.deadline)
        return other

    def direction_over_all(self, label: str, number: int = 0) -> SearchDirection:
        """A direction over all tensors.

        Every entry moves alike, so that the mean square of a product is the squared length over
        all of them; where tensors differ widely in size, each in its own, so that none of them
        hides another.
        """
        sizes = self.scales.values()
        middle = float(np.median(list(sizes)))
        alike = max(sizes) < SIMILAR_SCALES * min(sizes)
        blocks = tuple(
            Block(
                name,
                0,
                array.size,
                self.seed + number + crc32(name.encode()),  # equal shapes, different moves
                middle if alike else self.scales[name],
            )
            for name, array in self.parameters.items()
        )
        return SearchDirection(label, blocks, 1.0, START_EXPONENTS)

    def measure(self, direction: SearchDirection, last: int = WIDEST_EXPONENT) -> Measurement:
        """The slope of the loss along a line, with its error bar.

        Args:
            direction: what to measure.
            last: the rung of the longest step.

        Raises:
            Spent: where the budget does not reach so far.
        """
        gradient = product(direction.blocks, self.gradient)
        rounding = self.rounding(direction.blocks)
        noise = self.noise_along(direction.blocks)
        values = StepSearch(self.loss_along(direction.blocks), self.loss, noise, direction.unit)
        slope = search_steps(
            values, start=direction.step_exponents, goal=max(direction.goal, rounding), last=last
        )
        if slope is None:
            return Measurement(direction, gradient, np.nan, np.inf, rounding, None, (), False)
        step_exponents = values.step_exponents[slope.first : slope.last + 1]
        error = slope.error + values.shared_rounding(slope) + rounding
        bent = slope.truncation + slope.kink
        if slope.error > max(direction.goal, rounding) and bent > BENT_RATIO * slope.noise:
            error += bent  # it bends at every step: what one fit leaves over is a rough guide
        apart = abs(gradient - slope.value) > error
        hidden_kink = max(values.hidden_kink(slope) - slope.kink, 0.0) if apart else 0.0
        return Measurement(
            direction,
            gradient,
            slope.value,
            error,
            rounding,
            slope,
            step_exponents,
            values.levels() == 1,
            values.repeats(),
            values.at_kink(slope),
            hidden_kink,
            values.valley() if self._moves_whole_tensors(direction.blocks) else None,
        )

    def _moves_whole_tensors(self, blocks: tuple[Block, ...]) -> bool:
        """Whether tensors move as a whole."""
        return all(b.start == 0 and b.stop == self.parameters[b.name].size for b in blocks)

    def loss_along(self, blocks: tuple[Block, ...]) -> LineFunction:
        """The loss along a direction: takes a step, gives the realised one and the loss there.

        What the gradient makes of the last digits by which the place lies off the line is taken
        off the loss. Where there is no finite value, it is NaN.
        """
        moves = draw_moves(blocks, self.parameters)

        def at(step: float) -> FunctionValue:
            self.budget.take()
            with MovedParameters(self.target, self.gradient, moves, step) as moved:
                if not moved.finite:
                    return FunctionValue(step, np.nan, np.nan)
                value, _ = sum_terms(self.evaluator.terms)
            return self._value(moved, value)

        return at

    def loss_and_gradient_along(
        self, blocks: tuple[Block, ...]
    ) -> Callable[[float], tuple[FunctionValue, float]]:
        """The loss along a direction, and the gradient under test along it at the same place."""
        moves = draw_moves(blocks, self.parameters)

        def at(step: float) -> tuple[FunctionValue, float]:
            self.budget.take()
            with MovedParameters(self.target, self.gradient, moves, step) as moved:
                if not moved.finite:
                    return FunctionValue(step, np.nan, np.nan), np.nan
                value, _ = sum_terms(self.evaluator.terms)
                try:
                    with np.errstate(all="ignore"):
                        slope = product(blocks, self.evaluator.gradient())
                except (ValueError, ArithmeticError):  # CheckError is one
                    slope = np.nan
            return self._value(moved, value), slope

        return at

    def _value(self, moved: MovedParameters, value: float) -> FunctionValue:
        """What a move has come to; of a loss that has blown up nothing can be fitted."""
        if not abs(value) <= BLOWN_UP_RATIO * max(abs(self.loss), 1.0):
            return FunctionValue(moved.realised, np.nan, np.nan)
        return FunctionValue(moved.realised, value - moved.off_line_error, value)

    def learn_noise(self, blocks: tuple[Block, ...], deviation: float) -> None:
        """The loss has so much noise along tensors; it may have less along others."""
        for block in blocks:
            self.own_noise[block.name] = max(deviation, self.own_noise.get(block.name, 0.0))

    def noise_along(self, blocks: tuple[Block, ...]) -> Noise:
        """The loss's noise where these blocks move."""
        own = max(self.own_noise.get(block.name, 0.0) for block in blocks)
        return replace(self.noise, deviation=max(own, self.noise.deviation))

    def rounding(self, blocks: tuple[Block, ...]) -> float:
        """Two standard deviations of what rounding does to the gradient along a direction."""
        total, together = 0.0, 0.0
        for block in blocks:
            flat = self.gradient[block.name].reshape(-1)
            moves = block.moves(flat.size)
            part = flat[block.start : block.stop].astype(np.float64) * moves
            eps = self._spacing(flat)
            total += float(np.sum((eps * part) ** 2))
            gradient_noise = self.gradient_noise.get(block.name)
            if gradient_noise is None:
                continue
            whole = gradient_noise.reshape(-1)
            here = whole[block.start : block.stop] * moves
            # One entry's own sample says little: the tensor's typical one stands beside it.
            typical = float(np.mean(whole**2)) * float(np.sum(moves**2))
            total += max(float(np.sum(here**2)), typical)
            together += float(np.sum(here))
        return 2 * float(np.hypot(np.sqrt(total), together))

    def _spacing(self, array: Array) -> float:
        """The relative distance of neighbouring numbers, of an array or of what is behind it."""
        own = np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps
        return (
            float(own)
            if self.target.bits is None
            else max(float(own), 2.0 ** (1 - self.target.bits))
        )

    def size_of(self, direction: SearchDirection) -> float:
        """‖g ∘ v‖: what the gradient along a line typically is."""
        return length(direction.blocks, self.gradient)

    def weight(self, name: str) -> float:
        """How much the loss changes, to first order, when a tensor changes by its own size."""
        return self.sizes[name] * self.scales[name]

    def _count_terms(self) -> Array:
        terms = self.evaluator.terms()
        self.terms = int(np.size(terms))
        return terms

    def _sample_gradient_noise(self, eps: float) -> dict[str, Array]:
        """A sample of the gradient's rounding: third differences over points close together."""
        total = {name: np.zeros(array.shape) for name, array in self.parameters.items()}
        moves = draw_moves(self.direction_over_all("all").blocks, self.parameters)
        for place, weight in zip(NEIGHBOURS, THIRD, strict=True):
            with MovedParameters(self.target, self.gradient, moves, 16 * place * eps):
                found = self.evaluator.gradient()
            for name, array in found.items():
                total[name] += weight * array
        return total


def nearest_step_exponents(
    point: EvaluationPoint,
    goal: float,
    start: tuple[int, ...],
    unit: float = 1.0,
    clear: float = NOISE_MARGIN,
) -> tuple[int, ...]:
    """The smallest steps that noise leaves clear of the goal: there the loss curves least.

    In double precision. In a shorter one they would be no smaller than where a walk begins.

    Args:
        point: where.
        goal: an error bar that is small enough.
        start: where the walk begins otherwise, and at most.
        unit: the length of step 0.
        clear: times less than the goal: what noise may leave of it.
    """
    if point.noise.relative >= DOUBLE_PRECISION_NOISE or not goal:
        return start
    step = 2 * clear * point.noise.deviation / goal / unit
    first = int(np.clip(np.ceil(2 * np.log2(max(step, 1e-300))), NEAREST_EXPONENT, start[0]))
    return first, first + 2, first + 4


def last_step_exponents(found: Sequence[Measurement]) -> tuple[int, ...]:
    """The steps that served the last line, every other one where they are dense."""
    for m in reversed(found):
        if len(m.step_exponents) > 2:
            return tuple(
                step_exponent
                for step_exponent in m.step_exponents
                if (step_exponent - m.step_exponents[-1]) % 2 == 0
            )
    return START_EXPONENTS
