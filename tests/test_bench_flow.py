"""The flow's benchmark: that it compares before it times, what its tasks are, what it prints."""

import json

import numpy as np
import pytest

import throughtime as tt
from benchmarks import cli, engine, torch_layer
from benchmarks.cases import Case
from benchmarks.flow import lags, memory, overhead, stream, tasks, truncation
from benchmarks.flow.tasks import LinearNetwork, Task
from helpers import relative_error

TINY = Case("LSTM", B=2, T=7, I=3, H=4)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """One thread, since two of torch wait for each other on a busy machine; tiny cases."""
    before = tt.engine_info()["threads"]
    tt.set_threads(1)
    monkeypatch.setattr(lags, "QUICK", TINY)
    monkeypatch.setattr(lags, "peak", lambda dtype: 100.0)
    monkeypatch.setattr(memory, "CASE", TINY)
    monkeypatch.setattr(engine, "peak", lambda dtype: 100.0)
    monkeypatch.setattr(tasks, "UPDATES", 3)
    yield
    tt.set_threads(before)


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setattr(torch_layer, "find", lambda: None)


# --- the lag matrix ---


def test_the_matrix_is_that_of_t_calls_of_autograd():
    torch = pytest.importorskip("torch")
    case = Case("LSTM", B=3, T=7, I=3, H=4, dtype="float64")
    ours = lags.Ours(case)
    twin = lags.UnrolledTwin(torch, ours)
    truth = twin.run(1)
    assert truth["c"].shape == (7, 7)
    assert (np.triu(truth["c"], 1) == 0).all()
    found = ours.runs()["matrix"]()
    for part in ("h", "c"):
        assert relative_error(found[part], truth[part]) < 1e-12
    some = twin.run(1, [2, 6])
    assert (some["h"][[2, 6]] == truth["h"][[2, 6]]).all()
    assert not some["h"][[0, 1, 3, 4, 5]].any()
    assert lags.compare(ours, twin) < 1e-12


@pytest.mark.parametrize("wrong", ["lag_matrix", "flow"])
def test_a_matrix_that_differs_ends_the_benchmark(wrong, monkeypatch):
    pytest.importorskip("torch")

    class Off:
        """A flow one of whose rows is off by 0.1 %."""

        def __init__(self, *given, **options):
            self.true = tt.flow(*given, **options)

        def matrix(self, part):
            found = self.true.matrix(part).copy()
            found[2] *= 1.001
            return found

    def off(*given):
        flow = Off(*given)
        return {part: flow.matrix(part) for part in "hc"}

    monkeypatch.setattr(lags, wrong, off if wrong == "lag_matrix" else Off)
    with pytest.raises(ValueError, match="lag matrix of h: expected what torch has, got a differ"):
        lags.lag_rows(quick=True)


def test_rows_of_the_matrix():
    pytest.importorskip("torch")
    rows = lags.lag_rows(quick=True)
    assert [row["what"] for row in rows] == list(lags.WAYS.values())
    for row in rows:
        assert row["ratio"] == row["torch_seconds"] / row["seconds"]
        assert row["error"] < 1e-5
    assert lags.operations(TINY) == 21 * 2 * 2 * 8 * 4
    assert rows[0]["gflops"] == pytest.approx(lags.operations(TINY) / rows[0]["seconds"] / 1e9)
    assert rows[0]["peak_share"] == rows[0]["gflops"] / 100


@pytest.mark.usefixtures("no_torch")
def test_without_torch_nothing_is_beside():
    for row in lags.lag_rows(quick=True):
        assert row["seconds"] > 0
        assert row["torch_seconds"] is row["ratio"] is row["error"] is None


def test_memory_is_measured_in_processes_of_their_own():
    if not (memory.PROCESS / "clear_refs").exists():
        pytest.skip("no /proc/self/clear_refs on this system")
    case = Case("LSTM", B=16, T=128, I=16, H=64)
    matrix, kept = (memory._megabytes(case, who) for who in ("matrix", "kept"))
    assert kept > 2 * 4 * 128**2 / 2 * 16 * 64 / 1e6  # all gradients of h and c
    assert matrix < kept / 4


