"""Optimisers against torch.optim in float64, and clipping."""

import math

import numpy as np
import pytest

import throughtime as tt
from throughtime.training import SGD, Adam, AdamW, clip

OURS = {
    "SGD": (lambda n, dtype="float64": SGD(n, dtype, momentum=0.9), "SGD", {"momentum": 0.9}),
    "SGD without momentum": (lambda n, dtype="float64": SGD(n, dtype, momentum=0), "SGD", {}),
    "Adam": (Adam, "Adam", {}),
    "Adam, other betas": (
        lambda n, dtype="float64": Adam(n, dtype, betas=(0.7, 0.9), epsilon=1e-3),
        "Adam",
        {"betas": (0.7, 0.9), "eps": 1e-3},
    ),
    "AdamW": (
        lambda n, dtype="float64": AdamW(n, dtype, weight_decay=0.05),
        "AdamW",
        {"weight_decay": 0.05},
    ),
}


def gradients(size, updates, seed=0):
    """Gradients of very different sizes, some of them 0."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-6, 4, size)
    drawn = rng.standard_normal((updates, size)) * scale
    return np.where(rng.random((updates, size)) < 0.1, 0, drawn)


@pytest.mark.parametrize("name", OURS)
def test_many_updates_are_those_of_torch(name, oracle):
    torch = pytest.importorskip("torch")
    make, theirs, options = OURS[name]
    start = np.random.default_rng(1).standard_normal(50)
    ours, truth = start.copy(), torch.tensor(start, requires_grad=True)
    own = make(50, dtype="float64")
    other = getattr(torch.optim, theirs)([truth], lr=1.0, **options)
    for update, gradient in enumerate(gradients(50, 300)):
        rate = 0.01 * (1 + math.cos(update / 30))  # a schedule on both sides
        own.update(ours, gradient, rate)
        other.param_groups[0]["lr"] = rate
        truth.grad = torch.tensor(gradient)
        other.step()
    oracle("parameters", ours, truth.detach().numpy())


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_optimiser_goes_on_from_its_state_to_the_bit(name, dtype):
    make = OURS[name][0]
    whole, before, after = (make(20, dtype=dtype) for _ in range(3))
    a = np.ones(20, dtype)
    b = a.copy()
    for update, gradient in enumerate(gradients(20, 10).astype(dtype)):
        if update == 4:
            after.restore({n: array.copy() for n, array in before.state().items()})
        whole.update(a, gradient, 0.01)
        (before if update < 4 else after).update(b, gradient, 0.01)
    assert a.tobytes() == b.tobytes()
    assert a.dtype == dtype
    assert all(array.dtype == dtype for array in whole.arrays.values())


def test_a_state_of_another_optimiser_or_size_is_refused():
    with pytest.raises(ValueError, match=r"optimiser: .*m, v, updates, got"):
        Adam(3).restore(SGD(3).state())
    with pytest.raises(ValueError, match=r"optimiser: m: expected \(3,\), got \(4,\)"):
        Adam(3).restore(Adam(4).state())
    with pytest.raises(TypeError, match="optimiser: v: expected float32, got float64"):
        SGD(3).restore(SGD(3, "float64").state())
    with pytest.raises(ValueError, match=r"optimiser: updates: expected one int64, got \(2,\)"):
        SGD(3).restore(SGD(3).state() | {"updates": np.array([1, 2])})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(3, momentum=1.0), "momentum: expected a number from 0 to below 1, got 1.0"),
        (lambda: Adam(3, betas=(0.9, -1)), "beta 2: expected a number from 0 to below 1, got -1"),
        (lambda: Adam(3, epsilon=0), "epsilon: expected a number above 0, got 0"),
        (lambda: AdamW(3, weight_decay=-1), "weight_decay: expected a number of at least 0"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_keeps_the_direction_and_reports_both_norms(dtype):
    gradient = tt.Parameters({"W": (3, 4), "b": (5,)}, dtype)
    gradient.flat[...] = np.random.default_rng(0).standard_normal(17)
    before = gradient.copy()
    norms = clip(gradient, 0.5)
    assert norms.before == before.norm() > 0.5
    assert norms.after == gradient.norm() == pytest.approx(0.5, rel=1e-6)
    cosine = gradient.dot(before) / gradient.norm() / before.norm()
    assert cosine == pytest.approx(1, rel=1e-6)
    assert gradient.dtype == dtype


@pytest.mark.parametrize("largest", [None, 6.0, 5.0])
def test_a_short_gradient_is_not_touched(largest):
    gradient = tt.Parameters({"W": (2,)}, "float64")
    gradient["W"] = [3.0, 4.0]
    assert clip(gradient, largest) == (5.0, 5.0)
    assert gradient["W"].tolist() == [3.0, 4.0]


def test_clipping_refuses_what_it_cannot_scale():
    gradient = tt.Parameters({"W": (2,)}, "float64")
    with pytest.raises(ValueError, match="clip: expected a norm above 0, or None, got 0"):
        clip(gradient, 0)
    gradient["W"] = [np.inf, 1.0]
    with pytest.raises(ValueError, match="gradient: expected a finite norm, got inf"):
        clip(gradient, 1.0)


@pytest.mark.parametrize("kind", [Adam, SGD])
def test_parameters_of_another_precision_or_size_are_refused_with_the_way_out(kind):
    optimiser, eight = kind(3), np.ones(3)
    words = rf"{kind.__name__}: parameters: expected float32, \(3,\), got float64, \(3,\); "
    with pytest.raises(ValueError, match=words + rf'{kind.__name__}\(3, "float64"\)'):
        optimiser.update(eight, eight, 0.1)
    with pytest.raises(ValueError, match=r"gradient: expected float32, \(3,\), got float32, \(2"):
        optimiser.update(np.ones(3, "f"), np.ones(2, "f"), 0.1)
    assert optimiser.updates == 0
