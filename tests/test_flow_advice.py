"""What the flow advises: truncation, clipping, memory."""

import numpy as np
import pytest

import throughtime as tt
from flow_examples import at_rest, lstm_at_rest, rnn_at_rest
from throughtime.gradient_flow import result
from throughtime.gradient_flow.advice import data_memory
from throughtime.gradient_flow.verdict import decay


def copying(lag, steps=60, batch=16, classes=4, seed=0):
    """Class indices, and as targets those of `lag` steps before."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, classes, (steps + lag, batch))
    return x[lag:], x[:steps]


@pytest.mark.parametrize("lag", [1, 10, 40])
def test_the_memory_of_a_copying_problem(lag):
    x, y = copying(lag)
    assert data_memory(x, y, 50, np.random.default_rng(0)) == lag


def test_the_memory_of_unrelated_data_is_none():
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((50, 8, 3)), rng.integers(0, 4, (50, 8))
        found.append(data_memory(x, y, 40, rng))
    assert sum(one is not None for one in found) <= 6


def test_advice_on_the_initialisation():
    x, y = copying(20)
    net = tt.Network([tt.LSTM(4, 8), tt.Dense(8, 4)], tt.SoftmaxCrossEntropy(), seed=0)
    found = tt.flow(net, x, y)
    assert (found.advice.memory, found.advice.memory_from) == (20, "data")
    (one,) = found.advice.initialisation
    assert one.needed
    assert one.forget_bias == pytest.approx(np.log(19))
    assert "chrono=20" in str(found)
    first, *others = found.advice.sentences  # what remembers comes before what truncates
    assert "Start with LSTM(…, chrono=20)" in first
    assert any("the data need 20 steps" in sentence for sentence in others)
    better = tt.Network([tt.LSTM(4, 16, chrono=80), tt.Dense(16, 4)], tt.SoftmaxCrossEntropy())
    (one,) = tt.flow(better, x, y).advice.initialisation
    assert not one.needed
    assert "chrono=" not in str(tt.flow(better, x, y))
    assert tt.flow(net, x, y, memory=7).advice.memory_from == "given"


def test_clipping():
    net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((100, 4, 2)), rng.standard_normal((100, 4, 3))
    found = tt.flow(net, x, y, k2=5, clip=1e-9)
    clipping = found.advice.clipping
    assert clipping.window == 5
    assert clipping.binds == 1
    assert "binds in 100% of them" in str(found)
    state, norms = None, []
    for begin in range(0, 100, 5):
        part = slice(begin, begin + 5)
        norms.append(net.loss_and_gradient(x[part], y[part], state=state)[1].norm())
        state = net.run(x[part], state).state
    assert np.allclose(clipping.norms, norms, rtol=1e-12)
    assert clipping.threshold == pytest.approx(np.quantile(norms, 0.9))
    assert tt.flow(net, x, y, lengths=np.full(4, 100)).advice.clipping is None


def test_the_upper_rate_of_a_noisy_profile_is_above_the_truth():
    above = 0
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(0, 0.1, 40)
        found = decay(0.9 ** np.arange(40) * np.exp(noise))
        above += found.upper >= 0.9
    assert above >= 185


def bias_at(net, x, y, K):
    """The relative bias of following every loss K steps back."""
    _, full = net.loss_and_gradient(x, y)
    _, short = tt.truncated_loss_and_gradient(net, x, y, k1=1, k2=K)
    return (short - full).norm() / full.norm()


def test_the_advised_truncation_holds_on_other_data():
    """In at least 95 % of the runs the bias on new data of the kind stays below what was asked."""
    held = []
    for seed in range(40):
        x, y = copying(5, steps=40, batch=32, seed=2 * seed)
        net = tt.Network([tt.LSTM(4, 6), tt.Dense(6, 4)], tt.SoftmaxCrossEntropy(), seed=seed)
        found = tt.flow(net, x, y, tolerance=0.1, spectrum=False, carousel=False)
        K = found.advice.truncation.steps
        assert bias_at(net, x, y, K) == pytest.approx(found.advice.truncation.relative, rel=1e-3)
        new = copying(5, steps=40, batch=32, seed=2 * seed + 1)
        held.append(bias_at(net, *new, K) <= 0.1)
    assert np.mean(held) >= 0.95


def test_no_truncation_where_all_lags_count():
    net = rnn_at_rest(np.eye(2))
    x, y, _ = at_rest(net, np.ones((30, 2, 2)))
    found = tt.flow(net, x, y, tolerance=0.001)
    assert found.advice.truncation.steps == 30  # the run itself
    found = tt.flow(net, x, y, max_lag=5)
    assert found.advice.truncation.steps is None
    assert "Differentiate whole sequences" in str(found)


def test_the_text_begins_with_verdict_and_advice():
    net = lstm_at_rest(*np.full((3, 2), 0.5), np.array([0.2, 0.3]))
    x, y, _ = at_rest(net, np.random.default_rng(0).standard_normal((30, 2, 2)))
    lines = str(tt.flow(net, x, y, memory=20)).splitlines()
    assert lines[0].startswith("VANISHING: layer 0 (LSTM): from lag")
    advice = lines[lines.index("") + 1]
    assert advice.startswith("- Layer 0: 0% of the units remember for 20 steps.")
    assert any(line.startswith("  along c alone") for line in lines)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [3, 30, 1100])
@pytest.mark.parametrize("scale", [1e-30, 1.0])
def test_no_line_is_longer_than_100_columns(scale, steps, batch):
    rng = np.random.default_rng(0)
    net = tt.Network([tt.GRU(2, 4), tt.LSTM(4, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
    net.parameters["1.U"][...] *= scale
    x, y = rng.standard_normal((steps, batch, 2)), scale * rng.standard_normal((steps, batch, 3))
    printed = str(tt.flow(net, x, y, k1=2, k2=3, clip=0.25))
    assert max(map(len, printed.splitlines())) <= 100
    assert ("± over sequences" in printed) == (batch > 1)


def test_a_table_that_is_too_wide_goes_on_below():
    rows = [["name", *("c" * 18 + str(i) for i in range(7))], ["long name", *"1234567"]]
    first, second, gap, third, fourth = result._table(rows, 100)
    assert max(len(first), len(second)) <= 100
    assert gap == ""
    assert first.split() == rows[0][:5]
    assert third.split() == ["name", *rows[0][5:]]
    assert fourth == "  long name" + "5".rjust(21) + "6".rjust(21) + "7".rjust(21)
    assert second.split() == ["long", "name", *"1234"]
    wide = [["x" * 120, "a" * 99, "b"]]
    assert [line.split() for line in result._table(wide, 100)] == [
        ["x" * 120, "a" * 99],
        [],
        ["x" * 120, "b"],
    ]
