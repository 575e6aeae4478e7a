"""The check: right code agrees, wrong code disagrees, and what cannot be checked says why."""

import json
from time import sleep

import numpy as np
import pytest

import throughtime as tt
from throughtime.derivatives.noise import noise_of
from throughtime.gradcheck.check import check_target
from throughtime.gradcheck.verdict import discrepancy, judge
from throughtime.targets import network_target

CELLS = {
    "rnn": tt.RNN,
    "relu": lambda inputs, units: tt.RNN(inputs, units, "relu"),
    "lstm": tt.LSTM,
    "gru": tt.GRU,
}


def problem(dtype="float64", *, cell=tt.LSTM, T=7, seed=0, time="mean", scale=1.0):
    layers = [cell(3, 4), tt.Dense(4, 3)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(time=time), dtype=dtype, seed=seed)
    net.parameters *= scale
    rng = np.random.default_rng(seed)
    return net, rng.standard_normal((T, 2, 3)).astype(dtype), rng.integers(0, 3, (T, 2))


def with_gradient(net, inputs, targets, change):
    """The network's target, with `change` made to its gradient."""
    honest = network_target(net, inputs, targets)
    return tt.Target(honest.parameters, honest.loss, lambda: change(honest.gradient()), steps=7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("scale", [1.0, 0.02])
def test_right_gradients_are_never_called_wrong(name, dtype, scale):
    for seed in range(4):
        net, inputs, targets = problem(dtype, cell=CELLS[name], seed=seed, scale=scale)
        report = tt.check(net, inputs, targets, effort="quick")
        assert report.verdict in ("agree", "unresolved"), str(report)
        if scale == 1 and name != "relu":
            assert report.verdict == "agree", str(report)
        if dtype == "float64" and name != "relu":
            assert report.discrepancy < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("T", [2, 7])
def test_a_gradient_averaged_over_the_steps_is_T_minus_1_by_T_plus_1_off(dtype, T):
    net, inputs, targets = problem(dtype, T=T, time="sum")
    report = tt.check(with_gradient(net, inputs, targets, lambda g: g / T))
    assert report.verdict == "disagree"
    assert report.discrepancy == pytest.approx((T - 1) / (T + 1), rel=1e-3)
    for tensor in report.tensors.values():
        assert tensor.verdict == "disagree"
        assert tensor.discrepancy == pytest.approx((T - 1) / (T + 1), rel=1e-3)


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_a_factor_is_seen_in_every_tensor_of_a_network_that_bends_sharply(seed):
    """At points close by the slopes are other ones altogether, and off by the same factor."""
    T, B, V = 39, 2, 12
    layers = [tt.Embedding(V, 6), tt.LSTM(6, 10), tt.Dense(10, V)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(time="sum"), dtype="float64", seed=seed)
    net.parameters.flat[...] *= 8
    codes = np.random.default_rng(seed).integers(0, V, (T + 1, B))
    wrong = with_gradient(net, codes[:-1], codes[1:], lambda g: g / T)
    report = tt.check(wrong, effort="quick", diagnose=False)
    assert {tensor.verdict for tensor in report.tensors.values()} == {"disagree"}


FAULTS = {
    "sign": lambda g: -g,
    "two percent": lambda g: g * 1.02,
    "one tensor zero": lambda g: change(g, "0.U", lambda U: 0 * U),
    "transposed": lambda g: change(g, "1.W", lambda W: W[::-1]),
    "one gate": lambda g: change(g, "0.b", lambda b: np.where(np.arange(16) < 4, 0.5 * b, b)),
}


def change(gradient, name, function):
    gradient[name] = function(gradient[name])
    return gradient


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wrong_gradients_are_called_wrong(fault, dtype):
    report = tt.check(with_gradient(*problem(dtype), FAULTS[fault]))
    assert report.verdict == "disagree", str(report)


def test_only_the_wrong_tensor_is_called_wrong_and_its_worst_entry_named():
    def change_one(gradient):
        gradient["0.U"][5, 2] += 1e-3
        return gradient

    report = tt.check(with_gradient(*problem(), change_one))
    rejects = [name for name, tensor in report.tensors.items() if tensor.verdict == "disagree"]
    assert rejects == ["0.U"]
    worst = report.tensors["0.U"].worst
    assert worst.index == (5, 2)
    assert worst.gradient - worst.numerical == pytest.approx(1e-3, rel=1e-6)
    assert worst.error < 1e-9


def test_parameters_are_put_back_bit_for_bit():
    for dtype in ("float32", "float64"):
        net, inputs, targets = problem(dtype)
        before = net.parameters.flat.tobytes()
        tt.check(net, inputs, targets)
        tt.sweep(net, inputs, targets, epsilons=(1e-3, 1e-1))
        assert net.parameters.flat.tobytes() == before


def test_parameters_are_put_back_when_the_loss_fails_on_the_way():
    net, inputs, targets = problem()
    honest = network_target(net, inputs, targets)
    before = net.parameters.flat.tobytes()
    calls = iter(range(40))

    def loss():
        if next(calls) == 30:
            raise KeyboardInterrupt
        return honest.loss()

    with pytest.raises(KeyboardInterrupt):
        tt.check(tt.Target(net.parameters, loss, honest.gradient))
    assert net.parameters.flat.tobytes() == before


def test_a_large_target_is_sampled_half_where_the_gradient_is_largest():
    net = tt.Network([tt.LSTM(10, 20)], tt.MeanSquaredError(), dtype="float64")
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((3, 1, 10)), rng.standard_normal((3, 1, 20))
    report = tt.check(net, inputs, targets, entries=4)
    gradient = np.abs(net.loss_and_gradient(inputs, targets)[1]["0.U"]).ravel()
    chosen = report.tensors["0.U"].indices
    assert chosen.size == 4
    assert len(set(chosen)) == 4
    assert set(np.argsort(-gradient)[:2]) <= set(chosen)
    assert "12 of 2,480 entries one by one" in report.circumstances()
    assert tt.check(net, inputs, targets, entries=7).tensors["0.U"].indices.size == 7


def test_at_length_gives_the_same_network_on_fewer_steps():
    net, inputs, targets = problem()
    target = network_target(net, inputs, targets, lengths=np.array([7, 4]))
    shorter = target.at_length(3)
    assert shorter.steps == 3
    expected = net.evaluate(inputs[:3], targets[:3]).value
    assert np.sum(shorter.loss()) == pytest.approx(expected, rel=1e-15)
    with pytest.raises(ValueError, match="steps: expected 1 to T = 7, got 8"):
        target.at_length(8)


def test_functions_may_take_the_parameters_and_a_reset_is_called_before_each_evaluation():
    w, calls = np.array([1.0, 2.0]), []
    target = tt.Target(
        {"w": w},
        lambda p: p["w"] ** 2,
        lambda p: {"w": 2 * p["w"]},
        reset=lambda: calls.append(1),
    )
    report = check_target(target)
    assert report.verdict == "agree"
    assert len(calls) > report.evaluations


def test_a_zero_tensor_that_does_not_matter_agrees():
    w, unused = np.array([1.0]), np.zeros(3)
    parameters = {"w": w, "unused": unused}
    zero = np.zeros(3)
    target = tt.Target(parameters, lambda: float(w[0] ** 2), lambda: {"w": 2 * w, "unused": zero})
    report = tt.check(target)
    assert report.tensors["unused"].verdict == "agree"
    assert any("unused does not move the loss" in note for note in report.notes)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_tiny_and_huge_losses(scale):
    w = np.array([0.3, -2.0, 5.0])
    for factor, verdict in ((1.0, "agree"), (1.001, "disagree")):
        target = tt.Target(
            {"w": w},
            lambda: scale * np.sin(w).sum(),
            lambda factor=factor: {"w": factor * scale * np.cos(w)},
        )
        assert tt.check(target).verdict == verdict


def test_verdicts_come_from_error_bars():
    assert judge(False, 1e-3, False) == "agree"
    assert judge(False, 0.5, False) == "unresolved"
    assert judge(False, 0.5, True) == "agree"
    assert judge(True, 1e-5, False) == "disagree"


def test_noise_is_told_from_slope_and_curvature():
    rng = np.random.default_rng(0)
    x = np.arange(8) * 1e-4
    found = [
        noise_of(np.exp(x) + sigma * rng.standard_normal(8)) / sigma
        for sigma in 10.0 ** rng.uniform(-12, -7, 200)
    ]
    assert 0.7 < np.median(found) < 1.3
    assert np.quantile(found, 0.95) < 3


def test_discrepancy_of_opposites_and_of_nothing():
    g = np.array([3.0, -4.0])
    assert discrepancy(g, -g) == 1
    assert discrepancy(g, g) == 0
    assert discrepancy(0 * g, 0 * g) == 0


# --- the sweep ---


def test_the_sweep_has_a_valley_in_float32():
    found = tt.sweep(*problem("float32"), epsilons=(1e-7, 1e-5, 1e-3, 1e-2, 1.0))
    d = found.overall
    assert d[0] > 100 * d.min()
    assert d[-1] > 100 * d.min()
    assert found.best == (1e-2, d.min())
    assert set(found.tensors) == {"0.W", "0.U", "0.b", "1.W", "1.b"}
    assert str(found).splitlines()[-1].startswith("smallest overall: d = ")


def test_the_sweep_of_a_gradient_averaged_over_steps_is_flat():
    net, inputs, targets = problem(T=39, time="sum")
    found = tt.sweep(with_gradient(net, inputs, targets, lambda g: g / 39), epsilons=(1e-6, 1e-4))
    np.testing.assert_allclose(found.overall, 0.95, rtol=1e-6)


# --- what comes out ---


def test_json_holds_every_entry(tmp_path):
    report = tt.check(*problem(), entries=3)
    report.to_json(tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["version"] == 2
    assert data["verdict"] == report.verdict
    assert data["steps"] == 7
    assert data["tensors"]["0.W"]["numerical"] == report.tensors["0.W"].numerical.tolist()


def test_the_table_fits_a_terminal():
    report = tt.check(with_gradient(*problem(), lambda g: -g), entries=3)
    lines = str(report).splitlines()
    assert lines[0].startswith("DISAGREE: the gradient and the numerical one are d = 1 apart")
    assert max(map(len, lines[:8])) <= 100
    assert sum(line.split()[1:2] == ["disagree"] for line in lines) == 5


def test_in_a_narrow_terminal_each_tensor_has_two_lines():
    report = tt.check(with_gradient(*problem(), lambda g: -g), entries=3, diagnose=False)
    narrow = report.as_text(60).splitlines()
    assert max(map(len, narrow)) <= 60
    assert [line.split()[0] for line in narrow if " disagree " in line] == list(report.tensors)
    assert len(narrow) > len(str(report).splitlines())
    assert "\n".join(narrow).split() == report.as_text(100).split() == str(report).split()


# --- what cannot be checked ---

W = np.ones(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.Target({}, None, None), "parameters: expected at least one named array"),
        (
            lambda: tt.Target({"w": np.ones(2, int)}, None, None),
            r"parameters\['w'\]: expected a NumPy array of float32 or float64, got int64",
        ),
        (
            lambda: tt.Target({"w": np.broadcast_to(1.0, 2)}, None, None),
            "expected a writable array, got a read-only one; the check changes it in place",
        ),
        (
            lambda: tt.Target({"w": np.array([1, np.nan])}, None, None),
            r"parameters\['w'\]: expected finite numbers, got NaN or infinity",
        ),
        (lambda: tt.Target({"w": W}, lambda: "x", lambda: {"w": W}), "loss: expected a number"),
        (
            lambda: tt.Target({"w": W}, lambda: np.nan, lambda: {"w": W}),
            "loss: expected a finite number, got nan",
        ),
        (
            lambda: tt.Target({"w": W}, np.random.default_rng(0).random, lambda: {"w": W}),
            "loss: expected the same number at the same parameters, got 0.63.*another random draw",
        ),
        (
            lambda: tt.Target({"w": W}, lambda: 1.0, lambda: {"v": W}),
            "gradient: expected the names w, got w missing, v unknown",
        ),
        (
            lambda: tt.Target({"w": W}, lambda: 1.0, lambda: {"w": np.ones(3)}),
            r"gradient\['w'\]: expected \(2,\), got \(3,\)",
        ),
        (
            lambda: tt.Target({"w": W}, lambda: 1.0, lambda: {"w": W * np.inf}),
            r"gradient\['w'\]: expected finite numbers, got inf at",
        ),
        (
            lambda: tt.Target({"w": W}, lambda: 1.0, lambda: W),
            "gradient: expected a mapping from names, got ndarray",
        ),
    ],
)
def test_what_cannot_be_checked_says_why(make, message):
    with pytest.raises(tt.CheckError, match=message):
        tt.check(make())


