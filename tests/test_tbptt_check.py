"""Truncated gradients are exact gradients of a loss whose windows begin at frozen states."""

from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from throughtime.cells import CELLS
from throughtime.gradcheck.target import Evaluator, frozen
from throughtime.network.truncation import windows
from throughtime.targets import truncated_target

WINDOWS = [(1, 1), (3, 3), (2, 5), (5, 2), (4, 7), (1, 4), (20, 20)]


def problem(cell="LSTM", *, dtype="float64", T=9, time="sum"):
    layers = [CELLS[cell](3, 4), tt.Dropout(0.3), tt.Dense(4, 3)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(time=time), dtype=dtype, seed=0)
    rng = np.random.default_rng(0)
    return net, rng.standard_normal((T, 2, 3)).astype(dtype), rng.integers(0, 3, (T, 2))


def truncated(net, inputs, targets, gradient, **options):
    """The target of a truncated gradient, given another gradient instead."""
    honest = truncated_target(net, inputs, targets, **options)
    return replace(honest, gradient=gradient, at_length=None)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("k1", "k2"), WINDOWS)
def test_truncated_gradients_agree(cell, k1, k2):
    net, inputs, targets = problem(cell)
    effort = "normal" if cell == "LSTM" else "quick"
    report = tt.check(net, inputs, targets, k1=k1, k2=k2, points=("as given",), effort=effort)
    assert report.verdict == "agree", str(report)
    assert report.discrepancy < 1e-8


def test_every_point_has_states_of_its_own():
    report = tt.check(*problem(), k1=2, k2=3)
    assert [point.verdict for point in report.points] == len(report.points) * ["agree"]
    assert len(report.points) >= 4


def test_float32_a_state_lengths_and_dropout():
    net, inputs, targets = problem(dtype="float32", time="mean")
    state = net.zero_state(2)
    state.flat[...] = np.random.default_rng(1).standard_normal(state.flat.size)
    options = {"state": state, "lengths": np.array([9, 4]), "dropout_seed": 3}
    report = tt.check(net, inputs, targets, k1=2, k2=3, **options)
    assert report.verdict == "agree", str(report)


@pytest.mark.parametrize("cell", CELLS)
def test_full_bptt_given_as_truncated_disagrees(cell):
    net, inputs, targets = problem(cell)
    full = truncated(net, inputs, targets, lambda: net.loss_and_gradient(inputs, targets)[1], k1=3)
    report = tt.check(full, effort="quick")
    assert report.verdict == "disagree"
    assert report.tensors["2.W"].verdict == "agree"  # the head has no past


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("k1", "k2"), [(3, 3), (2, 5), (4, 1)])
@pytest.mark.parametrize("off", ["one step longer", "one step shorter", "begun a step late"])
def test_windows_that_are_one_step_off_disagree(cell, k1, k2, off):
    net, inputs, targets = problem(cell)

    def other(k1, k2):
        return tt.truncated_loss_and_gradient(net, inputs, targets, k1=k1, k2=k2)[1]

    if off == "one step shorter" and k2 == 1:
        return
    gradient = {
        "one step longer": lambda: other(k1, k2 + 1),
        "one step shorter": lambda: other(k1, k2 - 1),
        "begun a step late": lambda: other(k1 + 1, k2),
    }[off]
    target = truncated(net, inputs, targets, gradient, k1=k1, k2=k2)
    assert tt.check(target, effort="quick").verdict == "disagree"


def test_the_surrogate_has_the_runs_own_losses():
    net, inputs, targets = problem()
    for k1, k2 in WINDOWS:
        target = truncated_target(net, inputs, targets, k1=k1, k2=k2)
        value = net.evaluate(inputs, targets)
        counted = np.concatenate([np.arange(w.first, w.stop) for w in windows(9, k1, k2)])
        np.testing.assert_allclose(
            target.loss(), (value.weights * value.terms)[counted], rtol=1e-13
        )


def test_at_length():
    net, inputs, targets = problem()
    target = truncated_target(net, inputs, targets, k1=2, k2=3, lengths=np.array([9, 6]))
    assert target.at_length(5).steps == 5
    assert tt.check(target.at_length(5)).verdict == "agree"
    with pytest.raises(ValueError, match="steps: expected 1 to T = 9, got 10"):
        target.at_length(10)


def test_what_cannot_be_truncated():
    net, inputs, targets = problem()
    with pytest.raises(TypeError, match="k2: expected k1 beside it"):
        tt.check(net, inputs, targets, k2=3)
    with pytest.raises(ValueError, match="k1: expected an integer of at least 1, got 0"):
        tt.check(net, inputs, targets, k1=0)
    both = tt.Network([tt.RNN(3, 2, bidirectional=True)], tt.MeanSquaredError())
    with pytest.raises(ValueError, match="expected layers that run in one direction"):
        tt.check(both, inputs.astype("f"), np.zeros((9, 2, 4), "f"), k1=3)


# --- any other target ---


class Own:
    """s_t = tanh(U s_{t−1} + W x_t), L = Σ |s_t|²/2, as someone writes it."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.p = {"W": rng.standard_normal((3, 2)), "U": rng.standard_normal((3, 3))}
        self.x = rng.standard_normal((7, 2))
        self.s = np.zeros((8, 3))  # written by every run

    def run(self, p, start=0, stop=7, state=None):
        self.s[start] = 0 if state is None else state
        for t in range(start, stop):
            self.s[t + 1] = np.tanh(p["U"] @ self.s[t] + p["W"] @ self.x[t])
        return self.s

    def carried(self, p):
        s = self.run(p)
        return [s[w.start] for w in windows(7, 2, 3)]

    def loss(self, p, states):
        return [
            (self.run(p, w.start, w.stop, state)[w.first + 1 : w.stop + 1] ** 2 / 2).sum()
            for w, state in zip(windows(7, 2, 3), states, strict=True)
        ]

    def gradient(self, p, back=3):
        s, g = self.run(p), {name: np.zeros_like(array) for name, array in p.items()}
        for w in windows(7, 2, back):
            ds = np.zeros(3)
            for t in reversed(range(w.start, w.stop)):
                dz = ((s[t + 1] if t >= w.first else 0) + ds) * (1 - s[t + 1] ** 2)
                g["U"] += np.outer(dz, s[t])
                g["W"] += np.outer(dz, self.x[t])
                ds = p["U"].T @ dz
        return g


@pytest.mark.parametrize(("back", "verdict"), [(3, "agree"), (2, "disagree"), (7, "disagree")])
def test_any_target_that_tells_its_carried_states(back, verdict):
    own = Own()
    target = frozen(own.p, own.loss, lambda p: own.gradient(p, back), own.carried, steps=7)
    assert tt.check(target).verdict == verdict


def test_states_are_taken_where_an_evaluator_begins_and_copied():
    own, resets = Own(), []
    target = frozen(
        own.p, own.loss, own.gradient, own.carried, reset=lambda: resets.append(1), steps=7
    )
    evaluator = Evaluator(target)
    assert len(resets) == 1
    before = evaluator.loss()
    own.run({name: 2 * array for name, array in own.p.items()})  # overwrites self.s
    assert evaluator.loss() == before
    own.p["U"] *= 0.5
    moved = evaluator.loss()
    evaluator.gradient()
    assert evaluator.loss() == moved
    assert Evaluator(target).loss() != moved
