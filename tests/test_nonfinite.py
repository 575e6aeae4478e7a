"""The first value that is NaN or infinite: where it stands, and what it was made of."""

import numpy as np
import pytest

import derived_cells
import throughtime as tt
from throughtime.gradient_flow.nonfinite import first_in_network, pre_activations
from throughtime.training import DivergedError, Settings, Text, Trainer, load_checkpoint

T, B, CLASSES, H = 12, 3, 5, 4

CELLS = {
    "rnn": tt.RNN(3, H),
    "relu": tt.RNN(3, H, "relu"),
    "lstm": tt.LSTM(3, H),
    "peepholes": tt.LSTM(3, H, peepholes=True),
    "projected": tt.LSTM(3, H, projection=2),
    "gru": tt.GRU(3, H),
    "original-gru": tt.GRU(3, H, reset_after=False),
}


def network(cell, dtype="float32", loss=None):
    layers = [tt.Embedding(CLASSES, 3), cell, tt.Dense(cell.output_size, CLASSES)]
    return tt.Network(layers, loss or tt.SoftmaxCrossEntropy(), dtype=dtype, seed=0)


def data():
    x, y = np.random.default_rng(0).integers(0, CLASSES, (2, T, B))
    return x, y


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_is_found_where_all_is_finite(name, dtype):
    assert first_in_network(network(CELLS[name], dtype), *data()) is None


@pytest.mark.parametrize("name", CELLS)
def test_pre_activations_are_those_of_the_cell(name):
    net = network(CELLS[name], "float64")
    rng = np.random.default_rng(1)
    net.parameters.flat[...] = rng.standard_normal(net.parameters.flat.size)
    state = net.zero_state(B)
    state.flat[...] = rng.standard_normal(state.flat.size)
    _, _, tape = net.forward(data()[0], state)
    cell, own = CELLS[name], tape.layers[1].directions[0]
    z = sum(pre_activations(cell, net.of_layer(1), own).values())
    for place, gate in enumerate(cell.gates):
        part = z[..., place * H : (place + 1) * H]
        squash = np.tanh if gate in "an" else lambda v: 1 / (1 + np.exp(-v))
        if gate == "s":
            squash = np.tanh if cell.nonlinearity == "tanh" else lambda v: np.maximum(v, 0)
        assert np.abs(squash(part) - own.kept[gate]).max() < 1e-13


def test_a_pre_activation_beyond_float32_says_which_part_is_to_blame():
    net = network(CELLS["lstm"])
    x, y = data()
    x[x == 4] = 0
    x[7, 2] = 4
    net.parameters["0.E"][4, 1] = 1e20
    net.parameters["1.W"][H + 2, 1] = 3e19  # gate f, unit 2
    found = first_in_network(net, x, y)
    assert (found.where, found.quantity) == ("layer 1 (LSTM)", "pre-activation")
    assert (found.step, found.sequence, found.gate, found.unit) == (7, 2, "f", 2)
    assert not found.backward
    assert found.value == pytest.approx(3e39, rel=1e-6)
    assert found.sources["W x"] == pytest.approx(3e39, rel=1e-6)
    assert abs(found.sources["U h"]) < 10
    assert found.sources["b"] == 1
    assert str(found).startswith(
        "layer 1 (LSTM), step 7, sequence 2, gate f, unit 2: pre-activation 3e+39, beyond float32, "
        "from W x = 3e+39, U h = "
    )


def test_a_relu_that_grows_without_bound():
    cell = tt.RNN(1, 2, "relu")
    net = tt.Network([cell], tt.MeanSquaredError(), dtype="float64", seed=0)
    net.parameters["0.W"], net.parameters["0.b"] = [[1.0], [1.0]], [0.0, 0.0]
    net.parameters["0.U"] = 1e100 * np.eye(2)
    found = first_in_network(net, np.ones((6, 1, 1)), np.zeros((6, 1, 2)))
    assert (found.step, found.sequence, found.gate, found.unit) == (4, 0, "s", 0)
    assert found.value == np.inf
    assert found.sources["U h"] == np.inf
    assert found.sources["W x"] == 1


def test_the_head_and_the_loss():
    net = network(CELLS["gru"])
    net.parameters["2.W"] = np.sign(net.parameters["2.W"]) * 5e37
    state = net.zero_state(B)
    state["1.h"][1] = 100 * np.sign(net.parameters["2.W"][3])
    found = first_in_network(net, *data(), state=state)
    assert (found.where, found.quantity) == ("layer 2 (Dense)", "output")
    assert (found.step, found.sequence) == (0, 1)
    net = tt.Network([tt.RNN(1, 2)], tt.MeanSquaredError(), dtype="float64", seed=0)
    y = np.zeros((T, B, 2))
    y[3, 1, 0] = 1e200
    found = first_in_network(net, np.ones((T, B, 1)), y)
    assert (found.where, found.step, found.sequence, found.value) == ("loss", 3, 1, np.inf)


