"""The flow of gradients in closed form: networks at rest are linear, and all is known of them."""

import json

import numpy as np
import pytest

import throughtime as tt
from flow_examples import at_rest, gru_at_rest, lstm_at_rest, rnn_at_rest
from helpers import relative_error
from throughtime.gradient_flow import analyse

T, B, H = 40, 3, 4
RNG = np.random.default_rng(0)
TARGETS = RNG.standard_normal((T, B, H))


def symmetric(eigenvalues, seed=0):
    """A symmetric matrix with these eigenvalues, and its eigenvectors."""
    n = len(eigenvalues)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    return Q @ np.diag(eigenvalues) @ Q.T, Q


def lags(found, part="h"):
    """Norms by lag where all lags exist, (L,), of the last end point."""
    return found.top.norms[part][-1]


def test_lag_norms_of_a_linear_network():
    eigenvalues = np.array([0.9, -0.7, 0.5, 0.1])
    U, Q = symmetric(eigenvalues)
    net = rnn_at_rest(U)
    x, y, dh = at_rest(net, TARGETS)
    found = tt.flow(net, x, y)
    projected = dh @ Q
    truth, spread = np.zeros((T, T)), np.zeros((T, T))
    for t in range(T):
        for k in range(t + 1):
            norms = np.linalg.norm(projected[t] * eigenvalues ** (t - k), axis=1)
            truth[t, k], spread[t, t - k] = norms.mean(), norms.std()
    assert relative_error(found.lag_norms, truth) < 1e-10
    assert relative_error(np.tril(np.nan_to_num(found.top.spread["h"])), spread) < 1e-7
    profile = [np.diagonal(truth, -lag).mean() for lag in range(T)]
    assert relative_error(found.top.profile["h"], profile) < 1e-10


@pytest.mark.parametrize("way", ["batched", "lag by lag"])
def test_a_gradient_of_1e_60_is_exact_in_float32(way, monkeypatch):
    if way == "lag by lag":
        monkeypatch.setattr(analyse, "can_batch", lambda run, ends: False)
    net = rnn_at_rest(0.03125 * np.eye(H), "float32")
    x, y, dh = at_rest(net, TARGETS)
    found = tt.flow(net, x, y)
    truth = np.linalg.norm(dh[-1], axis=1).mean() * 2.0 ** (-5 * np.arange(T))
    assert truth[-1] < 1e-58
    assert np.abs(lags(found) / truth - 1).max() < 1e-6


@pytest.mark.parametrize("way", ["batched", "lag by lag"])
def test_a_gradient_of_1e60_is_exact_in_float32(way, monkeypatch):
    if way == "lag by lag":
        monkeypatch.setattr(analyse, "can_batch", lambda run, ends: False)
    net = rnn_at_rest(32 * np.eye(H), "float32")
    x, y, dh = at_rest(net, TARGETS)
    found = tt.flow(net, x, y, spectrum=False)
    truth = np.linalg.norm(dh[-1], axis=1).mean() * 2.0 ** (5 * np.arange(T))
    assert np.abs(lags(found) / truth - 1).max() < 1e-6


def test_lyapunov_spectrum_and_singular_values_of_a_linear_network():
    eigenvalues = np.array([0.9, -0.5, 0.2, 0.05])
    U, _ = symmetric(eigenvalues)
    net = rnn_at_rest(U)
    x, y, _ = at_rest(net, np.tile(TARGETS, (5, 1, 1)))
    layer = tt.flow(net, x, y, max_lag=3).top
    assert np.allclose(layer.lyapunov.exponents, np.log(np.abs(eigenvalues)), rtol=1e-10, atol=0)
    assert abs(layer.lyapunov.half_life / (-np.log(2) / np.log(0.9)) - 1) < 1e-10
    assert layer.lyapunov.drift < 1e-10
    assert layer.lyapunov.spread.max() < 1e-10
    assert np.abs(layer.singular_values / np.abs(eigenvalues) - 1).max() < 1e-10


def test_lyapunov_spectrum_of_a_matrix_that_is_not_normal():
    U = np.triu(np.full((H, H), 2.0), 1) + np.diag([0.1, 0.9, 0.3, 0.6])
    net = rnn_at_rest(U)
    x, y, _ = at_rest(net, np.tile(TARGETS, (10, 1, 1)))
    layer = tt.flow(net, x, y, max_lag=3).top
    assert np.abs(layer.lyapunov.exponents / np.log([0.9, 0.6, 0.3, 0.1]) - 1).max() < 1e-10
    assert layer.singular_values[0, 0] > 3  # a step stretches what many steps forget


I_GATE, F_GATE, O_GATE = (np.array(v) for v in ([0.3, 0.6], [0.9, 0.5], [0.4, 0.8]))
U_A = np.array([0.7, -0.9])


