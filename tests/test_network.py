"""The network as a whole: what a run shows, dropout, descriptions and files."""

import numpy as np
import pytest

import throughtime as tt
from helpers import CLASSES, cases, example, gradients, network, one_hot, relative_error
from throughtime import storage

CASES = cases()


def test_names():
    net = tt.Network(
        [
            tt.Embedding(5, 2),
            tt.LSTM(2, 3, bidirectional=True, projection=2, peepholes=True),
            tt.GRU(4, 3),
            tt.Dense(3, 5),
        ]
    )
    side = ["W", "U", "b", "p", "R"]
    assert list(net.parameters) == [
        "0.E",
        *[f"1.{name}" for name in side],
        *[f"1.1.{name}" for name in side],
        *[f"2.{name}" for name in ["W", "U", "b", "c"]],
        "3.W",
        "3.b",
    ]
    assert list(net.zero_state(1)) == ["1.h", "1.c", "1.1.h", "1.1.c", "2.h"]
    assert (net.inputs, net.outputs) == (5, 5)
    assert list(net.recurrent) == [1, 2]
    assert net.bidirectional


@pytest.mark.parametrize("ragged", [True, False], ids=["ragged", "full"])
def test_a_run_with_its_inside_open(ragged):
    net = network([tt.LSTM(2, 3, bidirectional=True), tt.GRU(6, 2), tt.Dense(2, 2)])
    case = example(net, 5, 3, ragged=ragged)
    run = net.run(case.inputs, case.state, case.lengths)
    assert sorted(run.hidden) == [0, 1]
    assert sorted(run.cells) == [0]
    assert set(run.gates[0]) == {"i", "f", "a", "o", "tanh_c"}
    assert set(run.gates[1]) == {"r", "z", "n", "u_n"}
    active = np.ones((5, 3, 1)) if not ragged else (np.arange(5)[:, None] < case.lengths)[..., None]
    gates = run.gates[0]
    h = gates["o"] * np.tanh(run.cells[0]) * active
    assert relative_error(run.hidden[0] * active, h) <= 1e-15
    head = net.parameters["2.W"], net.parameters["2.b"]
    assert relative_error(run.outputs, (run.hidden[1] * active) @ head[0].T + head[1]) <= 1e-14
    ends = [5] * 3 if not ragged else case.lengths
    for b, length in enumerate(ends):
        assert np.array_equal(run.state["0.h"][b], run.hidden[0][length - 1, b, :3])
        assert np.array_equal(run.state["0.c"][b], run.cells[0][length - 1, b, :3])
        assert np.array_equal(run.state["0.1.h"][b], run.hidden[0][0, b, 3:])
        assert np.array_equal(run.state["1.h"][b], run.hidden[1][length - 1, b])


@pytest.mark.parametrize("name", ["LSTM", "stacked", "Embedding", "Dropout"])
def test_the_ways_to_a_gradient_agree(name):
    net = tt.Network(CASES[name], tt.MeanSquaredError(batch="sum"), dtype="float64")
    case = example(net)
    options = {
        "state": case.state,
        "lengths": case.lengths,
        "dropout_seed": case.dropout_seed,
    }
    loss, gradient = net.loss_and_gradient(case.inputs, case.doutputs, **options)
    found = net.gradients(case.inputs, case.doutputs, **options)
    value = net.evaluate(case.inputs, case.doutputs, **options)
    assert loss == found.loss.value == value.value
    assert gradient == found.parameters
    assert np.array_equal(value.doutputs, found.loss.doutputs)
    assert (found.inputs is None) == (case.inputs.ndim == 2)
    assert set(net.recurrent) <= set(found.deltas)


@pytest.mark.parametrize("name", ["Dense of indices", "LSTM of indices"])
def test_indices_are_one_hot_vectors(name):
    net = network(CASES[name])
    case = example(net)
    numbers = one_hot(case.inputs, CLASSES)
    by_index = net.forward(case.inputs, case.state, case.lengths)
    by_number = net.forward(numbers, case.state, case.lengths)
    assert relative_error(by_index[0], by_number[0]) <= 1e-15
    ours = net.backward(by_index[2], case.doutputs, case.dstate).parameters
    truth = net.backward(by_number[2], case.doutputs, case.dstate).parameters
    assert relative_error(ours.flat, truth.flat) <= 1e-14


