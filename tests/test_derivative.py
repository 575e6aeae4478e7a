"""A numerical derivative whose error bar is to be believed, and no epsilon."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import throughtime as tt
from throughtime.derivatives.stencil import stencils

SMOOTH = {
    "exp": (math.exp, 1.0, math.e),
    "log near 0": (math.log, 1e-3, 1e3),
    "sqrt": (math.sqrt, 2.0, 0.5 / math.sqrt(2)),
    "tan near its pole": (math.tan, 1.55, 1 / math.cos(1.55) ** 2),
    "fast": (lambda x: math.sin(1e6 * x), 1.0, 1e6 * math.cos(1e6)),
    "slow": (lambda x: math.sin(1e-6 * x), 1.0, 1e-6 * math.cos(1e-6)),
    "huge": (lambda x: 1e8 * math.sin(x), 2.0, 1e8 * math.cos(2.0)),
    "tiny": (lambda x: 1e-8 * math.sin(x), 2.0, 1e-8 * math.cos(2.0)),
    "at 0": (lambda x: math.sin(x), 0.0, 1.0),
    "steep far from 0": (lambda x: (x - 1e6) ** 2, 1e6 + 1, 2.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_in_double_precision(name):
    f, x, truth = SMOOTH[name]
    found = tt.derivative(f, x)
    assert found.status == "ok"
    assert abs(found.value - truth) <= 2 * found.error
    assert found.error <= 1e-7 * abs(truth)
    assert found.evaluations < 100


@pytest.mark.parametrize(
    ("f", "x", "truth", "status"),
    [
        (abs, 0.0, 0.0, "kink"),
        (lambda x: max(x, 0.0) + math.sin(x), 0.0, 1.5, "kink"),
        (lambda x: 7.0, 3.0, 0.0, "flat"),
        (math.cos, 0.0, 0.0, "ok"),
        (lambda x: x * x, 0.0, 0.0, "ok"),
        (lambda x: 100 + 1e-13 * math.sin(x), 1.0, 1e-13 * math.cos(1), "noisy"),
        (lambda x: math.nan, 1.0, math.nan, "not_finite"),
        (lambda x: 0.0 if x == 1 else math.nan, 1.0, math.nan, "not_finite"),
    ],
)
def test_status(f, x, truth, status):
    found = tt.derivative(f, x)
    assert found.status == status
    if status == "not_finite":
        assert math.isnan(found.value)
        assert found.error == math.inf
    else:
        assert abs(found.value - truth) <= found.error


def test_the_error_bar_of_a_kink_is_half_the_jump_of_the_slope():
    found = tt.derivative(lambda x: max(x, 0.0), 0.0)
    assert found.value == pytest.approx(0.5)
    assert found.error == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    "exponents",
    [(-50, -40, -34, -32, -24, 0), (-62, -60, -48, -46, -44, -32, -30, -28, -16, -14, -12, 0)],
)
def test_steps_so_far_apart_that_high_powers_are_lost_have_a_slope(exponents):
    steps = 2.0 ** (np.array(exponents) / 2)
    odd, even, noise = np.sin(steps) / steps, (np.cos(steps) - 1) / steps, 1e-16 / steps
    found = stencils(exponents).best(odd, even, noise, noise)
    assert abs(found.value - 1) <= found.error < 1e-6
    assert found.kink == 0


@pytest.mark.parametrize(("x", "dtype"), [(1.0, "float64"), (np.float32(1), "float32")])
def test_a_kink_once_seen_takes_few_more_values(x, dtype):
    """No smaller step resolves it, and no further one narrows the error bar, which is its jump."""
    found = tt.derivative(lambda x: np.exp(x) + abs(x - np.ones((), dtype)[()]), x)
    assert found.status == "kink"
    assert abs(found.value - np.e) <= found.error < 1.01
    assert found.evaluations <= 60


@pytest.mark.parametrize("kinked", [True, False])
def test_the_jump_that_may_hide_among_the_steps_spans_a_kink_that_noise_covers(kinked):
    exponents, noise = tuple(range(-22, 1)), 0.01
    steps = 2.0 ** (np.array(exponents) / 2)
    ladder, before, after, wider = stencils(exponents), [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        above, below = noise * rng.normal(size=(2, steps.size))
        middle, distance = noise * rng.normal(), 10 ** rng.uniform(-3.5, 0)
        above += kinked * np.maximum(steps - distance, 0)
        odd = (above - below) / (2 * steps) + 0.3 * steps**2
        even = (above + below - 2 * middle) / (2 * steps) + 0.5 * steps
        rounding = even, noise / np.sqrt(2) / steps, noise / steps
        found = ladder.best(odd, *rounding)
        jump = ladder.hidden_kink(found, *rounding)
        before.append(abs(found.value) / found.error)
        after.append(abs(found.value) / (found.error + jump))
        wider.append(jump / found.error)
    assert max(after) < 1.5  # of a slope of 0
    assert (max(before) > 3) == kinked
    assert kinked or np.median(wider) < 5


def test_a_kink_nearby_is_stepped_over():
    found = tt.derivative(lambda x: abs(x - 1e-7) + 3 * math.sin(x), 0.0)
    assert abs(found.value - 2.0) <= 2 * found.error
    assert found.error < 1e-5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_precision_of_the_function_is_measured(dtype):
    z = []
    for k in range(1, 60):
        x = dtype(k / 20)
        found = tt.derivative(np.sin, x)
        z.append((found.value - math.cos(float(x))) / found.error)
        assert isinstance(found.value, float)
    assert np.abs(z).max() < 3
    assert np.sqrt(np.mean(np.square(z))) < 1


def bfloat16(x):
    bits = np.float32(x).view(np.uint32)
    return float((np.uint32(bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32))


def test_a_loss_in_bfloat16():
    found = tt.derivative(lambda x: bfloat16(3 * math.exp(x)), 0.5)
    assert found.status == "ok"
    assert abs(found.value - 3 * math.exp(0.5)) <= 2 * found.error
    assert found.noise == pytest.approx(2.0**-6 / math.sqrt(12), rel=1.5)


def test_a_direction_over_many_entries_and_terms_summed_in_float64():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(500).astype(np.float32)
    v = rng.choice([-1.0, 1.0], 500)
    truth = float(np.cos(x.astype(np.float64)) @ v)
    terms = tt.derivative(np.sin, x, v)
    total = tt.derivative(lambda x: np.sin(x).sum(), x, v)
    assert abs(terms.value - truth) <= 2 * terms.error
    assert abs(total.value - truth) <= 2 * total.error
    assert terms.error < total.error
    assert tt.derivative(np.sin, x, 2 * v).value == pytest.approx(2 * truth, rel=1e-4)


@given(st.floats(-3, 3), st.floats(0.1, 10), st.integers(-8, 8))
def test_scales(x, frequency, decade):
    scale = 10.0**decade
    found = tt.derivative(lambda x: scale * math.sin(frequency * x), x)
    truth = scale * frequency * math.cos(frequency * x)
    assert abs(found.value - truth) <= 3 * found.error
    assert found.error <= 1e-6 * scale * frequency


def test_x_is_not_changed():
    x = np.array([1.0, 2.0])
    tt.derivative(lambda y: (y**2).sum(), x, [1.0, 0.0])
    assert x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3),), r"direction: expected an array \(3,\) like x, got none"),
        ((np.ones(3), [1, 1]), r"direction: expected the shape of x, \(3,\), got \(2,\)"),
        ((np.ones(2), [0, 0]), "direction: expected finite numbers, not all 0, got 0"),
        ((np.nan,), "x: expected finite numbers, got NaN or infinity"),
        (("a",), "x: expected a number or an array of real numbers, got <U1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tt.derivative(np.sum, *arguments)
