"""One point of the parameters, with the gradient there: where directions are measured."""

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
    DirectionBlock,
    MovedParameters,
    SearchDirection,
    draw_moves,
    inner_product,
    scales_of,
    typical_product,
)
from throughtime.gradcheck.target import Evaluator, Target
from throughtime.gradcheck.tolerances import (
    BENT_RATIO,
    BLOWN_UP_RATIO,
    DOUBLE_PRECISION_NOISE,
    FORMAT_PROBE,
    NEAREST_EXPONENT,
    NOISE_MARGIN,
    ROUNDED_LOSS,
    SIMILAR_SCALES,
)

NEIGHBOURS = (-1.5, -0.5, 0.5, 1.5)  # · 16 units in the last place
THIRD = np.array([-1.0, 3.0, -3.0, 1.0]) / np.sqrt(20)  # keeps the deviation of equal noises


@dataclass(frozen=True)
class Measurement:
    """The slope of the loss along a line, and the gradient's.

    Attributes:
        direction: what was measured.
        gradient: g·v of the gradient under test.
        numerical: the numerical derivative.
        error: their common error bar; infinite where there is no numerical derivative.
        rounding: the part of it that is due to the rounding of the gradient.
        slope: the numerical derivative with the parts of its error.
        step_exponents: the exponents of the steps that the slope comes from.
        flat: whether the loss did not change at any step.
        stairs: whether the loss was the same at two neighbouring steps.
        at_kink: whether the loss has a kink here that dominates the error bar.
        hidden_kink: by how much the error bar must be widened to span kinks that may hide among
            the steps; 0 where gradient and slope agree anyway.
        valley: for a direction over whole tensors: farthest steps, noise and truncation there.
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
        """Gradient minus numerical derivative."""
        return self.gradient - self.numerical

    @property
    def z(self) -> float:
        """The size of the residual in error bars."""
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
    """The point at which a target's parameters stand, and what is known there.

    Args:
        target: its parameters are moved in place and put back, bit for bit.
        gradient: the gradient under test.
        budget: counts and limits the evaluations.
        seed: random seed for what is drawn.
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
        self.own_noise: dict[str, float] = {}  # by tensor, where the loss has more along it
        self.rounded_inside = False  # whether moves showed more rounding than the values' digits do
        self.unknown_change: dict[str, float] = {}  # of the loss along it, where no slope is known
        self.gradient_noise: dict[str, Array] = {}
        self.terms = 1
        self.loss = np.nan

    def survey(self, known: EvaluationPoint | None = None) -> None:
        """Measures the loss, its noise, and the noise of the gradient.

        Args:
            known: the same code at another point. In double precision, where noise is far below
                the errors in question, it is assumed to be as large here, relative to the loss.

        Raises:
            Spent: when the budget is used up.
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
        slope = inner_product(blocks, self.gradient)
        self.noise = measure_noise(function, float(eps), rounding, others, slope)
        self.gradient_noise = self._sample_gradient_noise(float(eps))

    def nearby(self, gradient: dict[str, Array]) -> EvaluationPoint:
        """The nearby point at which the parameters stand now.

        Sizes and noise are assumed to be those of this point.

        Raises:
            Spent: when the budget is used up.
        """
        other = copy(self)
        other.evaluator, other.gradient = Evaluator(self.target), gradient
        self.budget.take()
        other.loss = other.evaluator.loss()
        return other

    def portable(self) -> EvaluationPoint:
        """A copy that can be sent to another process: without the progress bar."""
        other = copy(self)
        other.budget = Budget(deadline=self.budget.deadline)
        return other

    def direction_over_all(self, label: str, number: int = 0) -> SearchDirection:
        """A direction over all tensors.

        All entries move by the same typical length, so that the mean square of a product is the
        squared length over all of them. Where tensors differ widely in size, each moves in
        proportion to its own, so that none of them hides another.
        """
        sizes = self.scales.values()
        middle = float(np.median(list(sizes)))
        alike = max(sizes) < SIMILAR_SCALES * min(sizes)
        blocks = tuple(
            DirectionBlock(
                name,
                0,
                array.size,
                # Arrays of equal shapes make different moves.
                self.seed + number + crc32(name.encode(errors="surrogatepass")),
                middle if alike else self.scales[name],
            )
            for name, array in self.parameters.items()
        )
        return SearchDirection(label, blocks, 1.0, START_EXPONENTS)

    def measure(self, direction: SearchDirection, last: int = WIDEST_EXPONENT) -> Measurement:
        """The slope of the loss along a line, with its error bar.

        Args:
            direction: what to measure.
            last: the exponent of the longest step.

        Raises:
            Spent: when the budget is used up.
        """
        gradient = inner_product(direction.blocks, self.gradient)
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
            error += bent  # it bends at every step: the residuals of one fit are a rough guide
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

    def _moves_whole_tensors(self, blocks: tuple[DirectionBlock, ...]) -> bool:
        """Whether all of each tensor moves."""
        return all(b.start == 0 and b.stop == self.parameters[b.name].size for b in blocks)

    def loss_along(self, blocks: tuple[DirectionBlock, ...]) -> LineFunction:
        """The loss along a direction: takes a step, gives the realised step and the loss there.

        Rounding takes a place off the line by some last digits; the change of the loss that the
        gradient predicts for these is subtracted. The loss is NaN where it is not finite.
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
        self, blocks: tuple[DirectionBlock, ...]
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
                        slope = inner_product(blocks, self.evaluator.gradient())
                except (ValueError, ArithmeticError):  # CheckError is one
                    slope = np.nan
            return self._value(moved, value), slope

        return at

    def _value(self, moved: MovedParameters, value: float) -> FunctionValue:
        """The loss after a move; NaN where it has blown up, since nothing can be fitted to it."""
        if not abs(value) <= BLOWN_UP_RATIO * max(abs(self.loss), 1.0):
            return FunctionValue(moved.realised, np.nan, np.nan)
        return FunctionValue(moved.realised, value - moved.off_line_error, value)

    @property
    def in_double_precision(self) -> bool:
        """Whether all parameters are held in float64."""
        return all(array.dtype == np.float64 for array in self.parameters.values())

    @property
    def coarse(self) -> bool:
        """Whether the loss is rounded more than single precision does, or more than it shows."""
        size = max(abs(self.loss), *map(self.weight, self.parameters))  # a loss may be near 0
        loudest = max([self.noise.deviation, *self.own_noise.values()])
        few_digits = max(loudest / size if size else 0.0, self.noise.digits) > ROUNDED_LOSS
        return few_digits or self.rounded_inside

    @property
    def scatters(self) -> bool:
        """Whether the loss is coarsely rounded, or scatters along a tensor more than it shows."""
        return self.coarse or bool(self.own_noise)

    def learn_noise(self, blocks: tuple[DirectionBlock, ...], deviation: float) -> None:
        """Notes how much noise the loss has along these tensors; others may have less."""
        for block in blocks:
            self.own_noise[block.name] = max(deviation, self.own_noise.get(block.name, 0.0))

    def noise_along(self, blocks: tuple[DirectionBlock, ...]) -> Noise:
        """The noise of the loss where these blocks move."""
        own = max(self.own_noise.get(block.name, 0.0) for block in blocks)
        return replace(self.noise, deviation=max(own, self.noise.deviation))

    def rounding(self, blocks: tuple[DirectionBlock, ...]) -> float:
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
            # One entry's own sample says little, so the tensor's typical one counts too.
            typical = float(np.mean(whole**2)) * float(np.sum(moves**2))
            total += max(float(np.sum(here**2)), typical)
            together += float(np.sum(here))
        return 2 * float(np.hypot(np.sqrt(total), together))

    def _spacing(self, array: Array) -> float:
        """The relative spacing of numbers in an array, or in the shorter format behind it."""
        own = np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps
        return (
            float(own)
            if self.target.bits is None
            else max(float(own), 2.0 ** (1 - self.target.bits))
        )

    def size_of(self, direction: SearchDirection) -> float:
        """‖g ∘ v‖: the typical size of the gradient along a line."""
        return typical_product(direction.blocks, self.gradient)

    def weight(self, name: str) -> float:
        """By how much the loss changes, to first order, when a tensor changes by its own size."""
        return self.sizes[name] * self.scales[name]

    def _count_terms(self) -> Array:
        terms = self.evaluator.terms()
        self.terms = int(np.size(terms))
        return terms

    def _sample_gradient_noise(self, eps: float) -> dict[str, Array]:
        """A sample of the gradient's rounding: third differences over neighbouring points."""
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
    """The smallest steps at which noise is well below the goal: there the loss curves least.

    This holds in double precision. In a shorter one they would be no smaller than `start`.

    Args:
        point: where.
        goal: an error bar that is small enough.
        start: the steps that a search begins with otherwise, which are also the largest result.
        unit: the length of the step with exponent 0.
        clear: how many times smaller than the goal the noise must be.
    """
    if point.noise.relative >= DOUBLE_PRECISION_NOISE or not goal:
        return start
    step = 2 * clear * point.noise.deviation / goal / unit
    first = int(np.clip(np.ceil(2 * np.log2(max(step, 1e-300))), NEAREST_EXPONENT, start[0]))
    return first, first + 2, first + 4


def last_step_exponents(found: Sequence[Measurement]) -> tuple[int, ...]:
    """The steps that served the last measurement, every other one where they are dense."""
    for m in reversed(found):
        if len(m.step_exponents) > 2:
            return tuple(
                step_exponent
                for step_exponent in m.step_exponents
                if (step_exponent - m.step_exponents[-1]) % 2 == 0
            )
    return START_EXPONENTS