def test_wrong_arguments():
    net, inputs, targets = problem()
    with pytest.raises(
        TypeError, match=r"expected a Target, or what tt\.target_of makes .*got list; wrap it"
    ):
        tt.check([1])
    with pytest.raises(TypeError, match="expected a Network, inputs, targets, got 2 things"):
        tt.check(net, inputs)
    with pytest.raises(tt.CheckError, match="entries: expected at least 1, got 0"):
        tt.check(net, inputs, targets, entries=0)
    with pytest.raises(tt.CheckError, match="effort: expected one of quick, normal, exhaustive"):
        tt.check(net, inputs, targets, effort="full")
    with pytest.raises(tt.CheckError, match="evaluations: expected at least 32, got 3"):
        tt.check(net, inputs, targets, evaluations=3)
    with pytest.raises(tt.CheckError, match="seconds: expected a positive number, got 0"):
        tt.check(net, inputs, targets, seconds=0)
    with pytest.raises(tt.CheckError, match=r"points: expected of 'as given', .*got 'there'"):
        tt.check(net, inputs, targets, points=["there"])


def of_entries(terms, gradient, *, at=(0.3, -0.4, 0.5), dtype="float64"):
    """A target of a few entries: the terms of its loss, or their sum, and its gradient."""
    w = np.array(at, dtype)
    return tt.Target({"w": w}, lambda: terms(w), lambda: {"w": gradient(w)})


