"""Every cell and layer against its own numerical gradient, entry by entry, in float64."""

import numpy as np
import pytest

import throughtime as tt
from helpers import (
    CELLS,
    cases,
    example,
    gradients,
    network,
    numerical_gradient,
    objective,
    relative_error,
)
from throughtime.functions import relu, relu_slope, sigmoid

BOUND = 1e-9  # the five-point rule attains some 1e-11 here
CASES = cases()


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("ragged", [True, False], ids=["ragged", "full"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_agree_with_numerical_ones(name, ragged):
    net = network(CASES[name])
    case = example(net, ragged=ragged)
    found = gradients(net, case)
    wanted = {f"parameter {n}": (found.parameters[n], net.parameters[n]) for n in net.parameters}
    wanted |= {f"initial state {n}": (found.state[n], case.state[n]) for n in case.state}
    if found.inputs is not None:
        wanted["inputs"] = (found.inputs, case.inputs)
    for what, (ours, array) in wanted.items():
        numerical = numerical_gradient(lambda: objective(net, case), array)
        assert relative_error(ours, numerical) <= BOUND, what


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("ragged", [True, False], ids=["ragged", "full"])
@pytest.mark.parametrize("name", CELLS)
def test_deltas_are_the_gradients_of_inner_values(name, ragged):
    """δh_t, δc_t and δz_t of every step, by perturbing that value alone and running on."""
    cell = CELLS[name]
    net = network([cell])
    case = example(net, ragged=ragged)
    deltas = gradients(net, case).deltas[0]
    assert set(deltas) == {"z"} | set(cell.state_sizes)
    for what, ours in deltas.items():
        bump = np.zeros_like(ours)
        numerical = numerical_gradient(lambda: _run_on(net, case, what, bump), bump)  # noqa: B023
        assert relative_error(ours, numerical) <= BOUND, what


def _run_on(net, case, what, bump):
    """L of a run in which `bump` is added to an inner value of every step.

    A bump of c_t comes before h_t follows from it, one of h_t after; so δc_t has what comes
    through h_t, and h is computed here from the step's own kept values.
    """
    cell = net.specs[0]
    p = {name.removeprefix("0."): array for name, array in net.parameters.items()}
    state = {name.removeprefix("0."): array for name, array in case.state.items()}
    total = 0.0
    for t, x in enumerate(case.inputs):
        active = (t < case.lengths)[:, None] if case.lengths is not None else np.True_
        z = x @ p["W"].T + p["b"]
        after, kept = cell.step(p, z + bump[t] if what == "z" else z, state)
        if what == "h":
            after = after | {"h": after["h"] + bump[t]}
        if what == "c":
            c, o = after["c"] + bump[t], kept["o"]
            if cell.peepholes:
                z_o = np.log(o / (1 - o)) + p["p"][2 * cell.units :] * bump[t]
                o = sigmoid(z_o)
            m = o * np.tanh(c)
            after = {"h": m @ p["R"].T if cell.projection else m, "c": c}
        state = {name: np.where(active, after[name], state[name]) for name in state}
        total += float((np.where(active, state["h"], 0) * case.doutputs[t]).sum())
    return total + sum(float((state[n] * case.dstate[f"0.{n}"]).sum()) for n in state)


def test_relu_has_slope_zero_at_its_kink():
    z = np.array([-1.0, 0.0, 2.0])
    assert relu_slope(relu(z)).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_neither_overflows_nor_warns(dtype):
    z = np.array([-1e4, -50.0, 0.0, 50.0, 1e4], dtype)
    s = sigmoid(z)
    assert s.dtype == dtype
    assert s[0] == 0
    assert s[2] == 0.5
    assert s[4] == 1
    assert relative_error(s[1], np.exp(-50.0)) < 1e-5


def test_backward_without_upstream_outputs():
    """Only the final state counts: the gradient is that of outputs weighted with 0."""
    cell = CELLS["LSTM peepholes projection"]
    net = network([cell])
    case = example(net, ragged=False)
    p = {name.removeprefix("0."): array for name, array in net.parameters.items()}
    dstate = {name.removeprefix("0."): array for name, array in case.dstate.items()}
    _, _, tape = cell.forward(p, case.inputs)
    bare = cell.backward(p, tape, None, dstate, need_inputs=False)
    zero = cell.backward(p, tape, np.zeros_like(case.doutputs), dstate)
    assert bare.inputs is None
    for name in cell.shapes():
        assert np.array_equal(bare.parameters[name], zero.parameters[name])


def test_zero_state_where_none_is_given():
    cell = CELLS["GRU"]
    net = network([cell])
    case = example(net)
    zero = net.zero_state(3)
    with_zeros, _, _ = net.forward(case.inputs, zero, case.lengths)
    without, _, _ = net.forward(case.inputs, None, case.lengths)
    assert np.array_equal(with_zeros, without)
    p = {name.removeprefix("0."): array for name, array in net.parameters.items()}
    assert np.array_equal(cell.forward(p, case.inputs, lengths=case.lengths)[0], without)


class TestInitialisation:
    def test_forget_bias(self):
        p = tt.Network([tt.LSTM(2, 4, forget_bias=2.5)]).parameters
        b_i, b_f, b_a, b_o = np.split(p["0.b"], 4)
        assert b_f.tolist() == [2.5] * 4
        assert not np.concatenate([b_i, b_a, b_o]).any()

    def test_chrono(self):
        p = tt.Network([tt.LSTM(2, 200, chrono=50)], dtype="float64").parameters
        b_i, b_f, _, _ = np.split(p["0.b"], 4)
        assert np.array_equal(b_i, -b_f)
        u = np.exp(b_f)
        assert u.min() >= 1
        assert 40 < u.max() <= 49

    @pytest.mark.parametrize("name", CELLS)
    def test_weights_lie_in_one_over_root_h(self, name):
        net = tt.Network([CELLS[name]], dtype="float64")
        for parameter in ("0.W", "0.U"):
            size = np.abs(net.parameters[parameter])
            assert 0 < size.max() <= 1 / np.sqrt(3)

    def test_seed(self):
        first, again, other = (tt.Network([tt.GRU(2, 3)], seed=s).parameters for s in (1, 1, 2))
        assert first == again
        assert first != other
