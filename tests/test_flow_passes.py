"""The flow against T backward passes, one for each loss, and against the package's other ways."""

import numpy as np
import pytest

import derived_cells
import throughtime as tt
from helpers import CELLS, H, I, relative_error
from throughtime.gradient_flow import analyse, chunking, lag_by_lag
from throughtime.gradient_flow.jacobians import Linear, jacobian

T, B = 9, 3
STACK = [
    tt.Embedding(4, I),
    tt.GRU(I, H),
    tt.Dense(H, 2),
    tt.Dropout(0.3),
    tt.LSTM(2, 4, projection=3, peepholes=True),
    tt.Dense(3, 3),
]
NETWORKS = {name: [cell, tt.Dense(cell.output_size, 2)] for name, cell in CELLS.items()}
NETWORKS["stack"] = STACK
NETWORKS["embedding"] = [tt.Embedding(4, 3), tt.Dense(3, I), tt.Dropout(0.3), tt.LSTM(I, H)]


def example(layers, steps=T, batch=B, dtype="float64", seed=0):
    """A network none of whose parameters is 0, inputs and targets."""
    net = tt.Network(layers, tt.MeanSquaredError(), dtype=dtype)
    rng = np.random.default_rng(seed)
    net.parameters.flat[...] = rng.uniform(-1, 1, net.parameters.flat.size)
    if isinstance(layers[0], tt.Embedding):
        inputs = rng.integers(0, 4, (steps, batch))
    else:
        inputs = rng.standard_normal((steps, batch, net.inputs)).astype(net.dtype)
    return net, inputs, rng.standard_normal((steps, batch, net.outputs)).astype(net.dtype)


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks of rows in each chunk."""
    monkeypatch.setattr(lag_by_lag, "BLOCK_ROWS", 4)


@pytest.fixture(params=["batched", "lag by lag"])
def each_way(request, monkeypatch):
    """Both ways of walking back, where both can."""
    if request.param == "lag by lag":
        monkeypatch.setattr(analyse, "can_batch", lambda run, ends: False)


@pytest.mark.usefixtures("small_blocks", "each_way")
@pytest.mark.parametrize("lengths", [None, [9, 5, 1]], ids=["all steps", "ragged"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_one_backward_pass_for_each_loss(name, lengths):
    net, x, y = example(NETWORKS[name])
    state = net.zero_state(B)
    state.flat[...] = np.random.default_rng(1).uniform(-1, 1, state.flat.size)
    counts = None if lengths is None else np.array(lengths)
    found = tt.flow(net, x, y, state=state, lengths=counts, keep=True)
    outputs, _, tape = net.forward(x, state, counts)
    loss = net.loss_of(outputs, y, counts)
    for t in range(T):
        doutputs = np.zeros_like(outputs)
        doutputs[t] = loss.doutputs[t]
        deltas = net.backward(tape, doutputs).deltas
        for number, parts in found.gradients.items():
            for part, kept in parts.items():
                truth = deltas[number][part][: t + 1]
                ours = kept[t, : t + 1][::-1]
                assert relative_error(ours, truth) < 1e-10, (number, part, t)
                norms = np.linalg.norm(truth, axis=2)[:, loss.weights[t] > 0]
                matrix = found.matrix(part, number)
                if norms.size:
                    assert relative_error(matrix[t, : t + 1], norms.mean(axis=1)) < 1e-10
                    spread = found.layers[number].spread[part][t, : t + 1][::-1]
                    assert np.abs(spread - norms.std(axis=1)).max() < 1e-7 * norms.max()
                else:
                    assert np.isnan(matrix[t, : t + 1]).all()
    assert found.loss == pytest.approx(loss.value, rel=1e-12)
    full = net.backward(tape, loss.doutputs).parameters
    assert found.gradient_norm == pytest.approx(full.norm(), rel=1e-10)


@pytest.mark.usefixtures("small_blocks", "each_way")
@pytest.mark.parametrize("name", ["LSTM", "GRU original", "stack", "embedding"])
def test_bias_is_that_of_the_truncated_gradient(name):
    net, x, y = example(NETWORKS[name])
    found = tt.flow(net, x, y, k1=2, k2=4)
    _, full = net.loss_and_gradient(x, y)
    for K, relative in zip(found.bias.steps[:-1], found.bias.relative, strict=False):
        _, short = tt.truncated_loss_and_gradient(net, x, y, k1=1, k2=int(K))
        assert relative == pytest.approx((short - full).norm() / full.norm(), rel=1e-10)
    assert found.bias.relative[-1] == 0
    assert (found.bias.bound >= found.bias.relative - 1e-15).all()
    _, short = tt.truncated_loss_and_gradient(net, x, y, k1=2, k2=4)
    relative = (short - full).norm() / full.norm()
    assert found.advice.window.relative_bias == pytest.approx(relative, rel=1e-12)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("name", ["LSTM peepholes", "GRU", "stack"])
def test_shares_are_those_of_the_contributions(name):
    net, x, y = example(NETWORKS[name], batch=1)
    found = tt.flow(net, x, y)
    assert list(found.share_lags) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    by_lag = [net.parameters.zeros_like() for _ in range(T)]
    for t in range(T):
        for lag, term in enumerate(tt.contributions(net, x, y, step=t).terms):
            by_lag[lag] += term
    for parameter, gates in found.shares.items():
        for place, (gate, shares) in enumerate(gates.items()):
            rows = [np.split(term[parameter], len(gates))[place] for term in by_lag]
            whole = sum(rows)
            truth = [(row * whole).sum() / (whole**2).sum() for row in rows]
            assert np.abs(shares - truth).max() < 1e-10, (parameter, gate)
            assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", NETWORKS)
def test_jacobians_are_the_cells_own(name):
    """J and its transpose against the cells' step_backward, row by row."""
    net, x, y = example(NETWORKS[name])
    for number, layer in net.recurrent.items():
        outputs, _, tape = net.forward(x)
        run = chunking.linearised_run(net, tape, net.loss_of(outputs, y))
        one = run.linear[number]
        cell_tape, p = tape.layers[number].directions[0], net.of_layer(number)
        t, n = 5, sum(one.sizes.values())
        kept = {key: array[t] for key, array in cell_tape.kept.items()}
        before = {key: array[t] for key, array in cell_tape.states.items()}
        J = jacobian(one, t)
        v = np.random.default_rng(0).standard_normal((1, B, n))
        places = np.cumsum(list(one.sizes.values()))[:-1]
        pushed = one.jvp(t, dict(zip(one.sizes, np.split(v, places, axis=2), strict=True)))
        pushed = np.concatenate(list(pushed.values()), axis=2)
        assert relative_error(pushed[0], np.einsum("bij,bj->bi", J, v[0])) < 1e-12
        for row in range(n):
            basis = np.zeros((B, n))
            basis[:, row] = 1
            dstate = dict(zip(one.sizes, np.split(basis, places, axis=1), strict=True))
            _, dbefore, _ = layer.cell.step_backward(p, kept, before, dstate)
            truth = np.concatenate([dbefore[key] for key in one.sizes], axis=1)
            assert np.abs(J[:, row] - truth).max() < 1e-12