def waves(w):
    """Small, however far one moves: beside 300 a float32 has few digits left for them."""
    return np.sin(9 * w) / 4096


def of_waves(w):
    return 9 * np.cos(9 * w) / 4096


def beside_300(w):
    return np.concatenate([waves(w), [300]]).astype(w.dtype)


REMEDIES = {  # what is said of the first, and obeyed in the second
    "return it unrounded": (
        of_entries(lambda w: np.round(np.sin(w).sum()), np.cos),
        of_entries(lambda w: np.sin(w).sum(), np.cos),
    ),
    "return the loss as an array of per-step terms": (
        of_entries(lambda w: beside_300(w).sum(), of_waves, dtype="float32"),
        of_entries(beside_300, of_waves, dtype="float32"),
    ),
    "compute the loss in float64": (
        of_entries(lambda w: 300 + waves(w), of_waves, dtype="float32"),
        of_entries(lambda w: 300 + waves(w), of_waves),
    ),
    "move the parameters or inputs a little": (
        of_entries(lambda w: np.maximum(w, 0) + w, lambda w: (w > 0) + 1.0, at=(0.0, 0.3)),
        of_entries(lambda w: np.maximum(w, 0) + w, lambda w: (w > 0) + 1.0, at=(0.1, 0.3)),
    ),
}