@pytest.mark.usefixtures("no_torch")
def test_rows_of_the_memory(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "_megabytes", lambda case, who: asked.append((case.T, who)) or 2.0)
    rows = memory.memory_rows(quick=False)
    if rows:
        assert [row["torch_mb"] for row in rows] == [None] * 4
        assert [row["kept_mb"] for row in rows] == [2, 2, None, None]
        assert rows[1]["matrix_per_tbh"] == 2e6 / (256 * 2 * 4)
        assert len(asked) == 4 + 4 + 2


def test_rows_of_a_stream(monkeypatch):
    monkeypatch.setattr(stream, "CLASSES", 4)
    monkeypatch.setattr(stream, "LAGS", 5)
    monkeypatch.setattr(stream, "UNITS", 4)
    monkeypatch.setattr(stream, "QUICK", 1200)
    for row in stream.stream_rows(quick=True):
        assert row["ratio"] == row["seconds"] / min(row["windows_seconds"], row["whole_seconds"])


def test_a_pass_in_windows_carries_the_state_on():
    net = tt.Network([tt.LSTM(4, 3), tt.Dense(3, 4)], tt.SoftmaxCrossEntropy(), seed=0)
    symbols = np.random.default_rng(0).integers(0, 4, (251, 1))
    state = net.run(symbols[:200]).state
    _, gradient = net.loss_and_gradient(symbols[200:250], symbols[201:], state=state)
    found = stream.in_windows(net, symbols[:-1], symbols[1:])
    assert found == pytest.approx(gradient.norm(), rel=1e-6)


def test_rows_of_the_overhead(monkeypatch):
    monkeypatch.setattr(overhead, "QUICK", 0.2)
    monkeypatch.setattr(overhead, "STEPS", 4)
    monkeypatch.setattr(overhead, "UNITS", 4)
    (row,) = overhead.overhead_rows(quick=True)
    assert row["overhead"] == row["seconds"] / row["plain_seconds"] - 1
    assert row["updates"] >= 1
    assert row["looks"] >= 0


# --- the advice ---


@pytest.mark.parametrize("lag", [10, 50])
def test_copying_asks_for_what_was_seen_so_many_steps_before(lag):
    task = Task("copying", lag)
    x, y = task.draw(np.random.default_rng(0))
    assert x.shape == y.shape == (lag + 10, tasks.BATCH)
    assert (y[-10:] == x[:10]).all()
    assert (x[10:] == tasks.SYMBOLS).all()
    weights = task.network("GRU", 0).loss.weights(lag + 10, tasks.BATCH)
    assert not weights[:-10].any()
    assert weights.sum() == pytest.approx(1)


def test_adding_marks_two_numbers_a_lag_apart():
    task = Task("adding", 50)
    x, y = task.draw(np.random.default_rng(0))
    for b in range(tasks.BATCH):
        first, second = np.flatnonzero(x[:, b, 1])
        assert second - first == 50
        assert y[-1, b, 0] == pytest.approx(x[first, b, 0] + x[second, b, 0])
    weights = task.network("LSTM", 0).loss.weights(60, tasks.BATCH)
    assert weights[-1].sum() == pytest.approx(1)
    assert not weights[:-1].any()


def test_training_lowers_the_loss():
    task, rng = Task("adding", 10), np.random.default_rng(0)
    net, data = task.network("LSTM", 0), task.draw(rng)
    before = net.loss_and_gradient(*data)[0]
    task.train(net, rng, 60)
    assert net.loss_and_gradient(*data)[0] < before / 2


def test_the_bias_of_a_linear_network_in_closed_form():
    rng = np.random.default_rng(3)
    linear = LinearNetwork(rng)
    x, y = linear.draw(rng, 30)
    lengths = (1, 2, 7, 29, 30)
    found = truncation.biases(linear.network, x, y, lengths)
    truth = [linear.bias(y, K) for K in lengths]
    assert relative_error(found, truth) < 1e-10
    assert truth[-1] == 0


