"""The compiled walk of all losses against its readable twin."""

import numpy as np
import pytest

import throughtime as tt
from helpers import relative_error
from throughtime import _engine
from throughtime.cells import CELLS
from throughtime.gradient_flow import lag_matrix
from throughtime.gradient_flow.batched_vjp import measure_batched
from throughtime.gradient_flow.chunking import linearised_run

KINDS = {
    "RNN": lambda H: tt.RNN(3, H),
    "relu": lambda H: tt.RNN(3, H, "relu"),
    "LSTM": lambda H: tt.LSTM(3, H),
    "peepholes": lambda H: tt.LSTM(3, H, peepholes=True),
    "GRU": lambda H: tt.GRU(3, H),
}


def run_of(cell, T=21, B=5, dtype="float64", lengths=None, size=1.0):
    """A run ready to be walked back, some of whose losses count nothing."""
    net = tt.Network([cell, tt.Dense(cell.output_size, 2)], tt.MeanSquaredError(), dtype=dtype)
    rng = np.random.default_rng(0)
    net.parameters.flat[...] = rng.uniform(-size, size, net.parameters.flat.size)
    x = rng.standard_normal((T, B, 3)).astype(dtype)
    outputs, _, tape = net.forward(x, None, lengths)
    targets = rng.standard_normal((T, B, 2)).astype(dtype)
    return linearised_run(net, tape, net.loss_of(outputs, targets, lengths))


def both(run, lags, starts):
    """What the compiled and the readable walk find."""
    ends = np.arange(run.steps)
    with tt.engine("readable"):
        readable = measure_batched(run, ends, lags - 1, starts)
    return measure_batched(run, ends, lags - 1, starts), readable


def same(ours, truth, tolerance):
    for part, norms in truth.norms[0].items():
        for name in ("total", "squares", "count", "by_sequence", "steps"):
            found = getattr(ours.norms[0][part], name)
            assert relative_error(found, getattr(norms, name)) < tolerance, (part, name)
    assert len(ours.by_lag) == len(truth.by_lag)
    for one, other in zip(ours.by_lag, truth.by_lag, strict=True):
        assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("units", [1, 5, 16, 70, 130])
@pytest.mark.parametrize("kind", KINDS)
def test_both_walks_find_the_same(kind, units, dtype):
    run = run_of(KINDS[kind](units), dtype=dtype, size=2 / np.sqrt(units))
    same(*both(run, 21, (0, 1, 2, 5, 11)), 1e-12 if dtype == "float64" else 2e-5)