class TestDropout:
    NET = staticmethod(lambda rate=0.4: network([tt.Dense(3, 50), tt.Dropout(rate)]))

    def test_without_a_seed_nothing_is_dropped(self):
        net = self.NET()
        x = np.random.default_rng(0).standard_normal((9, 8, 3))
        bare = network([tt.Dense(3, 50)])
        assert np.array_equal(net.run(x).outputs, bare.run(x).outputs)

    def test_the_seed_draws_the_mask(self):
        net = self.NET()
        x = np.random.default_rng(0).standard_normal((9, 8, 3))
        first, again, other = (net.run(x, dropout_seed=seed).outputs for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_rate_and_scale(self):
        net = self.NET()
        x = np.random.default_rng(0).standard_normal((20, 20, 3))
        kept = net.run(x).outputs
        dropped = net.run(x, dropout_seed=1).outputs
        zero = dropped == 0
        assert abs(zero.mean() - 0.4) < 5 * np.sqrt(0.4 * 0.6 / zero.size)
        assert relative_error(dropped[~zero], kept[~zero] / 0.6) <= 1e-15

    def test_backward_uses_the_forward_pass_mask(self):
        net = self.NET()
        x = np.random.default_rng(0).standard_normal((4, 3, 3))
        _, _, tape = net.forward(x, dropout_seed=1)
        _, _, later = net.forward(x, dropout_seed=2)
        mask, other = tape.layers[1].mask, later.layers[1].mask
        ones = np.ones((4, 3, 50))
        assert relative_error(net.backward(tape, ones).parameters["0.b"], mask.sum((0, 1))) <= 1e-15
        assert (
            relative_error(net.backward(later, ones).parameters["0.b"], other.sum((0, 1))) <= 1e-15
        )

    def test_rate_zero(self):
        net = self.NET(0)
        x = np.ones((2, 2, 3))
        outputs, _, tape = net.forward(x, dropout_seed=1)
        assert np.array_equal(outputs, net.run(x).outputs)
        assert tape.layers[1].mask is None

    @pytest.mark.parametrize("seed", [3, None], ids=["dropped", "nothing dropped"])
    def test_a_tape_can_be_cut(self, seed):
        net = network([tt.RNN(2, 3), tt.Dropout(0.5), tt.Dense(3, 2)])
        case = example(net, 6, 2, ragged=False)
        _, _, tape = net.forward(case.inputs, case.state, dropout_seed=seed)
        late = np.where(np.arange(6)[:, None, None] < 4, 0, case.doutputs)
        whole = net.backward(tape, late)
        end = net.backward(tape.steps(4, 6), case.doutputs[4:])
        start = net.backward(tape.steps(0, 4), late[:4], end.state)
        total = end.parameters + start.parameters
        assert relative_error(total.flat, whole.parameters.flat) <= 1e-14


def test_a_stretch_of_a_tape_holds_its_own_steps_alone():
    net = network([tt.LSTM(2, 3)])
    case = example(net, 6, 3)
    _, _, tape = net.forward(case.inputs, case.state, case.lengths)
    whole = tape.layers[0].directions[0]
    cut = tape.steps(1, 3).layers[0].directions[0]
    assert np.array_equal(cut.inputs, whole.inputs[1:3])
    assert np.array_equal(cut.active, whole.active[1:3])
    for name, array in cut.states.items():
        assert np.array_equal(array, whole.states[name][1:4])
    for name, array in cut.kept.items():
        assert np.array_equal(array, whole.kept[name][1:3])


@pytest.mark.parametrize("first", [tt.RNN(2, 3), tt.Dense(2, 3)], ids=["RNN", "Dense"])
def test_need_inputs(first):
    net = network([first, tt.GRU(3, 2)])
    case = example(net)
    _, _, tape = net.forward(case.inputs, case.state, case.lengths)
    with_inputs = net.backward(tape, case.doutputs, case.dstate)
    without = net.backward(tape, case.doutputs, case.dstate, need_inputs=False)
    assert without.inputs is None
    assert without.parameters == with_inputs.parameters
    assert without.state == with_inputs.state


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_mixes_precisions(name, dtype):
    net = network(CASES[name], dtype)
    case = example(net)
    outputs, final, _ = net.forward(
        case.inputs, case.state, case.lengths, dropout_seed=case.dropout_seed
    )
    run = net.run(case.inputs, case.state, case.lengths, dropout_seed=case.dropout_seed)
    back = gradients(net, case)
    arrays = [outputs, final.flat, back.parameters.flat, back.state.flat]
    arrays += [back.inputs] if back.inputs is not None else []
    arrays += [array for deltas in back.deltas.values() for array in deltas.values()]
    arrays += [*run.hidden.values(), *run.cells.values()]
    arrays += [array for gates in run.gates.values() for array in gates.values()]
    assert {str(array.dtype) for array in arrays} == {dtype}


def test_nothing_that_was_given_is_changed():
    net = network(CASES["stacked"])
    case = example(net)
    before = [
        case.inputs.copy(),
        case.state.flat.copy(),
        case.doutputs.copy(),
        case.dstate.flat.copy(),
        net.parameters.flat.copy(),
    ]
    gradients(net, case)
    after = [case.inputs, case.state.flat, case.doutputs, case.dstate.flat, net.parameters.flat]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("loss", [None, tt.SoftmaxCrossEntropy(time="sum"), tt.MeanSquaredError()])
@pytest.mark.parametrize("name", CASES)
def test_a_description_builds_the_same_network(name, loss):
    net = tt.Network(CASES[name], loss, dtype="float64")
    twin = tt.Network.from_description(net.describe())
    assert twin.specs == net.specs
    assert twin.loss == net.loss
    assert twin.dtype == net.dtype
    assert twin.parameters.shapes == net.parameters.shapes
    assert repr(twin) == repr(net)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_holds_the_whole_network(tmp_path, dtype):
    net = network(CASES["stacked"], dtype)
    net.save(tmp_path / "net.safetensors")
    twin = tt.Network.load(tmp_path / "net.safetensors")
    assert repr(twin) == repr(net)
    assert twin.parameters == net.parameters
    case = example(net)
    assert np.array_equal(
        twin.run(case.inputs, case.state, case.lengths).outputs,
        net.run(case.inputs, case.state, case.lengths).outputs,
    )


def test_a_file_that_holds_no_network_is_refused(tmp_path):
    path = tmp_path / "p.safetensors"
    net = tt.Network([tt.RNN(2, 3)], dtype="float64")
    net.parameters.save(path)
    with pytest.raises(ValueError, match="expected a network's file, got one without"):
        tt.Network.load(path)
    storage.write(path, {"0.W": np.zeros((3, 2))}, {"network": net.describe()})
    with pytest.raises(ValueError, match=r"expected the names 0\.W, 0\.U, 0\.b, got 0\.U missing"):
        tt.Network.load(path)
    wrong = dict(net.parameters) | {"0.b": np.zeros(3, np.float32)}
    storage.write(path, wrong, {"network": net.describe()})
    with pytest.raises(TypeError, match=r"0\.b: expected float64, got float32"):
        tt.Network.load(path)


def test_astype():
    net = network(CASES["stacked"])
    single = net.astype("float32")
    assert single.dtype == np.float32
    assert single.specs == net.specs
    assert np.array_equal(single.parameters.flat, net.parameters.flat.astype(np.float32))
    assert single.astype("float64").parameters != net.parameters


@pytest.mark.parametrize("engine", ["compiled", "readable"])
@pytest.mark.parametrize("lengths", [None, [6, 2]])
def test_inner_gradients_of_both_directions_stand_at_their_own_steps(engine, lengths):
    """δz_t of either direction and x_t at the same step make up δW."""
    layers = [tt.LSTM(3, 4, bidirectional=True), tt.Dense(8, 2)]
    net = tt.Network(layers, tt.MeanSquaredError(), dtype="float64")
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((6, 2, 3)), rng.standard_normal((6, 2, 2))
    options = {"lengths": None if lengths is None else np.array(lengths)}
    with tt.engine(engine):
        found = net.gradients(inputs, targets, **options)
    assert set(found.deltas[0]) == {"h", "c", "z", "1.h", "1.c", "1.z"}
    for prefix in ("", "1."):
        dW = np.einsum("tbg,tbi->gi", found.deltas[0][f"{prefix}z"], inputs)
        assert relative_error(dW, found.parameters[f"0.{prefix}W"]) < 1e-14


def turned(array):
    return np.swapaxes(array, 0, 1)


@pytest.mark.parametrize("ragged", [True, False], ids=["ragged", "full"])
@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_batch_first(kind, ragged):
    """Everything that has steps comes with the batch in front, and with the same numbers."""
    first = [tt.LSTM(3, 4, bidirectional=True)]
    first = first if kind == "numbers" else [tt.Embedding(3, 2), tt.LSTM(2, 4, bidirectional=True)]
    loss = tt.MeanSquaredError() if kind == "numbers" else tt.SoftmaxCrossEntropy()
    layers = [*first, tt.GRU(8, 4), tt.Dense(4, 3)]
    net = tt.Network(layers, loss, dtype="float64", seed=0)
    rng, lengths = np.random.default_rng(3), np.array([5, 3]) if ragged else None
    x, y = rng.standard_normal((2, 5, 2, 3)) if kind == "numbers" else rng.integers(0, 3, (2, 5, 2))
    state = net.zero_state(2)
    state.flat[...] = rng.uniform(-1, 1, state.flat.size)
    mine = net.viewed(batch_first=True)
    assert mine.parameters is net.parameters
    assert "batch_first=True" in repr(mine)
    options = {"state": state, "lengths": lengths}
    run, own = net.run(x, **options), mine.run(turned(x), **options)
    assert np.array_equal(own.outputs, turned(run.outputs))
    assert all(np.array_equal(own.hidden[n], turned(run.hidden[n])) for n in run.hidden)
    assert all(np.array_equal(own.cells[n], turned(run.cells[n])) for n in run.cells)
    assert all(
        np.array_equal(own.gates[n][g], turned(a))
        for n in run.gates
        for g, a in run.gates[n].items()
    )
    assert all(np.array_equal(own.state[name], array) for name, array in run.state.items())
    found, other = net.gradients(x, y, **options), mine.gradients(turned(x), turned(y), **options)
    assert found.parameters == other.parameters
    assert found.loss.value == other.loss.value
    assert np.array_equal(other.loss.terms, turned(found.loss.terms))
    assert np.array_equal(other.loss.doutputs, turned(found.loss.doutputs))
    if kind == "numbers":
        assert np.array_equal(other.inputs, turned(found.inputs))
    for n, deltas in found.deltas.items():
        assert all(np.array_equal(other.deltas[n][d], turned(a)) for d, a in deltas.items())
    assert mine.loss_and_gradient(turned(x), turned(y), **options)[1] == found.parameters
    outputs, _, tape = mine.forward(turned(x), **options)
    again = mine.backward(tape, mine.loss_of(outputs, turned(y), lengths).doutputs)
    assert again.parameters == found.parameters
    report = tt.check(mine, turned(x), turned(y), effort="quick", **options)
    assert report.verdict == "agree"
    flow, same = tt.flow(net, x, y, **options), tt.flow(mine, turned(x), turned(y), **options)
    assert np.array_equal(flow.lag_norms, same.lag_norms)
    assert np.array_equal(
        tt.flow(net, turned(x), turned(y), batch_first=True, **options).lag_norms, flow.lag_norms
    )
    assert tt.first_nonfinite(mine, turned(x), turned(y), **options) is None


def test_batch_first_one_way_and_in_files(tmp_path):
    net = tt.Network([tt.LSTM(3, 4), tt.Dense(4, 2)], tt.MeanSquaredError(), seed=0)
    mine = net.viewed(batch_first=True)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 2, 3), "f"), rng.standard_normal((6, 2, 2), "f")
    args = (turned(x), turned(y))
    assert mine.loss_and_gradient(*args, memory_limit="1MB")[1] == net.loss_and_gradient(x, y)[1]
    short = tt.truncated_loss_and_gradient(net, x, y, k1=2)
    assert tt.truncated_loss_and_gradient(mine, *args, k1=2) == short
    one, other = tt.contributions(net, x, y, step=3), tt.contributions(mine, *args, step=3)
    assert one.gradient == other.gradient
    assert tt.check(mine, *args, k1=2, effort="quick").verdict == "agree"
    mine.save(tmp_path / "m.safetensors")
    loaded = tt.Network.load(tmp_path / "m.safetensors")
    assert loaded.batch_first
    assert loaded.copy().batch_first
    assert "batch_first" not in net.describe()
    with tt.FlowRecorder(live=False) as recorder:
        assert recorder.look(mine, *args).steps == 6


def test_batch_first_names_the_users_shapes_and_places():
    layers = [tt.LSTM(3, 4), tt.Dense(4, 2)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(), batch_first=True)
    x, y = np.zeros((2, 6, 3), np.float32), np.zeros((2, 6), int)
    with pytest.raises(
        ValueError,
        match=r"inputs: expected \(B, T, 3\), got \(6, 3\); add a batch "
        r"axis: inputs\[None\]",
    ):
        net.run(x[0])
    with pytest.raises(ValueError, match=r"targets: expected \(2, 6\), got \(6, 2\)"):
        net.loss_and_gradient(x, y.T)
    with pytest.raises(TypeError, match=r"integers \(B, T\), or probabilities \(B, T, K\)"):
        tt.flow(net, x, y.astype(float))
    x[1, 4, 2] = np.nan
    with pytest.raises(ValueError, match=r"nan at \(1, 4, 2\)"):
        net.loss_and_gradient(x, y)
    assert str(tt.first_nonfinite(net, x, y)) == "inputs, inputs[1, 4, 2]: value nan"
    with pytest.raises(TypeError, match="batch_first: expected True or False, got 1"):
        tt.Network(layers, batch_first=1)
