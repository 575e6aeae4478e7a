"""The engine's sigmoid and tanh against NumPy in a wider type, over the whole range.

tests/native/test_activations.cpp looks at every float32 there is; this is its dense sample.
"""

import numpy as np
import pytest

from engine_examples import ENGINE
from throughtime import _engine

BOUND = {"float32": 2, "float64": 4}  # units in the last place
WIDER = {"float32": np.float64, "float64": np.longdouble}
BITS = {"float32": np.uint32, "float64": np.uint64}


def true_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


FUNCTIONS = {"sigmoid": true_sigmoid, "tanh": np.tanh}


pytestmark = pytest.mark.usefixtures("each_isa")


def call(name, x):
    y = np.empty_like(x)
    getattr(_engine, name)(x, y)
    return y


def points(dtype):
    """All magnitudes, the ranges where the functions bend, and where their exponent changes."""
    rng = np.random.default_rng(1)
    info = np.finfo(dtype)
    exponents = rng.uniform(info.minexp - info.nmant, 3, 20_000)
    kinds = [
        np.exp2(exponents),
        np.exp2(rng.uniform(-30, 10, 20_000)),
        rng.uniform(0, 3, 20_000),
        rng.uniform(0, 40, 20_000),
        rng.uniform(-info.minexp * 0.69, (info.nmant - info.minexp) * 0.7, 10_000),  # subnormal σ
        (rng.integers(0, 200, 10_000) + 0.5) * np.log(2) / 2 * (1 + rng.normal(0, 1e-5, 10_000)),
    ]
    x = np.concatenate(kinds).astype(dtype)
    any_bits = rng.integers(0, np.iinfo(BITS[dtype]).max, 20_000, BITS[dtype]).view(dtype)
    return np.concatenate([x, -x, any_bits[np.isfinite(any_bits)]])


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_within_a_few_units_in_the_last_place(name, dtype, record_property):
    x = points(dtype)
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name](x.astype(WIDER[dtype]))
        magnitude = np.abs(exact).astype(dtype)
        unit = np.minimum(np.spacing(magnitude), np.spacing(np.nextafter(magnitude, magnitude * 0)))
    error = np.abs(call(name, x) - exact) / unit
    record_property(f"{ENGINE}, {name} in {dtype}, units in the last place", float(error.max()))
    assert error.max() <= BOUND[dtype], x[error.argmax()]


@pytest.mark.parametrize("dtype", BOUND)
def test_special_values_are_those_of_numpy(dtype):
    info = np.finfo(dtype)
    positive = [
        0,
        info.smallest_subnormal,
        3 * info.smallest_subnormal,
        info.tiny,
        1,
        info.max,
        np.inf,
    ]
    x = np.array([*positive, *(-np.array(positive, dtype)), np.nan, -np.nan], dtype)
    with np.errstate(all="ignore"):
        expected = {
            "sigmoid": true_sigmoid(x.astype(WIDER[dtype])).astype(dtype),
            "tanh": np.tanh(x.astype(WIDER[dtype])).astype(dtype),
        }
    for name in FUNCTIONS:
        y = call(name, x)
        exact = ~np.isin(np.abs(x), [1])  # where no rounding enters
        assert np.array_equal(y[exact], expected[name][exact], equal_nan=True), name
        numbers = ~np.isnan(x)
        assert np.array_equal(np.signbit(y)[numbers], np.signbit(expected[name])[numbers]), name


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_element_does_not_depend_on_its_place_or_neighbours(name, dtype):
    x = np.random.default_rng(2).normal(0, 3, 70).astype(dtype)
    whole = call(name, x)
    for count in range(1, 70):
        assert call(name, x[:count].copy()).tobytes() == whole[:count].tobytes()
    x[::3] = np.nan
    y = call(name, x)
    assert np.isnan(y[::3]).all()
    kept = np.arange(70) % 3 > 0
    assert y[kept].tobytes() == whole[kept].tobytes()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_sizes_are_refused(name):
    with pytest.raises(ValueError, match="one size"):
        getattr(_engine, name)(np.zeros(3), np.zeros(4))