def test_carousel_of_an_lstm_in_closed_form():
    net = lstm_at_rest(I_GATE, F_GATE, O_GATE, U_A)
    x, y, dh = at_rest(net, TARGETS[..., :2])
    found = tt.flow(net, x, y)
    through = I_GATE * O_GATE * U_A
    lag = np.arange(T)[:, None]
    dc = [dh * O_GATE * ((F_GATE + through) ** n) for n in range(T)]
    for n in (0, 1, 7, T - 1):
        norms = np.linalg.norm(dc[n][n:], axis=2)
        assert relative_error(found.top.norms["c"][n:, n], norms.mean(axis=1)) < 1e-10
    ends = np.unique(np.linspace(0, T - 1, 32).astype(int))
    energy = [((dh * O_GATE)[ends[ends >= n]] ** 2).sum(axis=(0, 1)) for n in range(T)]
    whole = (F_GATE + through) ** lag
    carry, gates = F_GATE**lag, np.where(lag == 0, 0, through**lag)
    for name, part in (("carry", carry), ("gates", gates), ("both", whole - carry - gates)):
        shares = [(e * p * w).sum() / (e * w**2).sum()
                  for e, p, w in zip(energy, part, whole, strict=True)]  # fmt: skip
        assert np.abs(found.top.paths[name] - shares).max() < 1e-10
    assert np.abs(sum(found.top.paths.values()) - 1).max() < 1e-10
    assert found.carousel_share[0] == 1
    assert np.abs(found.top.time_constants * -np.log(F_GATE) - 1).max() < 1e-10
    assert list(found.top.units_that_remember(5)) == [0]


def test_the_half_life_of_an_lstm_is_that_of_its_full_state():
    """∂h_t/∂h_{t−1} at fixed c says 0.3 steps; the network keeps for 65."""
    f = np.array([2 ** (-1 / 65)])
    i = o = np.array([0.5])
    through = 2 ** (-1 / 0.3)  # i o u, what is left of h in h where c stands still
    u = np.array([through / 0.25])
    f = f - through
    net = lstm_at_rest(i, f, o, u)
    x, y, _ = at_rest(net, TARGETS[..., :1])
    found = tt.flow(net, x, y)
    assert abs(found.top.lyapunov.half_life / 65 - 1) < 1e-10
    assert abs(found.top.decay.half_life / 65 - 1) < 1e-10
    assert found.top.singular_values.shape[1] == 2  # h and c


def test_carousel_of_a_gru_in_closed_form():
    r, z, u = np.array([0.3, 0.8]), np.array([0.9, 0.4]), np.array([1.2, -0.7])
    net = gru_at_rest(r, z, u)
    x, y, dh = at_rest(net, np.broadcast_to(TARGETS[:1, :1, :2], (2 * T, B, 2)))
    found = tt.flow(net, x, y)
    through = (1 - z) * r * u
    n = np.arange(2 * T)[:, None]
    e, whole = dh[0, 0] ** 2, (z + through) ** n
    truth = np.linalg.norm(dh[0, 0] * whole, axis=1)
    assert relative_error(lags(found), truth) < 1e-10
    share = (e * z**n * whole).sum(axis=1) / (e * whole**2).sum(axis=1)
    assert np.abs(found.carousel_share - share).max() < 1e-10
    exponents = np.sort(np.log(np.abs(z + through)))[::-1]
    assert np.abs(found.top.lyapunov.exponents / exponents - 1).max() < 1e-10
    assert np.abs(found.top.time_constants * -np.log(z) - 1).max() < 1e-10


def test_truncation_bias_in_closed_form():
    """At rest only the bias has a gradient: Σ_l Σ_t≥l (Uᵀ)ˡ δh_t."""
    net = rnn_at_rest(0.8 * np.eye(H))
    x, y, _ = at_rest(net, np.broadcast_to(TARGETS[:1], (T, B, H)))
    found = tt.flow(net, x, y)
    by_lag = (T - np.arange(T)) * 0.8 ** np.arange(T)
    truth = [by_lag[K:].sum() / by_lag.sum() for K in found.bias.steps]
    assert np.abs(found.bias.relative - truth).max() < 1e-10
    assert np.abs(found.bias.bound - truth).max() < 1e-10  # all lags point one way
    shares = np.add.reduceat(by_lag, found.share_lags[:-1]) / by_lag.sum()
    assert np.abs(found.shares["0.b"]["s"] - shares).max() < 1e-10
    advice = found.advice.truncation
    assert (
        advice.steps
        == advice.safe
        == next(K for K, r in zip(found.bias.steps, truth, strict=True) if r <= 0.1)
    )
    assert advice.upper == pytest.approx(advice.relative)  # all sequences alike


