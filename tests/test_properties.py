"""What must hold for any network, any T, B, I and H from 1 up, and any lengths."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import throughtime as tt
from helpers import one_hot, one_sequence, relative_error

KINDS = ["RNN tanh", "RNN relu", "LSTM", "GRU", "GRU original"]
ROUNDING = 1e-12  # sums in another order, of at most some hundred terms


@st.composite
def cells(draw, inputs=None, bidirectional=None):
    I, H = inputs or draw(st.integers(1, 4)), draw(st.integers(1, 4))  # noqa: E741
    kind = draw(st.sampled_from(KINDS))
    if kind.startswith("RNN"):
        cell = tt.RNN(I, H, kind.split()[1])
    elif kind.startswith("GRU"):
        cell = tt.GRU(I, H, reset_after=kind == "GRU")
    else:
        projection = draw(st.none() | st.integers(1, H))
        cell = tt.LSTM(I, H, peepholes=draw(st.booleans()), projection=projection)
    both = draw(st.booleans()) if bidirectional is None else bidirectional
    return replace(cell, bidirectional=both)


@st.composite
def networks(draw, *, bidirectional=None, inputs=None):
    first = draw(cells(inputs, bidirectional))
    layers = [first]
    if draw(st.booleans()):
        width = first.output_size * (1 + first.bidirectional)
        layers.append(draw(cells(width, bidirectional)))
    width = layers[-1].output_size * (1 + layers[-1].bidirectional)
    if draw(st.booleans()):
        layers.append(tt.Dense(width, draw(st.integers(1, 3))))
    net = tt.Network(layers, dtype="float64")
    net.parameters.flat[...] = _random(draw, net.parameters.flat.shape)
    return net


def _random(draw, shape):
    return np.random.default_rng(draw(st.integers(0, 2**32))).uniform(-1, 1, shape)


@st.composite
def problems(draw, *, bidirectional=None, ragged=True):
    """A network, inputs, initial state, lengths, and gradients that arrive from above."""
    net = draw(networks(bidirectional=bidirectional))
    T, B = draw(st.integers(1, 7)), draw(st.integers(1, 4))
    state, dstate = net.zero_state(B), net.zero_state(B)
    state.flat[...] = _random(draw, state.flat.shape)
    dstate.flat[...] = _random(draw, state.flat.shape)
    lengths = (
        np.array(draw(st.lists(st.integers(1, T), min_size=B, max_size=B))) if ragged else None
    )
    inputs, doutputs = _random(draw, (T, B, net.inputs)), _random(draw, (T, B, net.outputs))
    return net, inputs, state, lengths, doutputs, dstate


def both_passes(net, inputs, state, lengths, doutputs, dstate):
    outputs, final, tape = net.forward(inputs, state, lengths)
    return outputs, final, net.backward(tape, doutputs, dstate)


def close(ours, truth):
    assert relative_error(ours, truth) <= ROUNDING


@given(problems())
def test_a_ragged_batch_is_each_sequence_alone(problem):
    net, inputs, state, lengths, doutputs, dstate = problem
    outputs, final, found = both_passes(*problem)
    total = net.parameters.zeros_like()
    for b, n in enumerate(lengths):
        alone = np.s_[:n, b : b + 1]
        y, end, back = both_passes(
            net,
            inputs[alone],
            one_sequence(state, b),
            None,
            doutputs[alone],
            one_sequence(dstate, b),
        )
        close(outputs[alone], y)
        close(found.inputs[alone], back.inputs)
        for name in final:
            close(final[name][b : b + 1], end[name])
            close(found.state[name][b : b + 1], back.state[name])
        total += back.parameters
        assert not found.inputs[n:, b].any()
        if isinstance(net.specs[-1], tt.Dense):  # the head's bias acts beyond a sequence's end
            beyond = doutputs[n:, b].sum(axis=0)
            total[f"{len(net.specs) - 1}.b"] += beyond
        else:
            assert not outputs[n:, b].any()
    close(found.parameters.flat, total.flat)


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_sequences_does_not_matter(problem, random):
    net, inputs, state, lengths, doutputs, dstate = problem
    order = list(range(len(lengths)))
    random.shuffle(order)
    outputs, final, found = both_passes(*problem)
    y, end, back = both_passes(
        net,
        inputs[:, order],
        {name: array[order] for name, array in state.items()},
        lengths[order],
        doutputs[:, order],
        {name: array[order] for name, array in dstate.items()},
    )
    close(y, outputs[:, order])
    close(back.inputs, found.inputs[:, order])
    close(back.parameters.flat, found.parameters.flat)
    for name in final:
        close(end[name], final[name][order])
        close(back.state[name], found.state[name][order])


@given(problems(bidirectional=False, ragged=False), st.data())
def test_two_halves_with_carried_state_are_the_whole(problem, data):
    net, inputs, state, _, doutputs, dstate = problem
    outputs, final, found = both_passes(*problem)
    assume(len(inputs) > 1)
    cut = data.draw(st.integers(1, len(inputs) - 1))
    first, middle, first_tape = net.forward(inputs[:cut], state)
    second, end, second_tape = net.forward(inputs[cut:], middle)
    late = net.backward(second_tape, doutputs[cut:], dstate)
    early = net.backward(first_tape, doutputs[:cut], late.state)
    close(np.concatenate([first, second]), outputs)
    close(end.flat, final.flat)
    close(np.concatenate([early.inputs, late.inputs]), found.inputs)
    close(early.state.flat, found.state.flat)
    close((early.parameters + late.parameters).flat, found.parameters.flat)


@given(problems(bidirectional=False), st.data())
def test_stretches_of_a_tape_sum_to_the_whole(problem, data):
    net, inputs, state, lengths, doutputs, dstate = problem
    T = len(inputs)
    _, _, tape = net.forward(inputs, state, lengths)
    whole = net.backward(tape, doutputs, dstate)
    cuts = sorted({0, T} | data.draw(st.sets(st.integers(0, T))))
    total, darriving, dinputs = net.parameters.zeros_like(), dstate, []
    for start, stop in reversed([*pairwise(cuts)]):
        found = net.backward(tape.steps(start, stop), doutputs[start:stop], darriving)
        total += found.parameters
        darriving = found.state
        dinputs.insert(0, found.inputs)
    close(total.flat, whole.parameters.flat)
    close(darriving.flat, whole.state.flat)
    close(np.concatenate(dinputs), whole.inputs)


@given(problems(bidirectional=True))
def test_two_directions_are_two_networks(problem):
    net, inputs, state, lengths, doutputs, dstate = problem
    cell = net.specs[0]
    net = tt.Network([cell], dtype="float64")  # its own layer alone
    net.parameters.flat[...] = np.random.default_rng(0).uniform(-1, 1, net.parameters.flat.size)
    T, B, H = len(inputs), len(lengths), cell.output_size
    doutputs = np.random.default_rng(1).uniform(-1, 1, (T, B, 2 * H))
    state = {name: state[name] for name in net.zero_state(B)}
    dstate = {name: dstate[name] for name in net.zero_state(B)}
    outputs, final, found = both_passes(net, inputs, state, lengths, doutputs, dstate)

    single = tt.Network([replace(cell, bidirectional=False)], dtype="float64")
    dinputs = np.zeros_like(inputs)
    for side, prefix in enumerate(("0.", "0.1.")):
        names = {name: prefix + name.removeprefix("0.") for name in single.parameters}
        parts = {name: prefix + name.removeprefix("0.") for name in single.zero_state(B)}
        for name, ours in names.items():
            single.parameters[name] = net.parameters[ours]
        turn = _turned(lengths, T) if side else np.tile(np.arange(T)[:, None], (1, B))
        b, own = np.arange(B), np.s_[:, :, side * H : (side + 1) * H]
        y, end, back = both_passes(
            single,
            inputs[turn, b],
            {name: state[ours] for name, ours in parts.items()},
            lengths,
            doutputs[own][turn, b],
            {name: dstate[ours] for name, ours in parts.items()},
        )
        close(outputs[own], y[turn, b])
        dinputs += back.inputs[turn, b]
        for name, ours in names.items():
            close(found.parameters[ours], back.parameters[name])
        for name, ours in parts.items():
            close(final[ours], end[name])
            close(found.state[ours], back.state[name])
    close(found.inputs, dinputs)


def _turned(lengths, T):
    """(T, B): the step that takes the place of step t when each sequence is turned round."""
    order = np.tile(np.arange(T)[:, None], (1, len(lengths)))
    for b, n in enumerate(lengths):
        order[:n, b] = np.arange(n)[::-1]
    return order


@given(problems(), st.floats(-3, 3), st.floats(-3, 3))
def test_the_gradient_is_linear_in_what_arrives(problem, a, b):
    net, inputs, state, lengths, doutputs, dstate = problem
    other, dother = doutputs[::-1], dstate * dstate
    _, _, tape = net.forward(inputs, state, lengths)
    one = net.backward(tape, doutputs, dstate)
    two = net.backward(tape, other, dother)
    both = net.backward(tape, a * doutputs + b * other, a * dstate + b * dother)
    sizes = abs(a) * one.parameters.norm() + abs(b) * two.parameters.norm()
    assert (both.parameters - a * one.parameters - b * two.parameters).norm() <= ROUNDING * sizes
    expected = a * one.inputs + b * two.inputs
    sizes = abs(a) * np.linalg.norm(one.inputs) + abs(b) * np.linalg.norm(two.inputs)
    assert np.linalg.norm(both.inputs - expected) <= ROUNDING * sizes


@given(st.data(), st.integers(1, 6), st.integers(1, 7), st.integers(1, 4))
def test_class_indices_are_one_hot_vectors(data, classes, T, B):
    net = data.draw(networks(inputs=classes))
    indices = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, classes, (T, B))
    lengths = np.array(data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
    doutputs = np.random.default_rng(1).uniform(-1, 1, (T, B, net.outputs))
    y, end, back = both_passes(net, indices, None, lengths, doutputs, None)
    truth, final, found = both_passes(net, one_hot(indices, classes), None, lengths, doutputs, None)
    close(y, truth)
    close(end.flat, final.flat)
    close(back.parameters.flat, found.parameters.flat)
    close(back.state.flat, found.state.flat)
    assert back.inputs is None


@given(networks(bidirectional=None), st.integers(1, 5), st.integers(1, 3))
def test_float32_stays_float32_and_close_to_float64(net, T, B):
    single = net.astype("float32")
    inputs = np.random.default_rng(0).uniform(-1, 1, (T, B, net.inputs)).astype(np.float32)
    outputs, final, tape = single.forward(inputs)
    doutputs = np.ones_like(outputs)
    found = single.backward(tape, doutputs)
    kinds = {a.dtype for a in (outputs, final.flat, found.parameters.flat, found.inputs)}
    assert kinds == {np.dtype("float32")}
    double = single.astype("float64")
    truth, _, tape = double.forward(inputs.astype(np.float64))
    back = double.backward(tape, doutputs.astype(np.float64))
    if np.linalg.norm(back.parameters.flat) > 1e-3:
        assert relative_error(found.parameters.flat, back.parameters.flat) <= 1e-5
    if np.linalg.norm(truth) > 1e-3:
        assert relative_error(outputs, truth) <= 1e-5


@given(networks(), st.integers(1, 5), st.integers(1, 3))
def test_description_and_copy_give_the_same_outputs(net, T, B):
    inputs = np.random.default_rng(0).uniform(-1, 1, (T, B, net.inputs))
    twin = tt.Network.from_description(net.describe())
    twin.parameters.update(net.parameters)
    for other in (twin, net.copy()):
        assert np.array_equal(other.run(inputs).outputs, net.run(inputs).outputs)


@given(st.integers(0, 2**32), st.floats(0, 0.9), st.integers(1, 5), st.integers(1, 4))
def test_the_same_seed_draws_the_same_mask(seed, rate, T, B):
    net = tt.Network([tt.GRU(2, 3), tt.Dropout(rate), tt.Dense(3, 2)], dtype="float64")
    inputs = np.random.default_rng(0).uniform(-1, 1, (T, B, 2))
    first, again = (net.forward(inputs, dropout_seed=seed) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    bare = tt.Network([tt.GRU(2, 3), tt.Dense(3, 2)], dtype="float64")
    for name in bare.parameters:
        bare.parameters[name] = net.parameters[name.replace("1.", "2.")]
    assert np.array_equal(net.run(inputs).outputs, bare.run(inputs).outputs)


@given(st.integers(1, 5), st.floats(-2, 2), st.floats(-2, 2))
def test_parameters_are_a_vector_space(size, a, b):
    rng = np.random.default_rng(size)
    x = tt.Parameters({"w": (size,), "b": (1,)}, "float64", rng.uniform(-1, 1, size + 1))
    y = x.like(rng.uniform(-1, 1, size + 1))
    assert a * x + b * y == b * y + a * x
    assert x - y == x + -y
    assert (x - x).norm() == 0
    assert abs(x.dot(y) - y.dot(x)) == 0
    assert abs(x.dot(x) - x.norm() ** 2) <= 1e-15 * x.dot(x) * (size + 1)
