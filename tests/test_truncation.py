"""Windows, truncated gradients and contributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import throughtime as tt
from throughtime.network.truncation import differentiate_window, windows


def make(cell, *, T=9, B=2, dtype="float64", seed=0):
    layers = [cell(3, 4), tt.Dropout(0.3), tt.GRU(4, 3), tt.Dense(3, 5)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(time="mean"), dtype=dtype, seed=seed)
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((T, B, 3)).astype(dtype)
    return net, inputs, rng.integers(0, 5, (T, B))


@given(T=st.integers(1, 40), k1=st.integers(1, 45), k2=st.integers(1, 45))
def test_every_step_is_counted_once_or_out_of_reach(T, k1, k2):
    counted = np.zeros(T, int)
    for window in windows(T, k1, k2):
        counted[window.first : window.stop] += 1
        assert window.stop - window.start == min(k2, window.stop)
        assert window.start <= window.first < window.stop
    assert windows(T, k1, k2)[-1].stop == T
    assert counted.max() == 1
    if k2 >= min(k1, T):
        assert counted.min() == 1


@pytest.mark.parametrize("cell", [tt.RNN, tt.LSTM, tt.GRU])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k1", [1, 4, 9, 20])
def test_going_back_to_the_start_is_full_bptt_to_the_bit(cell, dtype, k1):
    net, inputs, targets = make(cell, dtype=dtype)
    full = net.loss_and_gradient(inputs, targets, dropout_seed=1)
    for k2 in (9, 100):
        found = tt.truncated_loss_and_gradient(net, inputs, targets, k1=k1, k2=k2, dropout_seed=1)
        assert found[0] == full[0]
        assert found[1].flat.tobytes() == full[1].flat.tobytes()


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (3, 3), (2, 5), (5, 2), (4, 4), (4, 7)])
def test_a_truncated_gradient_is_that_of_windows_with_frozen_states(k1, k2):
    """The surrogate: the states carried into each window are constants from the whole run."""
    net, inputs, targets = make(tt.LSTM)
    lengths = np.array([9, 6])
    weights = net.loss.weights(9, 2, lengths)
    _, _, tape = net.forward(inputs, lengths=lengths)
    frozen = {w: net.state_after(tape, w.start) for w in windows(9, k1, k2)}

    def surrogate():
        total = 0.0
        for w, state in frozen.items():
            left = np.clip(lengths - w.start, 0, w.stop - w.start)
            outputs = np.stack(
                [
                    net.forward(inputs[w.start : w.stop, b : b + 1], only(state, b))[0][:, 0]
                    for b in range(2)
                ],
                axis=1,
            )
            errors, _ = net.loss.errors(outputs, targets[w.start : w.stop])
            inside = np.arange(w.stop - w.start)[:, None] < left
            counts = weights[w.start : w.stop] * inside
            counts[: w.first - w.start] = 0
            total += float((counts * errors).sum())
        return total

    def only(state, b):
        return {name: array[b : b + 1] for name, array in state.items()}

    _, gradient = tt.truncated_loss_and_gradient(
        net, inputs, targets, k1=k1, k2=k2, lengths=lengths
    )
    numerical = central_differences(surrogate, net.parameters.flat)
    error = np.linalg.norm(gradient.flat - numerical) / np.linalg.norm(numerical)
    assert error < 1e-8


def central_differences(loss, flat, step=1e-5):
    found = np.zeros_like(flat)
    for entry in range(flat.size):
        kept = flat[entry]
        flat[entry] = kept + step
        above = loss()
        flat[entry] = kept - step
        below = loss()
        flat[entry] = kept
        found[entry] = (above - below) / (2 * step)
    return found


def test_windows_of_training_sum_to_the_truncated_gradient():
    net, inputs, targets = make(tt.LSTM)
    net.loss = tt.SoftmaxCrossEntropy(time="sum")
    _, expected = tt.truncated_loss_and_gradient(net, inputs, targets, k1=3, k2=5)
    total, state = net.parameters.zeros_like(), net.zero_state(2)
    plan = windows(9, 3, 5)
    for window, following in zip(plan, [*plan[1:], None], strict=True):
        stretch = slice(window.start, window.stop)
        first = window.first - window.start
        _, gradient, tape = differentiate_window(
            net, inputs[stretch], targets[stretch], first=first, state=state
        )
        total += gradient
        if following:
            state = net.state_after(tape, following.start - window.start)
    assert (total - expected).norm() < 1e-14 * expected.norm()


@pytest.mark.parametrize("cell", [tt.RNN, tt.LSTM, tt.GRU])
@pytest.mark.parametrize("step", [0, 3, 8])
def test_contributions_sum_to_the_gradient_of_the_step(cell, step):
    net, inputs, targets = make(cell)
    found = tt.contributions(net, inputs, targets, step=step)
    assert len(found.terms) == step + 1

    outputs, _, tape = net.forward(inputs)
    loss = net.loss_of(outputs, targets)
    doutputs = np.zeros_like(outputs)
    doutputs[step] = loss.doutputs[step]
    expected = net.backward(tape, doutputs).parameters
    assert (found.gradient - expected).norm() < 1e-14 * expected.norm()
    assert found.loss == pytest.approx((loss.weights * loss.terms)[step].sum(), rel=1e-15)


def test_each_contribution_is_the_derivative_by_the_weights_of_that_step_alone():
    """U gets a twin that serves step k only: run up to k, one step with the twin, and on."""
    net = tt.Network([tt.LSTM(3, 4)], tt.MeanSquaredError(), dtype="float64")
    twin = net.copy()
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((5, 2, 3)), rng.standard_normal((5, 2, 4))
    found = tt.contributions(net, inputs, targets, step=4)
    for k in range(5):

        def loss(k=k):
            _, state, _ = net.forward(inputs[:k]) if k else (None, None, None)
            outputs, state, _ = twin.forward(inputs[k : k + 1], state)
            if k < 4:
                outputs, _, _ = net.forward(inputs[k + 1 :], state)
            errors, _ = net.loss.errors(outputs[-1:], targets[4:])
            return float(errors.sum()) / 10

        numerical = central_differences(loss, twin.parameters.flat)
        term = found.terms[4 - k].flat
        assert np.linalg.norm(term - numerical) < 1e-8 * np.linalg.norm(numerical)


def test_the_windows_of_one_step_back_have_only_the_direct_terms():
    net, inputs, targets = make(tt.RNN)
    _, short = tt.truncated_loss_and_gradient(net, inputs, targets, k1=1, k2=1)
    direct = [tt.contributions(net, inputs, targets, step=t).terms[0] for t in range(9)]
    expected = sum(direct[1:], direct[0])
    for name in ("0.W", "0.U", "0.b", "3.W"):
        assert np.linalg.norm(short[name] - expected[name]) < 1e-13 * np.linalg.norm(expected[name])


@pytest.mark.parametrize(
    "call",
    [
        lambda net, x, y: tt.truncated_loss_and_gradient(net, x, y, k1=2),
        lambda net, x, y: tt.contributions(net, x, y, step=0),
    ],
)
def test_a_bidirectional_network_is_refused(call):
    net = tt.Network([tt.RNN(2, 3, bidirectional=True)], tt.MeanSquaredError(), dtype="float64")
    message = "network: expected layers that run in one direction, got a bidirectional one; "
    with pytest.raises(ValueError, match=message + "its second direction begins at the end"):
        call(net, np.zeros((3, 1, 2)), np.zeros((3, 1, 6)))


def test_steps_and_windows_out_of_range_are_refused():
    net, inputs, targets = make(tt.RNN)
    with pytest.raises(ValueError, match=r"step: expected 0 to T − 1 = 8, got 9"):
        tt.contributions(net, inputs, targets, step=9)
    with pytest.raises(ValueError, match="k1: expected an integer of at least 1, got 0"):
        tt.truncated_loss_and_gradient(net, inputs, targets, k1=0)
    with pytest.raises(ValueError, match="k2: expected an integer of at least 1, got 0"):
        tt.truncated_loss_and_gradient(net, inputs, targets, k1=2, k2=0)


def test_without_k2_the_gradient_goes_back_k1_steps():
    net, inputs, targets = make(tt.LSTM)
    found = tt.truncated_loss_and_gradient(net, inputs, targets, k1=4)
    assert found == tt.truncated_loss_and_gradient(net, inputs, targets, k1=4, k2=4)
