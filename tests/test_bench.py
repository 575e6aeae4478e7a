"""The benchmark: what it counts, that it compares before it times, what it writes."""

import json
import sys

import numpy as np
import pytest

import throughtime as tt
from benchmarks import (
    cases,
    cli,
    derive,
    engine,
    growth,
    jax_layer,
    limits,
    sweep,
    torch_layer,
    training,
)
from benchmarks.cases import Case, Ours
from benchmarks.tables import GROWTH, LIMITS, TIMES, TRAINING, table
from benchmarks.timing import take_turns
from benchmarks.torch_layer import TorchLayer
from benchmarks.tuned import Tuned
from throughtime.training import Text

KEYS = {"case", "ours_ms", "torch_ms", "torch_tuned_ms", "ratio", "gflops", "peak_share"}
TEXT = Text("To and fro, and to and fro again; " * 60)
TINY = training.Model(8, B=2, T=5)
KINDS = ["", "ragged", "inner", "window"]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Two threads of torch on a busy machine wait for each other."""
    before = tt.engine_info()["threads"]
    tt.set_threads(1)
    monkeypatch.setattr(engine, "peak", lambda dtype: 100.0)
    monkeypatch.setattr(training, "BLOCK", 0.01)
    monkeypatch.setattr(training, "UPDATES", 10)
    yield
    tt.set_threads(before)


@pytest.fixture
def _no_torch(monkeypatch):
    monkeypatch.setattr(torch_layer, "find", lambda: None)
    monkeypatch.setattr("benchmarks.cli.find", lambda: None)
    monkeypatch.setattr(jax_layer, "find", lambda: None)


# --- what is counted ---


def test_work_is_that_of_the_products():
    assert Case("LSTM", 32, 128, 256, 256).work == 3 * 2 * 32 * 128 * 4 * 256 * 512
    assert Case("GRU", 2, 3, 5, 7, forward_only=True).work == 2 * 2 * 3 * 3 * 7 * 12
    ragged = Case("RNN", 3, 8, 1, 1, kind="ragged")
    assert ragged.lengths().tolist() == [8, 5, 2]
    assert ragged.work == 3 * 2 * 15 * 2


def test_names_are_told_apart():
    every = [*cases.TABLE, *cases.FORWARD, *cases.SWEEP]
    assert len({str(case) for case in every}) == len(set(every))
    assert str(Case("GRU", 8, 128, 64, 64)) == "GRU 8,128,64,64 float32"
    assert len(cases.TABLE) == len(cases.FORWARD) == 13
    assert len(cases.SWEEP) == 360


# --- turns ---


def test_the_smallest_time_counts_and_who_is_lost_stops():
    calls = {"ours": 0, "torch 1": 0, "torch 2": 0}

    def clock(name, times):
        def timed():
            calls[name] += 1
            return times[min(calls[name], len(times)) - 1]

        return timed

    contestants = {
        "ours": clock("ours", [0.001]),  # much faster than all others, who stay in
        "torch 1": clock("torch 1", [0.5, 0.3, 0.4]),
        "torch 2": clock("torch 2", [30.0, 0.1]),
    }
    best = take_turns(contestants, 0.0, rounds=3)
    assert best == {"ours": 0.001, "torch 1": 0.3, "torch 2": 30.0}
    assert calls["torch 1"] >= 3
    assert calls["torch 2"] == 1


# --- comparing ---


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("forward_only", [False, True])
@pytest.mark.parametrize(
    ("cell", "kind"), [("RNN", ""), ("GRU", ""), *(("LSTM", kind) for kind in KINDS)]
)
def test_all_libraries_agree(torch, cell, kind, forward_only, dtype):
    case = Case(cell, 5, 9, 3, 4, dtype, kind, forward_only)
    ours, others = Ours(case), engine.opponents(case)
    assert others
    for other in others:
        engine.compare(case, ours, other)


def test_one_step_from_a_state_of_zero(torch):
    case = Case("GRU", 2, 1, 3, 4)
    assert not Ours(case).results()["δU"].any()
    for other in engine.opponents(case):
        assert engine.compare(case, Ours(case), other) < 1e-6


@pytest.mark.parametrize("wrong", ["outputs", "δx", "δW", "δU", "δb", "every δh", "every δc"])
def test_a_wrong_result_is_refused_before_anything_is_timed(torch, monkeypatch, wrong):
    results = Ours.results

    def broken(self):
        found = results(self)
        array = found[wrong].copy()
        array.flat[0] += 1e-3 * np.linalg.norm(array)
        return found | {wrong: array}

    monkeypatch.setattr(Ours, "results", broken)
    monkeypatch.setattr(engine, "take_turns", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(ValueError, match=f"{wrong}: expected what Torch has, got a relative"):
        engine.row(Case("LSTM", 2, 4, 3, 4, kind="inner"), 0.0, 1)


def test_a_wrong_backward_pass_is_refused(torch, monkeypatch):
    backward = tt.GRU.backward

    def broken(self, *arguments, **options):
        found = backward(self, *arguments, **options)
        found.parameters["c"] *= -1
        return found

    monkeypatch.setattr(tt.GRU, "backward", broken)
    with pytest.raises(ValueError, match="GRU 2,4,3,4 float32: δc"):
        engine.row(Case("GRU", 2, 4, 3, 4), 0.0, 1)


def test_a_result_that_is_not_compared_is_refused(torch, monkeypatch):
    case = Case("RNN", 2, 4, 3, 4)
    results = TorchLayer.results
    monkeypatch.setattr(TorchLayer, "results", lambda self: {"outputs": results(self)["outputs"]})
    with pytest.raises(ValueError, match="results: expected outputs, got outputs, δx"):
        engine.row(case, 0.0, 1)


# --- rows ---


def test_a_row(torch):
    with Tuned() as tuned:
        row = engine.row(Case("GRU", 2, 4, 3, 4), 0.0, 1, tuned)
    assert row.keys() >= KEYS
    assert row["case"] == "GRU 2,4,3,4 float32"
    assert row["torch_ms"] == min(row["torch_threads_ms"].values())
    assert row["ratio"] == pytest.approx(row["torch_ms"] / row["ours_ms"])
    assert row["peak_share"] == pytest.approx(row["gflops"] / 100)
    assert row["torch_tuned_ms"] > 0
    assert 0 < row["error"] < 1e-5
    assert json.loads(json.dumps(row)) == row


@pytest.mark.usefixtures("_no_torch")
def test_without_other_libraries_their_columns_are_empty():
    row = engine.row(Case("GRU", 2, 4, 3, 4), 0.0, 1)
    assert row.keys() >= KEYS
    assert row["ours_ms"] > 0
    assert [row[k] for k in ("torch_ms", "torch_tuned_ms", "jax_ms", "ratio", "error")] == [
        None
    ] * 5


def test_the_peak_is_that_of_all_threads_at_once(monkeypatch):
    monkeypatch.undo()
    engine.peak.cache_clear()
    tt.set_threads(1)
    one = engine.peak("float32")
    assert engine.peak("float64") > 0.2 * one
    engine.peak.cache_clear()


def test_limits_are_those_of_processes_that_share_nothing(torch):
    tt.set_threads(2)
    (row,) = limits.measure([Case("GRU", 16, 4, 3, 5)], 0.05, 1)
    assert tt.engine_info()["threads"] == 2  # the processes have one, this one keeps its own
    assert row["one_thread"] > 0
    assert row["bound"] == pytest.approx(row["ratio"] * row["processes"] / row["peak_share"])
    assert len(table([row], LIMITS).splitlines()[1].split()) == 3 + 5  # the name has three words


def test_the_sweep_looks_again_where_it_is_close(monkeypatch):
    timed = iter(  # ours, torch: of each case, again at once, again at the end
        [(1.0, 0.9), (1.1, 1.2), (1.0, 3.0), (1.0, 1.01), (1.2, 0.97), (2.0, 0.9), (1.1, 1.2)]
    )
    order = []

    def row(case, seconds, rounds):
        order.append(case.H)
        ours, other = next(timed)
        return {"case": str(case), "ours_ms": ours, "torch_ms": other, "ratio": other / ours}

    monkeypatch.setattr(sweep, "row", row)
    rows = sweep.sweep([Case("RNN", 1, 1, H, H) for H in (1, 2, 3)], 0.0)
    assert order == [1, 1, 2, 3, 3, 1, 3]
    # Of both sides the smallest time counts, whichever timing it is from.
    assert [row["ratio"] for row in rows] == [0.9, 3.0, 0.97]
    text = sweep.summary(rows)
    assert "RNN float32        3    0.97  0.90 at RNN 1,1,1,1 float32" in text
    assert "2 of 3 below 1.00" in text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says")
def test_memory_is_at_least_what_a_backward_pass_needs():
    found = growth.megabytes(Case("LSTM", 1, 5000, 64, 64), "ours")
    assert 5000 * 6 * 64 * 4 / 1e6 < found < 100  # five inner values and c, float32


# --- training ---


def test_training_is_the_same_model(torch):
    row = training.row(TINY, TEXT, updates=30, seconds=0.0)
    assert row["case"] == "LSTM 2,5,4,8 float32 training"
    assert row["loss_difference"] < 1e-4
    assert row["ratio"] == pytest.approx(row["torch_ms"] / row["ours_ms"])
    assert row["torch_fused_characters"] > 0
    assert sum(row["shares"].values()) == pytest.approx(1)
    assert min(row["shares"].values()) > 0


def test_training_that_differs_is_refused(torch, monkeypatch):
    update = tt.training.Adam._update
    monkeypatch.setattr(
        tt.training.Adam, "_update", lambda self, p, g, rate: update(self, p, g, 1.5 * rate)
    )
    monkeypatch.setattr(training, "take_turns", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(ValueError, match="training: loss of update"):
        training.row(TINY, TEXT, updates=30, seconds=0.0)


# --- the command ---


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(cases, "TABLE", (Case("GRU", 2, 4, 3, 4), Case("RNN", 2, 4, 3, 4)))
    monkeypatch.setattr(cases, "SWEEP", (Case("GRU", 1, 1, 2, 2),))
    monkeypatch.setattr(training, "MODELS", (TINY,))
    monkeypatch.setattr("benchmarks.cli.peak", lambda dtype: 100.0)
    status = cli.main([*arguments])
    return status, capsys.readouterr()


@pytest.mark.usefixtures("_no_torch")
def test_the_command_without_torch(monkeypatch, capsys, tmp_path):
    file = tmp_path / "rows.json"
    options = ["--quick", "--only", "table", "sweep", "--json", str(file)]
    status, printed = run(monkeypatch, capsys, "engine", *options)
    assert status == 0
    assert "—" in printed.out
    assert "nothing to compare with" in printed.out
    assert "torch is not installed" in printed.out
    rows = json.loads(file.read_text("utf-8"))
    assert len(rows) == 3
    assert all(row.keys() >= KEYS for row in rows)


@pytest.mark.usefixtures("_no_torch")
def test_the_command_for_training_without_torch(monkeypatch, capsys, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT.characters, "utf-8")
    status, printed = run(monkeypatch, capsys, "training", "--quick", "--text", str(file))
    assert status == 0
    assert "LSTM 2,5,4,8 float32 training" in printed.out
    assert "Where our time goes" in printed.out


@pytest.mark.usefixtures("_no_torch")
@pytest.mark.parametrize("kind", ["engine", "training"])
@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_seconds_that_are_none(monkeypatch, capsys, kind, seconds):
    status, printed = run(monkeypatch, capsys, kind, "--seconds", seconds)
    assert status == 3
    assert "--seconds: expected a" in printed.err


@pytest.mark.usefixtures("_no_torch")
def test_no_such_case(monkeypatch, capsys):
    status, printed = run(monkeypatch, capsys, "engine", "--case", "LSTMM")
    assert status == 3
    assert printed.err.endswith("expected a part of a case's name, got 'LSTMM'\n")


def test_derived_cells_are_counted_and_compared(torch, capsys, tmp_path):
    alone = ["derive", "--only", "derived", "--case", "lstm"]
    assert cli.main([*alone, "--json", str(tmp_path / "rows.json")]) == 0
    rows = {row["cell"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert rows["coupled_lstm"]["lines"] == len(
        tt.derive(derive.definitions()["coupled_lstm"]).lines
    )
    assert all(0 < row["error"] < 1e-12 for row in rows.values())
    assert all(row["derive_ms"] > 0 and row["linear_ms"] > 0 for row in rows.values())
    assert "coupled_lstm" in capsys.readouterr().out


def test_mistakes_by_hand_are_named(monkeypatch, capsys):
    monkeypatch.setattr(derive, "MOST_PAIRS", 1)
    assert cli.main(["derive", "--only", "named", "--case", "indrnn"]) == 0
    assert "10 mistakes: 100.0 % named first, 0.0 % by a wrong name" in capsys.readouterr().out


def test_the_tables_fit_the_page():
    numbers = {"ratio": 63.21, "gflops": 123.0, "peak_share": 0.87, "memory_mb": 2816.2}
    numbers |= {"torch_memory_mb": 1234.5, "step_us": 9787.9, "forward_ms": 4321.0}
    numbers |= dict.fromkeys(("ours_ms", "torch_ms", "torch_tuned_ms", "jax_ms"), 1234.5)
    numbers |= {"torch_forward_ms": 5432.1, "loss_difference": 1.2e-7}
    speeds = ("ours", "torch", "torch_fused")
    numbers |= dict.fromkeys((f"{name}_characters" for name in speeds), 1234567.0)
    for chosen, columns in (
        ([*cases.TABLE, *cases.FORWARD], TIMES),
        ([*cases.LENGTHS, *cases.WIDTHS], GROWTH),
        (training.MODELS, TRAINING),
    ):
        printed = table([{"case": str(case)} | numbers for case in chosen], columns)
        assert max(map(len, printed.splitlines())) <= 100
