"""`tt.derivative`: a numerical derivative with an error bar, and no epsilon to choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.derivatives.noise import Noise, measure_noise
from throughtime.derivatives.random_steps import slope_from_random_steps
from throughtime.derivatives.stencil import Slope, stencils
from throughtime.derivatives.step_search import StepSearch, search_steps
from throughtime.derivatives.tolerances import (
    DIFFERENT_BARS,
    FEWEST_PAIRS,
    FORMAT_PROBES,
    KNOWN_PART,
    ROUGH_RATIO,
    STAIRS_RATIO,
)
from throughtime.derivatives.values import FunctionValue, LineFunction, sum_terms

Status = Literal["ok", "flat", "kink", "noisy", "rough", "not_finite"]


@dataclass(frozen=True)
class Derivative:
    """A numerical derivative and how far it may be off.

    Attributes:
        value: the derivative of f along the direction.
        error: its error bar: two standard deviations of the noise, what the curve of f may have
            added, and at a kink half the jump of the slope.
        step: the distance of the farthest points that it comes from, in units of the direction.
        evaluations: how often f was called.
        status: "ok": the value is known to at least a tenth, or it is 0 compared with how
            much f varies over the step. "flat": f does not change at any step. "kink": the
            slopes on the left and on the right differ; the value is their mean. "noisy": the
            rounding of f hides the value. "rough": f curves at every step, however small, at which
            it exceeds its rounding. "not_finite": f is NaN or infinite here or all around;
            the value is NaN.
        order: the truncation error grows as stepᵒʳᵈᵉʳ.
        noise: the standard deviation of the rounding error of f, as measured.
    """

    value: float
    error: float
    step: float
    evaluations: int
    status: Status
    order: int
    noise: float


def derivative(f: Callable[[Any], Any], x: Any, direction: Any = None) -> Derivative:
    """The derivative of f at x along a direction, with an error bar.

    The noise of f is measured. The steps and the order are those at which noise and truncation
    together are smallest; the steps are rounded to what x's own precision can hold.

    Args:
        f: called as f(x) with x moved. It returns a number, or an array of terms, which are
            summed in float64: that loses fewer digits.
        x: a number or an array, float16, float32 or float64; it is not changed.
        direction: an array of the shape of x; its length counts, as in ∇f·direction. It is not
            needed for a single number.

    Raises:
        ValueError: for x without a direction where it has several entries; for another shape;
            for a direction of zeros; for NaN.

    Example:
        >>> import math
        >>> import throughtime as tt
        >>> found = tt.derivative(math.exp, 1.0)
        >>> abs(found.value - math.e) <= found.error < 1e-11
        True
        >>> tt.derivative(abs, 0.0).status
        'kink'

    The noise is measured after Moré and Wild, "Estimating computational noise", SIAM J. Sci.
    Comput. 33 (2011).
    """
    origin, direction = _arguments(x, direction)
    calls = _CountedCalls(f, origin, direction, isinstance(x, int | float))
    value_at_0 = calls.at(0.0).value
    if not np.isfinite(value_at_0):
        return Derivative(np.nan, np.inf, 0.0, calls.count, "not_finite", 0, np.nan)
    size = np.sqrt(np.mean(origin.astype(np.float64)[direction != 0] ** 2)) or 1.0
    unit = float(size / np.abs(direction).max())
    far = tuple(calls.at(part * unit).value for part in FORMAT_PROBES)
    ulp = 2.0 ** np.floor(np.log2(np.finfo(origin.dtype).eps * size)) / size
    noise = measure_noise(
        lambda part: calls.at(part * unit), ulp, calls.rounding, (value_at_0, *far)
    )
    search, found = _search_past_stairs(calls.at, value_at_0, noise, unit)
    if found is None:
        return Derivative(np.nan, np.inf, 0.0, calls.count, "not_finite", 0, noise.deviation)
    step = search.step(search.step_exponents[found.last])
    error = found.error + 2 * calls.off_line_error(step) * abs(found.value)
    return Derivative(
        found.value,
        error,
        step,
        calls.count,
        _status(search, found, error),
        found.order,
        noise.deviation,
    )


def _search_past_stairs(
    function: LineFunction, value_at_0: float, noise: Noise, unit: float
) -> tuple[StepSearch, Slope | None]:
    """A step search and its slope, repeated with more noise where longer steps contradict it.

    A function that is rounded on the way climbs in stairs. Steps within one of them give another
    slope, or none, and it looks exact.
    """
    search = StepSearch(function, value_at_0, noise, unit)
    found = search_steps(search)
    if found is None:
        return search, found
    step = search.step(search.step_exponents[found.last])
    far = tuple(
        exponent
        for exponent in search.step_exponents
        if search.step(exponent) >= STAIRS_RATIO * step
    )
    if len(far) < FEWEST_PAIRS:
        return search, found
    other = stencils(far).best(*search.quotients(far))
    apart = abs(other.value - found.value) > DIFFERENT_BARS * (other.error + found.error)
    if not apart or other.error > KNOWN_PART * abs(other.value):
        return search, found
    rough = slope_from_random_steps(function, value_at_0, search.step(far[other.last]), seed=0)
    if not np.isfinite(rough.error):
        return search, found
    search = StepSearch(function, value_at_0, replace(noise, deviation=rough.deviation), unit)
    return search, search_steps(search)


def _arguments(x: Any, direction: Any) -> tuple[Array, Array]:
    origin = np.asarray(x)
    if origin.dtype.kind in "iu":
        origin = origin.astype(np.float64)
    if origin.dtype.kind != "f":
        refuse("x", "a number or an array of real numbers", origin.dtype)
    if not np.isfinite(origin).all():
        refuse("x", "finite numbers", "NaN or infinity")
    if direction is None:
        if origin.size != 1:
            refuse("direction", f"an array {origin.shape} like x", "none")
        direction = np.ones(origin.shape)
    direction = np.asarray(direction, dtype=np.float64)
    if direction.shape != origin.shape:
        refuse("direction", f"the shape of x, {origin.shape}", direction.shape)
    if not np.isfinite(direction).all() or not direction.any():
        refuse(
            "direction", "finite numbers, not all 0", "NaN or infinity" if direction.any() else "0"
        )
    return origin, direction


class _CountedCalls:
    """f along a line; counts the calls. Steps are those realised, projected on the direction."""

    def __init__(
        self, f: Callable[[Any], Any], origin: Array, direction: Array, scalar: bool
    ) -> None:
        self.f, self.origin, self.direction, self.scalar = f, origin, direction, scalar
        self.count = 0
        self.rounding = 0.0
        self._square = float(np.sum(direction**2))

    def at(self, step: float) -> FunctionValue:
        """f at the nearest step that x's precision can hold; NaN where it has no finite value."""
        place, moved = self._moved(step)
        realised = float(np.sum(moved * self.direction)) / self._square
        if not np.isfinite(moved).all():
            return FunctionValue(realised, np.nan, np.nan)
        self.count += 1
        value, rounding = sum_terms(lambda: self.f(place.item() if self.scalar else place[()]))
        self.rounding = max(self.rounding, rounding if step == 0 else 0.0)
        return FunctionValue(realised, value, value)

    def off_line_error(self, step: float) -> float:
        """How far rounding takes a place off the line, relative to the step."""
        _, moved = self._moved(step)
        realised = np.sum(moved * self.direction) / self._square
        off = np.linalg.norm(moved - realised * self.direction)
        return float(off / (abs(realised) * np.sqrt(self._square)))

    def _moved(self, step: float) -> tuple[Array, Array]:
        """The nearest place that x's own precision can hold, and its distance from x in float64."""
        with np.errstate(over="ignore", invalid="ignore"):
            wanted = self.origin + step * self.direction
            place = np.asarray(wanted).astype(self.origin.dtype)
            return place, np.asarray(place.astype(np.float64) - self.origin)


def _status(search: StepSearch, found: Slope, error: float) -> Status:
    if search.at_kink(found):
        return "kink"
    values = [value for pair in search.pairs.values() for value in pair[2:]]
    if all(value == search.value_at_0 for value in values):
        return "flat"
    varied = max(
        abs(v - search.value_at_0) for v in search.pairs[search.step_exponents[found.last]][2:]
    )
    steepness = varied / search.step(search.step_exponents[found.last])
    if error <= KNOWN_PART * max(abs(found.value), steepness):
        return "ok"
    return "rough" if found.truncation + found.kink > ROUGH_RATIO * found.noise else "noisy"
