"""Where is it wrong: located entries, stretches, points, budgets; parameters always put back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus as implementations
import throughtime as tt
from benchmarks.check import cases, growth
from throughtime.targets import network_target


def smooth(shape, dtype="float64", *, seed=0, weight=0.3, factor=1.0):
    """Parameters A and b, a smooth loss of all of them, and its gradient."""
    rng = np.random.default_rng(seed)
    A = (weight * rng.standard_normal(shape)).astype(dtype)
    b = (weight * rng.standard_normal(shape[0])).astype(dtype)
    slope_A, slope_b = rng.standard_normal(shape), rng.standard_normal(shape[0])
    slope_A, slope_b = slope_A.astype(dtype), slope_b.astype(dtype)

    def loss():
        return factor * ((np.sin(A) * slope_A).sum(axis=1) + np.sin(b) * slope_b)

    def gradient():
        scaled = dtype_of(dtype)(factor)
        return {"A": scaled * np.cos(A) * slope_A, "b": scaled * np.cos(b) * slope_b}

    return tt.Target({"A": A, "b": b}, loss, gradient)


def dtype_of(name):
    return np.dtype(name).type


def changed(target, change):
    """The target with its gradient of A changed in place by `change`."""

    def gradient():
        found = target.gradient()
        change(found["A"], np.sqrt(np.mean(np.square(found["A"]))))
        return found

    return tt.Target(target.parameters, target.loss, gradient, gates=target.gates)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 40)),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 1000),
    st.sampled_from([1e-8, 1.0, 1e8]),
    st.sampled_from([1e-3, 0.3, 3.0]),
)
@settings(max_examples=25)
def test_right_gradients_of_any_shape_and_scale_are_not_called_wrong(
    shape, dtype, seed, factor, weight
):
    report = tt.check(smooth(shape, dtype, seed=seed, factor=factor, weight=weight), effort="quick")
    assert report.verdict != "disagree", str(report)
    if dtype == "float64":
        assert report.verdict == "agree", str(report)


@given(st.integers(0, 1000), st.sampled_from(["quick", "normal"]))
@settings(max_examples=10)
def test_one_wrong_entry_among_many_is_named(seed, effort):
    rng = np.random.default_rng(seed)
    place = (int(rng.integers(200)), int(rng.integers(50)))

    def change(A, rms):
        A[place] += 0.01 * rms

    report = tt.check(changed(smooth((200, 50), seed=seed), change), effort=effort, seed=seed)
    assert report.verdict == "disagree"
    assert [worst.index for worst in report.tensors["A"].wrong] == [place]
    assert report.tensors["b"].verdict == "agree"
    assert report.evaluations < 200


def test_several_wrong_entries_are_all_named():
    places = {(3, 4), (3, 5), (77, 1), (150, 49)}

    def change(A, rms):
        for place in places:
            A[place] *= -1

    report = tt.check(changed(smooth((200, 50)), change))
    assert {worst.index for worst in report.tensors["A"].wrong} == places


def test_two_entries_that_cancel_are_seen():
    def change(A, rms):
        A[0, 0] += rms
        A[120, 30] -= rms

    for seed in range(5):
        report = tt.check(changed(smooth((200, 50)), change), effort="quick", seed=seed)
        assert report.verdict == "disagree"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda A, rms: np.multiply(A, 1.1, out=A),
            "A: wrong throughout: all 6 entries checked are",
        ),
        (lambda A, rms: np.negative(A[100:], out=A[100:]), "A: wrong throughout rows 100–199"),
    ],
)
def test_what_is_wrong_throughout_is_said_so(change, words):
    report = tt.check(changed(smooth((200, 50)), change))
    assert report.verdict == "disagree"
    assert any(words in note for note in report.notes), report.notes
    assert report.tensors["A"].wrong


def test_tensors_of_widely_different_scales():
    small, large = np.full((9, 9), 1e-6), np.full((9, 9), 1e6)
    x = np.random.default_rng(0).standard_normal((9, 9))

    def target(factor):
        return tt.Target(
            {"small": small, "large": large},
            lambda: np.sin(1e6 * small * x) + np.sin(1e-6 * large * x),
            lambda: {
                "small": factor * 1e6 * x * np.cos(1e6 * small * x),
                "large": 1e-6 * x * np.cos(1e-6 * large * x),
            },
        )

    assert tt.check(target(1), points=["as given"]).verdict == "agree"
    report = tt.check(target(1.001), points=["as given"])
    assert report.tensors["small"].verdict == "disagree"
    assert report.tensors["large"].verdict == "agree"


# --- points ---


def network(scale, dtype="float64"):
    net = tt.Network([tt.LSTM(3, 4), tt.Dense(4, 3)], tt.SoftmaxCrossEntropy(), dtype=dtype, seed=0)
    net.parameters *= scale
    rng = np.random.default_rng(0)
    return net, rng.standard_normal((7, 2, 3)).astype(dtype), rng.integers(0, 3, (7, 2))


def test_points_are_named_and_parameters_put_back():
    net, inputs, targets = network(0.02)
    before = net.parameters.flat.tobytes()
    report = tt.check(net, inputs, targets)
    assert [p.name for p in report.points] == ["as given", "characteristic", "T = 1", "T = 2"]
    assert [p.steps for p in report.points] == [7, 7, 1, 2]
    assert net.parameters.flat.tobytes() == before
    only = tt.check(net, inputs, targets, points=["as given"])
    assert [p.name for p in only.points] == ["as given"]
    assert only.evaluations < report.evaluations


def test_what_small_weights_hide_agrees_at_the_characteristic_point():
    net, inputs, targets = network(1e-3, "float32")
    given_only = tt.check(net, inputs, targets, points=["as given"])
    assert given_only.verdict == "unresolved"
    assert given_only.remedy
    report = tt.check(net, inputs, targets)
    assert report.verdict == "agree"
    assert any("agrees at the characteristic point" in note for note in report.notes)


def test_a_fault_that_only_large_weights_show_is_found():
    w = np.full(5, 1e-9)
    target = tt.Target({"w": w}, lambda: np.sin(w), lambda: {"w": np.ones(5)})
    assert tt.check(target, points=["as given"]).verdict == "agree"
    report = tt.check(target)
    assert report.verdict == "disagree"
    assert [p.verdict for p in report.points] == ["agree", "disagree"]


def test_after_a_disagreement_no_further_point_is_looked_at_and_that_is_said():
    net, inputs, targets = network(0.02)
    honest = network_target(net, inputs, targets)
    doubled = tt.Target(
        honest.parameters,
        honest.loss,
        lambda: {name: 2 * g for name, g in honest.gradient().items()},
        at_length=honest.at_length,
    )
    report = tt.check(doubled)
    assert [point.name for point in report.points] == ["as given"]
    assert "The gradient disagrees as given, so no other point was checked." in report.notes
    assert not any("further point" in note for note in tt.check(doubled, points=["as given"]).notes)


def test_a_clean_bill_takes_few_evaluations():
    report = tt.check(smooth((400, 100)))
    assert report.verdict == "agree"
    assert report.evaluations <= 100
    assert report.smallest_error < 1e-4


def test_further_points_leave_a_clean_bill_within_a_hundred_evaluations():
    report = tt.check(growth.network(10_000, seed=0), diagnose=False)
    assert report.verdict == "agree"
    names = ["as given", "characteristic", "T = 1", "T = 2"]
    assert [point.name for point in report.points] == names
    assert report.evaluations <= 100
    assert max(point.floor for point in report.points) < 1e-5


def test_as_given_moves_no_small_weight_far_before_the_gradient_is_known():
    """Float32 terms that a float64 constant multiplies hardly see a small move."""
    w = np.full(4, 1e-3, dtype="float32")
    seen = []

    def loss():
        seen.append(float(np.abs(w - np.float32(1e-3)).max()))
        return np.float64(0.3) * np.float32(1 + np.float32(1e-3) * np.sin(w).sum(dtype="f4"))

    target = tt.Target({"w": w}, loss, lambda: {"w": np.float32(3e-4) * np.cos(w)})
    tt.check(target, points=["as given"])
    assert max(seen[:10]) < 1e-2


# --- budgets, and what goes wrong on the way ---


@pytest.mark.parametrize("evaluations", [32, 35, 150, 500])
def test_a_budget_is_kept_and_what_it_does_not_reach_is_never_accepted(evaluations):
    count = []
    honest = smooth((200, 50))

    def loss():
        count.append(1)
        return honest.loss()

    target = tt.Target(honest.parameters, loss, honest.gradient)
    report = tt.check(target, evaluations=evaluations)
    assert report.evaluations == len(count) <= evaluations
    if evaluations <= 35:
        assert report.verdict == "unresolved"
        assert "allow more evaluations" in report.remedy


def test_seconds_end_a_check():
    report = tt.check(smooth((200, 50)), effort="exhaustive", seconds=0.3)
    assert report.evaluations < 2 * (200 * 50 + 200)  # those of each entry alone
    assert report.verdict == "unresolved"
    assert "allow more evaluations or seconds" in report.remedy


@pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("calls", [15, 40, 60])
def test_parameters_are_put_back_whatever_happens(problem, calls):
    honest = smooth((20, 5), "float32")
    before = {name: array.tobytes() for name, array in honest.parameters.items()}
    left = iter(range(calls))

    def loss():
        if next(left, None) is None:
            raise problem
        return honest.loss()

    with pytest.raises(problem):
        tt.check(tt.Target(honest.parameters, loss, honest.gradient))
    assert {name: array.tobytes() for name, array in honest.parameters.items()} == before


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_kink_is_reported_and_not_called_wrong(dtype):
    w = np.array([0.0, 0.3, -0.4], dtype)
    target = tt.Target(
        {"w": w}, lambda: np.maximum(w, 0) + np.sin(w), lambda: {"w": (w > 0) + np.cos(w)}
    )
    report = tt.check(target, points=["as given"])
    assert report.verdict != "disagree"
    assert any("has a kink here" in note for note in report.notes)


@pytest.mark.parametrize(
    ("cell", "seed", "setting"),
    [
        ("GRU", 1, {"states": True}),
        ("RNN", 0, {"init": 0.01, "time": "sum", "batch": "sum"}),
        ("RNN", 2, {"init": 0.01}),
        ("GRU", 2, {"init": 0.01, "time": "sum"}),
    ],
)
def test_no_kink_is_reported_where_a_smooth_loss_bends_or_is_rounded(cell, seed, setting):
    right = implementations.make(
        "compiled", cell, dtype="float32", seed=seed, **cases.LARGER, **setting
    )
    report = tt.check(right, diagnose=False)
    assert report.verdict != "disagree"
    assert not any("kink" in note for note in report.notes)


def relu_at_small_weights(seed):
    return implementations.make(
        "concatenated",
        "RNN",
        dtype="float32",
        init=0.01,
        activation="relu",
        seed=seed,
        **cases.LARGER,
    )


def test_kinks_beyond_steps_that_noise_covers_reject_nothing():
    report = tt.check(relu_at_small_weights(16), points=["as given"], diagnose=False)
    assert report.verdict != "disagree"


@pytest.mark.parametrize("name", ["W1", "b1", "Wy", "by"])
def test_kinks_beyond_steps_that_noise_covers_hide_no_mistake(name):
    right = relu_at_small_weights(11)
    wrong = tt.Target(
        right.parameters,
        right.loss,
        lambda: {n: g * (2 if n == name else 1) for n, g in right.gradient().items()},
    )
    report = tt.check(wrong, points=["as given"], diagnose=False)
    assert report.tensors[name].verdict != "agree"
    assert report.verdict == "disagree"


# --- rounded losses ---


def test_a_loss_rounded_to_a_tenth_rejects_nothing():
    w = np.array([1.0, 2.0, 3.0])
    report = tt.check(
        tt.Target({"w": w}, lambda: np.round((w**2).sum(), 1), lambda: {"w": 2 * w}),
        points=["as given"],
    )
    assert report.verdict == "agree"  # by moves that cross many of its treads
    assert 1e-6 < report.tensors["w"].floor < 0.02
    assert report.noise == pytest.approx(0.1 / np.sqrt(12), rel=2)


def softmax_loss(seed, T=4, classes=3, hidden=5):
    """A small float32 network whose weights hardly reach the loss: tanh, softmax, one number."""
    rng = np.random.default_rng(seed)
    W = np.float32(0.01) * rng.standard_normal((hidden, 3), dtype="f4")
    V = np.float32(0.01) * rng.standard_normal((classes, hidden), dtype="f4")
    x = rng.standard_normal((T, 3)).astype("f4")
    labels = rng.integers(0, classes, T)

    def forward():
        h = np.tanh(x @ W.T)
        logits = h @ V.T
        weights = np.exp(logits)
        return h, weights / weights.sum(axis=1, keepdims=True)

    def loss():
        return np.mean(-np.log(forward()[1][np.arange(T), labels]), dtype="f4")

    def gradient():
        h, p = forward()
        p[np.arange(T), labels] -= 1
        p /= np.float32(T)
        return {"W": ((p @ V) * (1 - h**2)).T @ x, "V": p.T @ h}

    return tt.Target({"W": W, "V": V}, loss, gradient)


@pytest.mark.parametrize(
    ("cell", "setting"),
    [("GRU", {"task": "regression", "root": True}), ("LSTM", {"decay": 0.05})],
)
def test_the_noise_of_float32_is_known_where_weights_are_small(cell, setting):
    """Each of them was called wrong when it was taken for half or a third of what it is."""
    sizes = cases.SMALL | {"init": 0.01, "seed": 1} | setting
    short, exact = (
        implementations.make("compiled", cell, dtype=dtype, **sizes)
        for dtype in ("float32", "float64")
    )
    report = tt.check(short, diagnose=False)
    assert report.verdict in ("agree", "unresolved")
    rng, off = np.random.default_rng(0), []
    at = {name: array.copy() for name, array in short.parameters.items()}
    for _ in range(200):
        for name, array in short.parameters.items():
            array[...] = at[name] * (1 + 0.1 * rng.standard_normal(array.shape))
            exact.parameters[name][...] = array
        off.append(np.sum(short.loss(), dtype=np.float64) - np.sum(exact.loss()))
    assert 0.6 < report.noise / np.std(off) < 1.6


def test_a_loss_whose_rounding_hides_small_weights_rejects_nothing():
    for seed in range(20):
        report = tt.check(softmax_loss(seed), points=["as given"])
        assert report.verdict != "disagree", (seed, str(report))
        assert not any("kink" in note for note in report.notes), (seed, report.notes)


def test_calibration():
    """Hundreds of entries and directions: as good as none beyond the threshold of rejection."""
    z = []
    for seed in range(12):
        for dtype in ("float32", "float64"):
            scale = 1.0 if seed % 2 else 0.05
            net, inputs, targets = network(scale, dtype)
            net.parameters.flat[...] += (
                scale
                * 0.1
                * np.random.default_rng(seed)
                .standard_normal(net.parameters.flat.size)
                .astype(dtype)
            )
            report = tt.check(net, inputs, targets, points=["as given"], entries=200)
            for tensor in report.tensors.values():
                z += list((tensor.gradient - tensor.numerical) / tensor.errors)
                z += [(d.gradient - d.numerical) / d.error for d in tensor.directions]
    z = np.abs(z)
    assert z.size > 3000
    assert np.mean(z > 3) <= 0.001
    assert 0.05 < np.sqrt(np.mean(z**2)) < 1