def test_the_way_back():
    """δh_t = Uᵀ δz_{t+1} grows by 1e20 a step, from T − 1 on."""
    net = tt.Network([tt.RNN(1, 2)], tt.MeanSquaredError(time="sum"), seed=0)
    net.parameters["0.W"], net.parameters["0.U"] = [[0.0], [0.0]], 1e20 * np.eye(2)
    y = np.zeros((T, B, 2), np.float32)
    y[T - 1, 2, 1] = 1.0
    found = first_in_network(net, np.ones((T, B, 1), np.float32), y)
    assert found.backward
    assert (found.where, found.quantity) == ("layer 0 (RNN)", "δh")
    assert (found.step, found.sequence, found.unit) == (T - 3, 2, 1)
    assert found.sources["largest |U|"] == pytest.approx(1e20)
    assert str(found).startswith("on the way back: layer 0 (RNN), step 9, sequence 2, unit 1: δh ")


def test_a_sum_over_steps_that_overflows():
    net = tt.Network([tt.Dense(1, 1)], tt.MeanSquaredError(time="sum", batch="sum"), seed=0)
    net.parameters["0.W"] = [[0.0]]
    y = np.full((40, 1, 1), 1e18, np.float32)
    found = first_in_network(net, np.full((40, 1, 1), 9e18, np.float32), y)
    assert (found.where, found.name) == ("gradient", "0.W[0, 0]")
    assert found.value == -np.inf


@pytest.mark.parametrize("what", ["parameters", "inputs", "state", "targets"])
def test_what_is_given_is_looked_at_first(what):
    net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), seed=0)
    given = {"parameters": net.parameters, "state": net.zero_state(1)}
    given["inputs"], given["targets"] = (np.zeros((4, 1, n), np.float32) for n in (2, 3))
    arrays = given[what]
    (arrays[next(iter(arrays))] if what in ("parameters", "state") else arrays).flat[1] = np.nan
    found = first_in_network(net, given["inputs"], given["targets"], state=given["state"])
    assert found.where == what
    assert np.isnan(found.value)


def test_beyond_a_sequences_length_nothing_counts():
    net = network(CELLS["lstm"])
    x, y = data()
    x[...] = 0
    x[7, 2] = 4
    net.parameters["0.E"][4, 1], net.parameters["1.W"][H + 2, 1] = 1e20, 3e19
    assert first_in_network(net, x, y, lengths=np.array([T, T, 7])) is None
    assert first_in_network(net, x, y, lengths=np.array([T, T, 8])).step == 7


# --- cells of which the equations alone are known ---


def written_once(name, dtype="float32"):
    cell = derived_cells.made(derived_cells.CELLS[name])
    net = tt.Network([cell, tt.Dense(cell.output_size, 2)], tt.MeanSquaredError(), dtype=dtype)
    rng = np.random.default_rng(0)
    net.parameters.flat[...] = 0.3 * rng.standard_normal(net.parameters.flat.size)
    x, y = (rng.standard_normal((T, B, n)).astype(dtype) for n in (cell.inputs, 2))
    return net, x, y


@pytest.mark.parametrize("name", derived_cells.CELLS)
def test_nothing_is_found_in_a_cell_written_once_where_all_is_finite(name):
    assert first_in_network(*written_once(name)) is None


def test_a_value_is_found_by_its_name_and_its_line():
    """Overflow in an exponential gate: the value, what it came from, and the user's line."""
    net, x, y = written_once("slstm", "float64")
    x[5, 1] = 1e5
    net.parameters["0.W"][...] = 0
    net.parameters["0.b"][...] = 0
    net.parameters["0.W"][6:9] = 1e305  # z_a
    found = first_in_network(net, x, y)
    assert (found.where, found.quantity) == ("layer 0 (slstm)", "W x_t")
    assert (found.step, found.sequence, found.unit) == (5, 1, 6)
    assert found.value == np.inf
    assert "cells.py, line " in found.line
    assert "z_i, z_f, z_a, z_o = np.split(W @ x + U @ h + b, 4)" in found.line
    assert str(found).endswith(f"({found.line})")