def test_the_lyapunov_spectrum_adds_up_to_the_determinants():
    """Of a run whose Jacobians differ from step to step: Σ exponents = mean log |det J_t|."""
    net, x, y = example([tt.RNN(I, H)], steps=50)
    found = tt.flow(net, x, y, max_lag=2).top.lyapunov
    hidden = net.run(x).hidden[0][10:, :1]  # first sequence; the first fifth does not count
    logs = np.log(np.abs(np.linalg.det(net.parameters["0.U"]))) + np.log(1 - hidden**2).sum(axis=2)
    assert found.exponents.sum() == pytest.approx(logs.mean(), rel=1e-10)


def test_the_largest_exponent_is_the_growth_of_forward_products():
    net, x, y = example([tt.LSTM(I, H)], steps=400, batch=1)
    found = tt.flow(net, x, y, max_lag=2).top.lyapunov
    outputs, _, tape = net.forward(x)
    one = chunking.linearised_run(net, tape, net.loss_of(outputs, y)).linear[0]
    v, growth = np.ones(2 * H), 0.0
    for t in range(400):
        v = jacobian(one, t)[0] @ v
        growth += np.log(np.linalg.norm(v)) if t >= 80 else 0.0
        v /= np.linalg.norm(v)
    assert found.exponents[0] == pytest.approx(growth / 320, abs=1e-3)


