"""Numerical derivatives with error bars: no step to choose, no target and no network."""

from throughtime.derivatives.digits import (
    bits_of,
    decimal_digits,
    format_of,
    last_place,
    rounded,
    significant_bits,
)
from throughtime.derivatives.noise import Noise, noise_of
from throughtime.derivatives.numerical import Derivative, derivative
from throughtime.derivatives.odd import HEIGHT, QUANTILES, places, slope_at_0, tread
from throughtime.derivatives.scattered import Scattered, scattered
from throughtime.derivatives.stencil import FEWEST, Slope
from throughtime.derivatives.step_search import START, WIDEST, Walk, walk
from throughtime.derivatives.values import Along, CheckError, Value, of_terms

__all__ = [
    "FEWEST",
    "HEIGHT",
    "QUANTILES",
    "START",
    "WIDEST",
    "Along",
    "CheckError",
    "Derivative",
    "Noise",
    "Scattered",
    "Slope",
    "Value",
    "Walk",
    "bits_of",
    "decimal_digits",
    "derivative",
    "format_of",
    "last_place",
    "noise_of",
    "of_terms",
    "places",
    "rounded",
    "scattered",
    "significant_bits",
    "slope_at_0",
    "tread",
    "walk",
]