def test_a_state_that_grows_is_named_with_the_values_it_came_from():
    net, x, y = written_once("indrnn")
    net.parameters["0.u"][1] = 1e20
    net.parameters["0.b"][...] = 1
    found = first_in_network(net, x, y)
    assert found.quantity == "u ⊙ h_{t−1}"  # the state is infinite since this is
    assert set(found.sources) == {"u", "h_{t−1}"}
    assert found.step == 2
    assert found.unit == 1
    assert 3e38 < found.value < 1e42  # float64 holds it
    assert "beyond float32" in str(found)
    assert "tt.relu(W @ x + u * h + b)" in found.line


def test_the_way_back_through_a_cell_written_once():
    """As `test_the_way_back`: the same network, from its equations."""
    net = tt.Network([derived_cells.rnn(1, 2)], tt.MeanSquaredError(time="sum"), seed=0)
    net.parameters["0.W"], net.parameters["0.U"] = [[0.0], [0.0]], 1e20 * np.eye(2)
    net.parameters["0.b"] = [0.0, 0.0]
    y = np.zeros((T, B, 2), np.float32)
    y[T - 1, 2, 1] = 1.0
    found = first_in_network(net, np.ones((T, B, 1), np.float32), y)
    assert found.backward
    assert (found.where, found.quantity) == ("layer 0 (rnn)", "δh")
    assert (found.step, found.sequence, found.unit) == (T - 3, 2, 1)


def test_an_inner_derivative_is_named_as_in_the_derivation():
    """√c at c = 0: δz is infinite where everything on the way to the loss is finite."""

    @tt.cell(W="H I", U="H H", b="H")
    def root(x, h, W, U, b):
        z = W @ x + U @ h + b
        return np.sqrt(z)

    net = tt.Network([root(1, 2)], tt.MeanSquaredError(), dtype="float64", seed=0)
    net.parameters.flat[...] = 0
    found = first_in_network(net, np.zeros((1, 1, 1)), np.ones((1, 1, 2)))
    assert found.backward
    assert (found.quantity, found.step, found.unit) == ("δz", 0, 0)


# --- while training ---


def trainer(**options):
    options = {"hidden": 8, "batch": 4, "k1": 8, "embedding": 4, "warmup": 0} | options
    return Trainer(Text("To and fro, and to and fro again. " * 40), Settings(**options))


@pytest.mark.parametrize("options", [{}, {"k2": 4}, {"k2": 12, "dropout": 0.2}])
def test_a_run_that_diverges_names_layer_step_gate_and_values(options):
    run = trainer(**options)
    run.fit(updates=5)
    run.network.parameters["1.W"] = np.sign(run.network.parameters["1.W"]) * 1e25
    run.network.parameters["0.E"] = np.sign(run.network.parameters["0.E"]) * 1e25
    head = list(run.network.parameters)[-2]
    run.network.parameters[head] = np.sign(run.network.parameters[head]) * 3e38
    with pytest.raises(DivergedError, match="update 6 ") as caught:
        run.fit(updates=9)
    problem, found = caught.value, caught.value.finding
    assert problem.update == 6
    assert found.where == "layer 1 (LSTM)"
    assert found.gate in "ifao"
    assert abs(found.sources["W x"]) > 1e38
    assert str(found) in str(problem)
    assert "\n" not in str(problem)


def test_an_update_that_makes_a_parameter_infinite():
    run = trainer(learning_rate=1e38)
    with pytest.raises(DivergedError) as caught:
        run.fit(updates=3)
    found = caught.value.finding
    assert found.where == "parameters"
    assert found.sources["learning rate"] == 1e38


def test_a_model_whose_next_loss_is_infinite_replaces_no_checkpoint(tmp_path):
    path, run = tmp_path / "good.safetensors", trainer()
    run.fit(updates=4, out=path, checkpoint_every=2)

    def spoil(update):
        if update.number == 6:  # finite, and far too large
            head = list(run.network.parameters)[-2]
            run.network.parameters[head] = np.sign(run.network.parameters[head]) * 3e38

    with pytest.raises(DivergedError, match="update 7"):
        run.fit(updates=20, out=path, checkpoint_every=6, watch=spoil)
    saved = load_checkpoint(path)
    assert saved.position.updates == 4
    assert saved.network.parameters.norm() < 100


def test_a_look_at_the_next_loss_changes_nothing():
    first, second = trainer(dropout=0.3, k2=4), trainer(dropout=0.3, k2=4)
    for _ in range(20):
        first.step()
        second.still_good()
        second.step()
        second.still_good()
    assert first.network.parameters == second.network.parameters