def test_sampled_end_points_are_rows_of_the_whole():
    net, x, y = example([tt.LSTM(I, H)], steps=60)
    whole = tt.flow(net, x, y, max_lag=12)
    some = tt.flow(net, x, y, max_lag=12, sample=10, seed=3)
    assert len(some.ends) == 10
    assert (np.diff(some.ends) > 0).all()
    rows = whole.top.norms["c"][some.ends]
    assert np.allclose(some.top.norms["c"], rows, rtol=1e-10, atol=0, equal_nan=True)
    assert (whole.top.profile_error["c"] == 0).all()
    z = (some.top.profile["c"] - whole.top.profile["c"]) / some.top.profile_error["c"]
    assert np.abs(z).max() < 5
    assert "10 of 60 steps" in str(some)


def test_a_sampled_profile_has_no_bias():
    net, x, y = example([tt.RNN(I, H)], steps=80)
    truth = tt.flow(net, x, y, max_lag=5, spectrum=False).top.profile["h"]
    found = [
        tt.flow(net, x, y, max_lag=5, sample=16, seed=seed, spectrum=False).top
        for seed in range(40)
    ]
    mean = np.mean([one.profile["h"] for one in found], axis=0)
    error = np.mean([one.profile_error["h"] for one in found], axis=0) / np.sqrt(len(found))
    assert np.abs((mean - truth) / error).max() < 4


