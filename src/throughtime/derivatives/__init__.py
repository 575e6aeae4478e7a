"""Numerical derivatives with error bars: no step to choose, no target and no network."""

from throughtime.derivatives.noise import Noise, measure, noise_of
from throughtime.derivatives.numerical import Derivative, derivative
from throughtime.derivatives.random_steps import Integrated, Scattered, integrated, scattered
from throughtime.derivatives.stencil import Slope
from throughtime.derivatives.step_search import Walk, walk
from throughtime.derivatives.tolerances import (
    FEWEST_PAIRS,
    START_EXPONENTS,
    WIDEST_EXPONENT,
)
from throughtime.derivatives.values import (
    Along,
    CheckError,
    Value,
    bits_of,
    decimal_digits,
    format_of,
    last_place,
    of_terms,
    rounded,
    significant_bits,
)

__all__ = [
    "FEWEST_PAIRS",
    "START_EXPONENTS",
    "WIDEST_EXPONENT",
    "Along",
    "CheckError",
    "Derivative",
    "Integrated",
    "Noise",
    "Scattered",
    "Slope",
    "Value",
    "Walk",
    "bits_of",
    "decimal_digits",
    "derivative",
    "format_of",
    "integrated",
    "last_place",
    "measure",
    "noise_of",
    "of_terms",
    "rounded",
    "scattered",
    "significant_bits",
    "walk",
]