@pytest.mark.parametrize("starts", [(), (0,), (0, 4), (0, 1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize("lags", [1, 2, 7])
@pytest.mark.parametrize("kind", CELLS)
def test_fewer_lags_than_steps_and_any_stretches(kind, lags, starts):
    given = tuple(start for start in starts if start < lags)
    same(*both(run_of(KINDS[kind](4)), lags, given), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_of_different_lengths(kind):
    run = run_of(KINDS[kind](4), B=3, lengths=np.array([21, 1, 9]))
    assert not run.counted.all()
    same(*both(run, 21, (0, 3)), 1e-12)


def test_more_rows_than_a_block():
    same(*both(run_of(tt.LSTM(3, 4), T=130, B=2), 130, (0, 60)), 1e-12)


def test_a_step_without_a_loss_does_not_count():
    run = run_of(tt.LSTM(3, 4))
    run.counted[5, 2] = False  # while something still arrives there
    run.counted[:, 1] = False
    ours, truth = both(run, 21, ())
    same(ours, truth, 1e-12)
    assert not ours.norms[0]["c"].by_sequence[:, 1].any()


@pytest.mark.parametrize("scale", [1e-3, 60.0])
@pytest.mark.parametrize("kind", CELLS)
def test_rows_that_leave_the_range_are_brought_back(kind, scale):
    cell = tt.RNN(3, 4, "relu") if kind == "RNN" else KINDS[kind](4)
    run = run_of(cell, dtype="float32", size=0.5)
    run.network.parameters["0.U"][...] *= scale
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        ours, truth = both(run, 21, (0, 1, 9))
    for part, norms in truth.norms[0].items():
        found, expected = ours.norms[0][part].total, norms.total
        there = expected > 0
        assert (there == (found > 0)).all()
        assert np.abs(found[there] / expected[there] - 1).max() < 1e-4
    for one, other in zip(ours.by_lag, truth.by_lag, strict=True):
        if np.isfinite(other.norm()):
            assert (one - other).norm() <= 1e-4 * other.norm()


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_no_bit(threads):
    run = run_of(tt.LSTM(3, 70), T=60, B=5, dtype="float32")
    before = _engine.threads()
    try:
        _engine.set_threads(1)
        alone, _ = both(run, 60, (0, 1, 30))
        _engine.set_threads(threads)
        shared, _ = both(run, 60, (0, 1, 30))
    finally:
        _engine.set_threads(before)
    for part in ("h", "c"):
        assert (alone.norms[0][part].total == shared.norms[0][part].total).all()
        assert (alone.norms[0][part].by_sequence == shared.norms[0][part].by_sequence).all()
    for one, other in zip(alone.by_lag, shared.by_lag, strict=True):
        assert (one.flat == other.flat).all()


@pytest.mark.parametrize("lengths", [None, np.array([12, 3])], ids=["all steps", "ragged"])
@pytest.mark.parametrize("layers", [[tt.LSTM(3, 4)], [tt.GRU(3, 4), tt.LSTM(4, 4, projection=2)]])
def test_the_matrix_alone_is_that_of_the_flow(layers, lengths):
    net = tt.Network(layers, tt.MeanSquaredError(), dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 2, 3)), rng.standard_normal((12, 2, net.outputs))
    state = net.zero_state(2)
    state.flat[...] = rng.uniform(-1, 1, state.flat.size)
    given = {"state": state, "lengths": lengths}
    found, flow = lag_matrix(net, x, y, **given), tt.flow(net, x, y, **given)
    assert list(found) == ["h", "c"]
    for part, matrix in found.items():
        assert matrix.shape == (12, 12)
        assert np.allclose(matrix, flow.matrix(part), rtol=1e-12, atol=0, equal_nan=True)


def test_the_matrix_of_nothing_is_refused():
    x, y = np.zeros((4, 1, 3)), np.zeros((4, 1, 2))
    with pytest.raises(ValueError, match="a recurrent layer, got none"):
        lag_matrix(tt.Network([tt.Dense(3, 2)], tt.MeanSquaredError(), dtype="float64"), x, y)
    with pytest.raises(ValueError, match="loss: expected a loss, got none"):
        lag_matrix(tt.Network([tt.RNN(3, 2)], dtype="float64"), x, y)
    both_ways = tt.RNN(3, 2, bidirectional=True)
    net = tt.Network([both_ways], tt.MeanSquaredError(), dtype="float64")
    with pytest.raises(ValueError, match="one direction"):
        lag_matrix(net, x, np.zeros((4, 1, 4)))


def arrays(**changed):
    """What the engine is handed, for 4 steps, 2 sequences and 3 units of an LSTM."""
    given = {
        "starts": np.array([0, 2], np.intp),
        "U": np.ones((12, 3)),
        "factors": np.ones((4, 2, 4, 3)),
        "carry": np.ones((4, 2, 3)),
        "through_h": np.ones((4, 2, 3)),
        "arriving": np.ones((4, 2, 3)),
        "total": np.zeros((2, 4, 4)),
        "squares": np.zeros((2, 4, 4)),
        "by_sequence": np.zeros((2, 4, 2)),
        "sums": np.zeros((2, 4, 2, 6)),
    }
    return list((given | changed).values())


WRONG = {
    "U": ({"U": np.ones((9, 3))}, r"U: expected shape \(12, 3, \)"),
    "precision": ({"factors": np.ones((4, 2, 4, 3), "f4")}, "factors: expected shape"),
    "carry": ({"carry": None}, "carry: expected an array, got None"),
    "arriving": ({"arriving": np.ones((4, 6))}, r"arriving: expected \(T, B, H\)"),
    "strided": ({"squares": np.zeros((2, 4, 8))[..., ::2]}, "expected a contiguous array"),
    "total": ({"total": np.zeros((2, 3, 4))}, "total: expected shape"),
    "sums": ({"sums": None}, "sums: expected an array, got None"),
    "first stretch": ({"starts": np.array([1, 2], np.intp)}, "starts: expected 0 to 0, got 1"),
    "last stretch": ({"starts": np.array([0, 4], np.intp)}, "starts: expected 1 to 3, got 4"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_engine_refuses_what_does_not_fit(name):
    changed, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        _engine.lags(1, *arrays(**changed))
    with pytest.raises(ValueError, match="kind"):
        _engine.lags(7, *arrays())