@pytest.mark.parametrize("remedy", REMEDIES)
def test_the_remedy_resolves(remedy):
    hidden, obeyed = REMEDIES[remedy]
    report = tt.check(hidden, points=["as given"])
    assert report.verdict == "unresolved"
    assert remedy in report.remedy
    assert tt.check(obeyed, points=["as given"]).verdict == "agree"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_accepted_is_no_further_off_than_the_report_says(dtype):
    """An error of about the size is measured again; what its bars then hide, the report says."""
    net, inputs, targets = problem(dtype)
    options = {"effort": "exhaustive", "points": ["as given"], "diagnose": False}
    right = tt.check(net, inputs, targets, **options)
    for name, tensor in right.tensors.items():
        verdicts = []
        for relative in tensor.smallest_error * np.array([1.0, 3.0, 30.0]):
            target = with_gradient(net, inputs, targets, off_by(relative, name))
            found = tt.check(target, **options).tensors[name]
            assert found.verdict == "disagree" or found.smallest_error >= relative
            verdicts.append(found.verdict)
        assert verdicts[-1] == "disagree"


def off_by(relative, name):
    """Changes one tensor of a gradient by so much of its norm."""

    def change(gradient):
        off = np.random.default_rng(0).standard_normal(gradient[name].shape)
        gradient[name][...] += off * relative * np.linalg.norm(gradient[name]) / np.linalg.norm(off)
        return gradient

    return change