def test_a_stream_cut_in_time_gives_the_same(monkeypatch):
    net, x, y = example([tt.GRU(I, H), tt.LSTM(H, 2)], steps=150, batch=2)
    given = {"max_lag": 7, "sample": 50, "state": net.zero_state(2)}
    whole = tt.flow(net, x, y, **given)
    monkeypatch.setattr(chunking, "STREAM_STEPS", 40)
    monkeypatch.setattr(chunking, "CHUNK_STATES", 1)  # stretches as short as lags allow
    cut = tt.flow(net, x, y, **given)
    for number in (0, 1):
        a, b = cut.layers[number], whole.layers[number]
        for part in a.norms:
            assert np.allclose(a.norms[part], b.norms[part], rtol=1e-9, atol=0, equal_nan=True)
        assert np.allclose(a.time_constants, b.time_constants, rtol=1e-10)
        assert a.gates["z" if number == 0 else "f"].mean == pytest.approx(
            b.gates["z" if number == 0 else "f"].mean, rel=1e-12
        )
    assert cut.loss == pytest.approx(whole.loss, rel=1e-12)
    assert cut.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-10)
    both = np.isin(whole.bias.steps, cut.bias.steps)  # a stream has fewer stretches
    seen = cut.bias.relative - cut.bias.beyond, whole.bias.relative - whole.bias.beyond
    assert np.allclose(seen[0], seen[1][both], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_that_no_loss_passed_through_add_nothing(name):
    """Of few losses the gradient is that of a backward pass in which the others are left out."""
    net, x, y = example(NETWORKS[name], steps=60)
    found = tt.flow(net, x, y, max_lag=59, sample=2, seed=1)
    outputs, _, tape = net.forward(x)
    doutputs = net.loss_of(outputs, y).doutputs
    chosen = np.zeros_like(doutputs)
    chosen[found.ends] = doutputs[found.ends]
    truth = net.backward(tape, chosen).parameters
    assert found.gradient_norm / 30 == pytest.approx(truth.norm(), rel=1e-10)


def test_both_engines_find_the_same():
    net, x, y = example([tt.LSTM(I, H), tt.Dense(H, 2)])
    with tt.engine("readable"):
        readable = tt.flow(net, x, y)
    assert relative_error(tt.flow(net, x, y).lag_norms, readable.lag_norms) < 1e-12


def test_float32_stays_near_float64():
    net, x, y = example([tt.LSTM(I, H), tt.Dense(H, 2)], steps=40)
    single = tt.flow(net.astype("float32"), x.astype("f4"), y.astype("f4"))
    assert relative_error(single.lag_norms, tt.flow(net, x, y).lag_norms) < 1e-5
    assert single.dtype == "float32"


WRONG = {
    "a list": (
        lambda net, x, y: tt.flow([net], x, y),
        "flow: expected a Network or a torch module, got list",
    ),
    "no targets": (lambda net, x, y: tt.flow(net, x), "inputs and targets, got 1 arrays"),
    "tolerance": (lambda net, x, y: tt.flow(net, x, y, tolerance=2), "between 0 and 1, got 2"),
    "clip": (lambda net, x, y: tt.flow(net, x, y, clip=0), "clip: expected a norm above 0, got 0"),
    "k2": (lambda net, x, y: tt.flow(net, x, y, k2=0), "k2: expected an integer of at least 1"),
    "sample": (lambda net, x, y: tt.flow(net, x, y, sample=0), "sample: expected an integer"),
    "max_lag": (lambda net, x, y: tt.flow(net, x, y, max_lag=-1), "max_lag: expected an integer"),
    "targets": (lambda net, x, y: tt.flow(net, x, y[:-1]), r"targets: expected \(9, 3, 3\), got"),
    "part": (lambda net, x, y: tt.flow(net, x, y).matrix("c"), "part: expected h, got 'c'"),
    "layer": (lambda net, x, y: tt.flow(net, x, y).matrix(layer=4), "layer: expected one of 0"),
    "carousel": (lambda net, x, y: tt.flow(net, x, y).carousel_share, "an LSTM or a GRU"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused(name):
    call, message = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call(*example([tt.RNN(I, H)]))


def test_networks_through_which_nothing_flows_are_refused():
    x, y = np.zeros((4, 1, I)), np.zeros((4, 1, H))
    with pytest.raises(ValueError, match="a recurrent layer, got none"):
        tt.flow(tt.Network([tt.Dense(I, H)], tt.MeanSquaredError(), dtype="float64"), x, y)
    with pytest.raises(ValueError, match="a loss, got none"):
        tt.flow(tt.Network([tt.RNN(I, H)], dtype="float64"), x, y)


def test_one_step_and_no_gradient():
    net, x, y = example([tt.LSTM(I, H)], steps=1)
    found = tt.flow(net, x, y)
    assert found.lag_norms.shape == (1, 1)
    assert str(found)
    outputs = net.run(x).outputs
    assert str(tt.flow(net, x, outputs))  # the loss is at its smallest: no gradient at all


WRITTEN_ONCE = {name: derived_cells.made(own) for name, own in derived_cells.CELLS.items()}


def tape_of(cell, lengths=None, seed=0):
    rng = np.random.default_rng(seed)
    p = {key: 0.6 * rng.standard_normal(shape) for key, shape in cell.shapes().items()}
    x = rng.standard_normal((T, B, cell.inputs))
    return p, cell.forward(p, x, None, None if lengths is None else np.array(lengths))[2]


@pytest.mark.parametrize("lengths", [None, [9, 5, 1]], ids=["all steps", "ragged"])
@pytest.mark.parametrize("name", [*CELLS, "slstm", "mlstm", "gru_d", "lif", "liquid", "cfc"])
def test_the_derivative_of_a_step_is_that_of_its_backward_pass(name, lengths):
    """Of rows at any steps, against `step_backward`; the map of changes is its transpose."""
    cell = {**CELLS, **WRITTEN_ONCE}[name]
    p, tape = tape_of(cell, lengths)
    one, rng = Linear(cell, p, tape), np.random.default_rng(1)
    living = np.ones((T, B), bool) if tape.active is None else tape.active[..., 0]

    def rows(count=3):
        return {part: rng.standard_normal((count, B, n)) for part, n in cell.state_sizes.items()}

    for at in (2, slice(4, 7), np.array([0, 8, 8])):
        later = rows()
        deltas, before = one.vjp(at, later)
        for row, t in enumerate(np.broadcast_to(np.arange(T)[at], 3)):
            kept = {key: array[t] for key, array in tape.kept.items()}
            states = {key: array[t] for key, array in tape.states.items()}
            own = {key: array[row] for key, array in later.items()}
            dz, dbefore, dafter = cell.step_backward(p, kept, states, own)
            here = living[t][:, None]
            for part in cell.state_sizes:
                assert relative_error(before[part][row], np.where(here, dbefore[part], 0)) < 1e-13
                assert relative_error(deltas[part][row], np.where(here, dafter[part], own[part]))\
                    < 1e-13  # fmt: skip
            assert relative_error(deltas["z"][row], np.where(here, dz, 0)) < 1e-13
        for edges in ("carry", "rest"):
            some = one.vjp(at, later, edges)[1]
            other = one.vjp(at, later, "rest" if edges == "carry" else "carry")[1]
            for part in cell.state_sizes:
                assert relative_error(some[part] + other[part], before[part]) < 1e-13
    change, later = rows(), rows()
    moved, before = one.jvp(4, change), one.vjp(4, later)[1]
    for b in range(B):
        left = sum((moved[part][:, b] * later[part][:, b]).sum() for part in change)
        right = sum((before[part][:, b] * change[part][:, b]).sum() for part in change)
        assert left == pytest.approx(right, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("each", ["batched", "lag by lag"])
@pytest.mark.parametrize("name", ["liquid", "lif", "sru", "coupled_lstm", "mlstm"])
def test_the_flow_of_a_cell_that_is_written_once_adds_up_to_its_gradient(name, each, monkeypatch):
    if each == "lag by lag":
        monkeypatch.setattr(analyse, "can_batch", lambda run, ends: False)
    cell = WRITTEN_ONCE[name]
    net, x, y = example([cell, tt.Dense(cell.output_size, 2)])
    net.parameters.flat[...] *= 0.6
    found = tt.flow(net, x, y, keep=True)
    truth = net.loss_and_gradient(x, y)[1].norm()
    assert found.gradient_norm == pytest.approx(truth, rel=1e-12)
    assert set(found.top.norms) == set(cell.state_sizes)


def test_the_carry_of_a_coupled_gate_is_what_it_leaves():
    """c_t = (1 − i) ⊙ c_{t−1} + i ⊙ a: a gradient on the direct path is multiplied by 1 − i."""
    cell = WRITTEN_ONCE["coupled_lstm"]
    p, tape = tape_of(cell)
    one, x = Linear(cell, p, tape), tape.inputs
    z_i = x @ p["W"][:3].T + tape.states["h"][:-1] @ p["U"][:3].T + p["b"][:3]
    assert one.carried == "c"
    assert relative_error(one.carry, 1 - 1 / (1 + np.exp(-z_i))) < 1e-14
    net, x, y = example([cell, tt.Dense(cell.output_size, 2)])
    paths = tt.flow(net, x, y).top.paths
    assert np.abs(sum(paths.values()) - 1).max() < 1e-10
