"""Cells from their forward equations alone: in a network, beside the hand-written ones."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import derived_cells
import throughtime as tt
from derived_cells import BUILT_IN, CELLS, UNITS, made, parameters


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / (np.linalg.norm(b) or 1.0)


def network(cell, dtype="float64", **options):
    width = cell.output_size * (2 if cell.bidirectional else 1)
    layers = [cell, tt.Dense(width, 2)]
    net = tt.Network(layers, loss=tt.MeanSquaredError(**options), dtype=dtype)
    rng = np.random.default_rng(1)
    for name, array in net.parameters.items():
        net.parameters[name] = (0.6 * rng.standard_normal(array.shape)).astype(dtype)
    return net


def data(cell, steps=6, batch=3, seed=2, dtype="float64"):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((steps, batch, cell.inputs)).astype(dtype)
    return inputs, rng.standard_normal((steps, batch, 2)).astype(dtype)


@pytest.mark.parametrize("name", BUILT_IN)
@given(steps=st.integers(1, 7), batch=st.integers(1, 4), seed=st.integers(0, 99))
def test_derived_from_its_own_equations_a_built_in_cell_has_the_same_gradient(
    name, steps, batch, seed
):
    derived, written = BUILT_IN[name]
    p = parameters(written, seed)
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((steps, batch, written.inputs))
    initial = {n: rng.standard_normal((batch, k)) for n, k in written.state_sizes.items()}
    doutputs = rng.standard_normal((steps, batch, written.output_size))
    lengths = rng.integers(1, steps + 1, batch)
    results = []
    for cell in (derived, written):
        with tt.engine("readable"):
            outputs, final, tape = cell.forward(p, inputs, initial, lengths)
            gradients = cell.backward(p, tape, doutputs, final)
        results.append((outputs, final, gradients))
    (y, s, g), (y_own, s_own, g_own) = results
    assert relative(y, y_own) <= 1e-15
    for part in s_own:
        assert relative(s[part], s_own[part]) <= 1e-15
        assert relative(g.state[part], g_own.state[part]) <= 1e-14
    for parameter in p:
        assert relative(g.parameters[parameter], g_own.parameters[parameter]) <= 1e-14, parameter
    assert relative(g.inputs, g_own.inputs) <= 1e-14


@pytest.mark.parametrize("name", BUILT_IN)
def test_one_step_backward_is_the_hand_written_one_to_the_last_digits(name):
    derived, written = BUILT_IN[name]
    p, rng = parameters(written), np.random.default_rng(0)
    inputs = rng.standard_normal((1, 5, written.inputs))
    before = {n: rng.standard_normal((5, k)) for n, k in written.state_sizes.items()}
    dstate = {n: rng.standard_normal(array.shape) for n, array in before.items()}
    found = []
    for cell in (derived, written):
        with tt.engine("readable"):
            _, _, tape = cell.forward(p, inputs, before)
        kept = {n: array[0] for n, array in tape.kept.items()}
        found.append(cell.step_backward(p, kept, before, dstate)[1])
    for part in before:
        assert relative(found[0][part], found[1][part]) <= 1e-15


@pytest.mark.parametrize("name", BUILT_IN)
def test_class_indices_are_one_hot_vectors(name):
    derived, written = BUILT_IN[name]
    p = parameters(written)
    classes = np.random.default_rng(0).integers(0, written.inputs, (5, 2))
    doutputs = np.random.default_rng(1).standard_normal((5, 2, written.output_size))
    found = []
    for inputs in (classes, np.eye(written.inputs)[classes]):
        _, _, tape = derived.forward(p, inputs)
        found.append(derived.backward(p, tape, doutputs))
    assert found[0].inputs is None
    for parameter in p:
        assert relative(found[0].parameters[parameter], found[1].parameters[parameter]) <= 1e-15


@pytest.mark.parametrize("name", sorted(set(CELLS) - {"lif"}))
def test_the_gallery_in_a_network_passes_the_check(name):
    net = network(made(CELLS[name]))
    report = tt.check(tt.target_of(net, *data(net.specs[0])))
    assert report.verdict == "agree", report


@pytest.mark.parametrize("name", CELLS)
def test_latex_has_no_double_subscript(name):
    inner = r"\{(?:[^{}]|\{[^{}]*\})*\}"
    assert not re.search(rf"_(?:{inner}|\w)_", tt.derive(CELLS[name]).latex)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_cell_is_derived_from_its_own_lines(name):
    found = tt.derive(BUILT_IN[name][1])
    assert found.agrees
    assert f"{name.split()[0].lower()}: one step forward" in found.text
    assert "δU = Σ_t δz h_{t−1}ᵀ" in found.text or "GRU" in name
    assert ")ᵀ" not in found.text


def test_a_surrogate_slope_is_no_derivative():
    net = network(made(CELLS["lif"]))
    assert tt.check(tt.target_of(net, *data(net.specs[0]))).verdict != "agree"


@pytest.mark.parametrize("name", ["lstm", "gru", "mlstm", "gru_d", "zoneout", "attention"])
def test_truncated_within_memory_in_both_directions_and_in_float32(name):
    definition = CELLS.get(name) or {"lstm": derived_cells.lstm, "gru": derived_cells.gru}[name]
    cell = made(definition)
    net, (inputs, targets) = network(cell), data(cell, steps=9)
    loss, gradient = net.loss_and_gradient(inputs, targets)
    small = net.loss_and_gradient(inputs, targets, memory_limit=_least(net, inputs, targets))
    assert small[0] == loss
    assert np.array_equal(small[1].flat, gradient.flat)
    cut, _ = tt.truncated_loss_and_gradient(net, inputs, targets, k1=3, k2=9)
    assert cut == pytest.approx(loss, rel=1e-14)
    single = net.astype("float32")
    own = single.loss_and_gradient(inputs.astype("f4"), targets.astype("f4"))[1]
    assert own.flat.dtype == np.float32
    assert relative(own.flat, gradient.flat) < 1e-4
    both = network(made_both_ways(definition))
    lengths = np.array([9, 4, 1])
    report = tt.check(tt.target_of(both, *data(both.specs[0], steps=9), lengths=lengths))
    assert report.verdict == "agree", report


def made_both_ways(definition):
    return definition(3, 3, bidirectional=True)


def _least(net, inputs, targets):
    """The smallest memory limit that works, as the refusal of a smaller one says."""
    with pytest.raises(ValueError, match="memory") as refusal:
        net.loss_and_gradient(inputs, targets, memory_limit=1)
    return int(
        "".join(c for c in str(refusal.value).split("at least")[1].split()[0] if c.isdigit())
    )


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "GRU original"])
@pytest.mark.parametrize("both", [False, True])
def test_flow_through_a_derived_cell_is_that_of_the_hand_written_one(name, both):
    flows = []
    for cell in BUILT_IN[name]:
        first = replace(cell, bidirectional=both)
        below = first.output_size * (1 + both)
        above = (
            cell.definition(below, UNITS)
            if "definition" in vars(cell)
            else replace(cell, inputs=below)
        )
        layers = [first, above, tt.Dense(UNITS, 2)]
        net = tt.Network(layers, loss=tt.MeanSquaredError(), dtype="float64")
        rng = np.random.default_rng(1)
        for parameter, array in net.parameters.items():
            net.parameters[parameter] = 0.6 * rng.standard_normal(array.shape)
        with tt.engine("readable"):
            flows.append(tt.flow(net, *data(first, steps=12)))
    for one, other in zip(flows[0].layers.values(), flows[1].layers.values(), strict=True):
        for part in other.norms:
            np.testing.assert_allclose(one.norms[part], other.norms[part], rtol=1e-10)
        assert relative(one.lyapunov.exponents, other.lyapunov.exponents) < 1e-6