def test_a_long_check_has_a_progress_bar(capfd):
    W = np.ones((4, 4))

    def loss():
        sleep(0.08)  # 2 s in all: no bar is drawn sooner
        return (W**2).sum()

    for shown in (True, False):
        target = tt.Target({"W": W}, loss, lambda: {"W": 2 * W})
        tt.check(target, progress=shown, evaluations=32)
        assert ("losses" in capfd.readouterr().err) == shown


def test_a_budget_that_ends_before_anything_is_measured_says_so():
    W = np.ones((4, 4))

    def loss():
        sleep(0.02)
        return (W**2).sum()

    report = tt.check(tt.Target({"W": W}, loss, lambda: {"W": 2 * W}), seconds=0.05)
    assert report.verdict == "unresolved"
    first, second, _, _, row, *_ = str(report).splitlines()
    assert first == "UNRESOLVED: no derivative was measured"
    assert "0 of 1 tensors as a whole" in second
    assert row.split() == ["W", "unresolved", "—", "—"]


def test_a_mask_is_not_ignored():
    masked = np.ma.array(np.ones(3), mask=[0, 1, 0])
    with pytest.raises(tt.CheckError, match="expected an array without a mask, got a masked one"):
        tt.Target({"W": masked}, lambda: 0.0, dict)


def test_a_difference_is_in_proportion_to_a_slope_that_is_known_alone():
    """In a chaotic network the numerical slope is lost, and any gradient is all of its difference.

    A right LSTM with a projection, T = 56 and weights above 1 was accused by it.
    """
    from types import SimpleNamespace

    from throughtime.gradcheck.confirmation import _sizes, _steady

    def found(gradients, slopes, error):
        pairs = zip(gradients, slopes, strict=True)
        return [
            SimpleNamespace(residual=g - n, gradient=g, numerical=n, error=error) for g, n in pairs
        ]

    chaotic = found([-3e11, 7e9, 2e10, -5e8], [0.04, -1.0, 3.0, 0.2], 2e9)
    assert not any(map(_steady, _sizes(chaotic)))
    factor = found([39.0, 4.2, -8.0, 77.0], [1.0, 0.105, -0.2, 1.9], 1e-4)
    assert any(map(_steady, _sizes(factor)))


def test_one_entry_that_cannot_be_resolved_hides_no_others():
    """d is what the wrong entries show, and not what one direction over the tensor happens to."""
    rng = np.random.default_rng(3)
    w, a = rng.standard_normal(12), rng.standard_normal(12)
    wrong = np.where(np.arange(12) < 8, 1.1, 1.0)

    def loss():
        noise = 1e-3 * np.modf(1e9 * w[11])[0]  # comes as soon as the last entry moves
        return float(np.sum(a * np.sin(w)) + noise)

    right = a * np.cos(w)
    g = right * wrong
    true = np.linalg.norm(g - right) / (np.linalg.norm(g) + np.linalg.norm(right))
    for seed in range(4):
        target = tt.Target({"w": w}, loss, lambda: {"w": a * np.cos(w) * wrong})
        found = tt.check(target, seed=seed, diagnose=False)
        assert found.tensors["w"].verdict == "disagree"
        for d in (found.tensors["w"].discrepancy, found.discrepancy):
            assert 0.7 * true < d < 1.1 * true  # some of the wrong entries may be left unmeasured


def test_the_overall_resolution_is_of_tensors_that_move_the_loss():
    """The mean is taken off: the gradient of b is rounding alone, and it agrees all the same."""
    rng = np.random.default_rng(0)
    W, b, x = rng.standard_normal((3, 4)), rng.standard_normal(3), rng.standard_normal((9, 4))

    def outputs():
        z = x @ W.T + b
        return z - z.mean(axis=0)

    def gradient():
        dz = 2 * outputs()
        dz -= dz.mean(axis=0)
        return {"W": dz.T @ x, "b": dz.sum(axis=0)}

    report = tt.check(tt.Target({"W": W, "b": b}, lambda: (outputs() ** 2).sum(), gradient))
    assert report.verdict == "agree"
    assert report.tensors["b"].smallest_error > 0.1
    assert report.smallest_error == report.tensors["W"].smallest_error < 1e-6