def test_truncation_beyond_the_lags_seen():
    net = rnn_at_rest(0.9 * np.eye(H))
    x, y, _ = at_rest(net, np.broadcast_to(TARGETS[:1], (400, B, H)))
    found = tt.flow(net, x, y, max_lag=10, tolerance=0.05)
    assert found.advice.truncation.extrapolated
    exact = np.log(0.05) / np.log(0.9)  # of an endless run
    assert exact - 3 < found.advice.truncation.steps < exact + 4
    assert "estimate" in str(found)


def test_an_exploding_network():
    net = rnn_at_rest(np.diag([1.2, 0.1, 0.1, 0.1]))
    x, y, _ = at_rest(net, np.broadcast_to([[[1.0, 0, 0, 0]]], (T, B, H)))
    found = tt.flow(net, x, y)
    assert found.verdict == "exploding"
    assert found.top.decay.grows_at == 13  # 1.2^13 = 10.7
    assert "at lag 13 the gradient is 10 times" in found.reason
    assert found.top.decay.rate == pytest.approx(1.2, rel=1e-10)
    assert found.top.lyapunov.half_life == np.inf


def test_a_vanishing_network():
    net = rnn_at_rest(0.5 * np.eye(H))
    x, y, _ = at_rest(net, TARGETS)
    found = tt.flow(net, x, y, memory=20)
    assert found.verdict == "vanishing"
    assert found.top.decay.falls_at == 7
    assert "but lag 20 is needed" in found.reason
    assert tt.flow(net, x, y, memory=6).verdict == "healthy"


def test_dead_units():
    net = rnn_at_rest(0.9 * np.eye(H))
    net.parameters["0.b"][:2] = 50
    x, y, _ = at_rest(net, TARGETS)
    found = tt.flow(net, x, y)
    assert found.verdict == "dead"
    assert list(np.flatnonzero(found.top.dead)) == [0, 1]
    assert "2 of 4 units" in found.reason


def test_a_run_whose_loss_is_no_number_is_refused():
    net = tt.Network([tt.RNN(2, H, "relu")], tt.MeanSquaredError(), dtype="float32", seed=0)
    net.parameters["0.U"] = np.full((H, H), 1e20)
    said = r"a run whose loss is finite, got (inf|nan); tt\.first_nonfinite"
    with pytest.raises(ValueError, match=said):
        tt.flow(net, np.ones((9, 2, 2), "f"), np.ones((9, 2, H), "f"))


def test_without_a_gradient_there_is_no_advice_on_its_size():
    net = tt.Network([tt.RNN(2, H, "relu")], tt.MeanSquaredError(), dtype="float64")
    net.parameters["0.b"] = np.full(H, -99)
    found = tt.flow(net, np.ones((9, 2, 2)), np.zeros((9, 2, H)), clip=1.0)
    assert found.verdict == "dead"
    assert found.advice.clipping is None
    assert "nan" not in str(found)
    assert "there is no gradient to compare with" in str(found)


def test_dead_relu():
    net = tt.Network([tt.RNN(2, H, "relu")], tt.MeanSquaredError(), dtype="float64")
    net.parameters["0.b"] = [-99, -99, -99, 1]
    rng = np.random.default_rng(0)
    found = tt.flow(net, rng.standard_normal((9, 2, 2)), rng.standard_normal((9, 2, H)))
    assert list(np.flatnonzero(found.top.dead)) == [0, 1, 2]
    assert found.verdict == "dead"


def test_closed_output_gates_are_dead_and_open_forget_gates_are_not():
    gates = np.array([0.5, 0.5])
    tiny = 1e-9
    net = lstm_at_rest(gates, np.array([0.5, 1 - tiny]), np.array([tiny, 0.5]), U_A)
    x, y, _ = at_rest(net, TARGETS[..., :2])
    found = tt.flow(net, x, y)
    assert list(found.top.dead) == [True, False]
    assert found.top.gates["f"].open == 0.5
    assert list(found.top.gates["o"].stuck) == [True, False]
    assert list(found.top.units_that_remember(1e6)) == [1]


def test_json(tmp_path):
    net = lstm_at_rest(I_GATE, F_GATE, O_GATE, U_A)
    x, y, _ = at_rest(net, TARGETS[..., :2])
    found = tt.flow(net, x, y)
    found.to_json(tmp_path / "flow.json")
    read = json.loads((tmp_path / "flow.json").read_text())
    assert read["version"] == 1
    assert read["verdict"] == found.verdict
    assert np.allclose(read["layers"]["0"]["profile"]["c"], found.top.profile["c"], rtol=1e-12)