def test_biases_are_those_of_truncated_bptt():
    task, rng = Task("copying", 10), np.random.default_rng(0)
    net, data = task.network("GRU", 0), task.draw(rng)
    (found,) = truncation.biases(net, *data, [6])
    truncation._confirm(net, *data, 6, found)
    with pytest.raises(ValueError, match="bias at K = 6: expected that of truncated BPTT"):
        truncation._confirm(net, *data, 6, 1.01 * found)


def test_a_bias_beyond_the_bound_is_counted_as_such(monkeypatch):
    found = list(truncation._linear(0))
    assert [row["bound"] for row in found] == list(truncation.BOUNDS)
    for row in found:
        assert row["held"] == (row["bias"] <= row["bound"])
    monkeypatch.setattr(LinearNetwork, "bias", lambda self, targets, K: 0.2)
    assert [row["held"] for row in truncation._linear(0)] == [False, False, True]


def test_rows_of_a_task():
    rows = list(truncation._of_task(Task("adding", 10), "LSTM", "trained", 0))
    assert [row["bound"] for row in rows] == list(truncation.BOUNDS)
    assert {row["task"] for row in rows} == {"adding 10"}
    assert {row["T"] for row in rows} == {20}
    steps = [row["K"] for row in rows]
    assert steps == sorted(steps, reverse=True)
    assert all(row["seen"] <= row["bound"] for row in rows)


def test_what_the_runs_come_to():
    row = {"task": "adding 10", "state": "trained", "T": 20, "seen": 0.1}
    rows = [
        row | {"bound": 0.1, "K": 5, "bias": 0.05, "held": True},
        row | {"bound": 0.1, "K": 10, "bias": 0.2, "held": False},
        row | {"bound": 0.3, "K": 1, "bias": 0.2, "held": True, "state": "at init", "seen": 0.4},
        row | {"bound": 0.1, "K": 1, "bias": 0.01, "held": True, "state": "at init"},
    ]
    trained, init, everything = truncation.summary(rows)
    assert (trained["name"], trained["runs"], trained["held"]) == ("adding 10, trained", 2, 0.5)
    assert (trained["K"], trained["share"], trained["excess"]) == (7.5, 0.375, 2)
    assert (init["held"], init["seen_held"], init["K"]) == (1, 0.5, 1)
    assert (everything["name"], everything["runs"], everything["held"]) == ("all", 4, 0.75)


# --- the command ---


def test_the_command_prints_tables_and_writes_rows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(truncation, "runs", lambda quick, seeds: [(Task("adding", 10), "GRU",
                                                                  "trained", 0)])  # fmt: skip
    monkeypatch.setattr(tasks, "BATCH", 8)
    given = ["flow", "--quick", "--only", "truncation", "lags"]
    assert cli.main([*given, "--json", str(tmp_path / "rows.json")]) == 0
    printed = capsys.readouterr().out
    assert "The gradients of all losses by all states before them, LSTM 2,7,3,4" in printed
    assert printed.index("differs by" if torch_layer.find() else "GF/s") < printed.index("held")
    assert "adding 10, trained" in printed
    assert "linear, closed form" in printed
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["part"] for row in rows} == {"lags", "truncation"}
    assert len([row for row in rows if row["part"] == "truncation"]) == 3 * 11
    assert max(map(len, printed.splitlines())) <= 110


def test_runs_that_broke_their_word_are_listed(capsys, monkeypatch):
    monkeypatch.setattr(truncation, "runs", lambda quick, seeds: [])
    monkeypatch.setattr(LinearNetwork, "bias", lambda self, targets, K: 0.2)
    assert cli.main(["flow", "--quick", "--only", "truncation"]) == 0
    assert "bias 0.2 where 0.05 was asked" in capsys.readouterr().out


def test_no_seeds_are_refused(capsys):
    assert cli.main(["flow", "--seeds", "0"]) == 3
    assert "--seeds: expected an integer of at least 1, got 0" in capsys.readouterr().err
