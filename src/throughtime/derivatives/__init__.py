"""Numerical derivatives with error bars: no step to choose, no target and no network."""

from throughtime.derivatives.near_slopes import change_beyond_slopes
from throughtime.derivatives.noise import Noise, measure_noise, noise_of
from throughtime.derivatives.numerical import Derivative, derivative
from throughtime.derivatives.random_steps import (
    MoveResidual,
    RandomStepSlope,
    residual_over_move,
    slope_from_random_steps,
)
from throughtime.derivatives.stencil import Slope
from throughtime.derivatives.step_search import StepSearch, search_steps
from throughtime.derivatives.tolerances import (
    FEWEST_PAIRS,
    START_EXPONENTS,
    WIDEST_EXPONENT,
)
from throughtime.derivatives.values import (
    CheckError,
    FunctionValue,
    LineFunction,
    bits_of,
    decimal_digits,
    format_of,
    last_place,
    rounded,
    significant_bits,
    sum_terms,
)

__all__ = [
    "FEWEST_PAIRS",
    "START_EXPONENTS",
    "WIDEST_EXPONENT",
    "CheckError",
    "Derivative",
    "FunctionValue",
    "LineFunction",
    "MoveResidual",
    "Noise",
    "RandomStepSlope",
    "Slope",
    "StepSearch",
    "bits_of",
    "change_beyond_slopes",
    "decimal_digits",
    "derivative",
    "format_of",
    "last_place",
    "measure_noise",
    "noise_of",
    "residual_over_move",
    "rounded",
    "search_steps",
    "significant_bits",
    "slope_from_random_steps",
    "sum_terms",
]
