"""The check's benchmark: what it tries, what it calls resolvable, what it counts and writes."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import corpus as implementations
import throughtime as tt
from benchmarks import cli, jax_layer, torch_layer
from benchmarks.check import accuracy, calibration, cases, cost, growth, rivals, tables, trust
from benchmarks.check import command as bench_check
from benchmarks.check.cases import Case
from benchmarks.tables import table
from helpers import Said
from throughtime.gradcheck.target import CheckError

DOCS = Path(__file__).parents[1] / "docs"
TINY = {"T": 4, "B": 2, "I": 2, "H": 3, "O": 3}
RIGHT = Case("concatenated", "GRU", "", TINY, 0, "float64", None)
WRONG = Case("concatenated", "GRU", "dh_next_missing", TINY, 0, "float64", None)


@pytest.fixture
def _alone(monkeypatch):
    """Neither torch nor jax."""
    monkeypatch.setattr(torch_layer, "find", lambda: None)
    monkeypatch.setattr(jax_layer, "find", lambda: None)


NAMES = ("W1", "b1", "Wy", "by")


# --- what is tried ---


def test_every_implementation_is_tried_at_every_precision_and_initialisation():
    wrong = list(cases.wrong(range(1)))
    assert len(wrong) == 8 * len(implementations.catalogue())
    assert len({(c.style, c.cell, c.fault) for c in wrong}) == len(implementations.catalogue())
    right = list(cases.right(range(2)))
    assert len(right) == 2 * 8 * len(implementations.correct())
    assert {(c.dtype, c.init) for c in right} == {
        (dtype, init) for dtype in ("float32", "float64") for init in (None, 0.01)
    }
    assert {c.sizes["B"] for c in right if c.style == "gate_by_gate"} == {1}


def test_a_sample_has_equally_many_of_each_kind_and_is_the_same_every_time():
    everything = list(cases.wrong(range(1)))
    chosen = cases.sample(everything, 20)
    kinds = [(c.dtype, c.init) for c in chosen]
    assert [kinds.count(kind) for kind in dict.fromkeys(kinds)] == [5] * 4
    assert list(map(str, chosen)) == list(map(str, cases.sample(everything, 20)))
    assert len(cases.sample(everything, 10**9)) == len(everything)


def test_every_fault_of_the_implementations_is_in_the_docs(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    table = importlib.import_module("fault_pages").corpus()
    once = {True: "right", False: "wrong", None: "depends"}
    for name, conditions in implementations.FAULTS.items():
        (line,) = [line for line in table.splitlines() if line.startswith(f"| [{name}](")]
        _, _, _, cells, one_step, _ = line.split("|")
        assert cells.strip() in ("all", ", ".join(conditions.cells))
        assert one_step.strip() in ("—", once[conditions.one_step])


# --- what can be seen ---


def test_an_effect_is_that_of_the_mistake_alone():
    doubled = Case("compiled", "LSTM", "factor_two", TINY, 0, "float64", None)
    if "compiled" not in implementations.styles():
        doubled = replace(doubled, style="concatenated")
    known = cases.effect(doubled)
    assert known.relative == pytest.approx(1)
    assert all(off == pytest.approx(1) for off in known.by_tensor.values())
    assert known.resolvable
    scaled = cases.effect(Case("concatenated", "LSTM", "tensor_scaled", TINY, 0, "float32", None))
    assert sorted(scaled.by_tensor.values()) == pytest.approx([0, 0, 0, 0.5])


def test_float32_hides_what_float64_shows():
    faint = Case("concatenated", "RNN", "dh_next_missing", TINY, 0, "float32", 1e-5)
    assert not cases.effect(faint).resolvable
    assert cases.effect(replace(faint, dtype="float64", init=1e-2)).resolvable
    assert cases.effect(replace(faint, init=None)).resolvable


def test_the_border_of_what_is_resolvable(monkeypatch):
    """Ten times u^(2/3) |L|: a little more is, a little less is not."""
    u = np.finfo(np.float32).eps / 2
    loss = 3.0
    for factor, resolvable in ((1.01, True), (0.99, False)):
        found = iter([{"w": np.array([1 + factor * 10 * u ** (2 / 3) * loss])}, {"w": np.ones(1)}])
        monkeypatch.setattr(cases, "_gradient", lambda target, found=found: next(found))
        monkeypatch.setattr(cases, "_loss", lambda target: loss)
        assert cases.effect(replace(WRONG, dtype="float32")).resolvable is resolvable


def test_what_two_calls_give_away_is_resolvable_by_definition():
    known = cases.effect(replace(WRONG, fault="random_buffer"))
    assert known.resolvable
    assert not known.by_tensor


# --- counting ---


@pytest.mark.usefixtures("_alone")
def test_a_row_of_trust():
    row = trust.row(WRONG, others=True)
    assert row["ours"] == "disagree"
    assert row["resolvable"] is True
    assert row["effect"] > 0.01
    assert row["overclaimed"] is False
    assert [row[tool] for tool in ("torch_slow", "torch_fast", "jax")] == [None] * 3
    row = trust.row(RIGHT, others=False)
    assert (row["ours"], row["fault"], row["resolvable"], row["effect"]) == ("agree", *[None] * 3)
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_two_processes_find_the_same():
    pair = [RIGHT, WRONG]
    rows = [[row | {"seconds": 0} for row in trust.trust(pair, [], n)] for n in (1, 2)]
    assert rows[0] == rows[1]


def test_what_a_check_refuses_counts_as_found(monkeypatch):
    def refused(target, **_):
        raise CheckError("loss: expected the same number twice")

    monkeypatch.setattr(trust, "check", refused)
    row = trust.row(WRONG, others=False)
    assert (row["ours"], row["message"]) == ("refused", "loss: expected the same number twice")
    (counts,) = trust.summary([row])
    assert counts["wrong_found"] == 1
    (counts,) = trust.summary([trust.row(RIGHT, others=False)])
    assert counts["right_accused"] == 1


@pytest.mark.parametrize(("claim", "overclaimed"), [(1e-6, True), (1e6, False)])
def test_an_accepted_mistake_beyond_the_reports_own_claim(monkeypatch, claim, overclaimed):
    monkeypatch.setattr(trust, "check", lambda target, **_: Said("agree", NAMES, claim))
    row = trust.row(WRONG, others=False)
    assert row["overclaimed"] is overclaimed
    (counts,) = trust.summary([row])
    assert counts["wrong_accepted"] == 1
    assert counts["overclaimed"] == overclaimed


def test_the_summary_counts():
    base = {"dtype": "float64", "init": None, "overclaimed": False} | dict.fromkeys(trust.TOOLS)
    right = [base | {"fault": None, "resolvable": None, "ours": v} for v in ("agree", "disagree")]
    right[0]["jax"] = "disagree"
    wrong = [
        base | {"fault": "x", "resolvable": True, "ours": v}
        for v in ("disagree", "refused", "agree", "unresolved")
    ]
    faint = [base | {"fault": "x", "resolvable": False, "ours": "agree", "init": 0.01}]
    ours, jax, small = trust.summary([*right, *wrong, *faint])
    assert (ours["group"], ours["tool"]) == ("float64, 1/√H", "ours")
    assert (ours["right"], ours["right_accepted"], ours["right_accused"]) == (2, 0.5, 0.5)
    assert (ours["wrong"], ours["wrong_found"], ours["wrong_accepted"]) == (4, 0.5, 0.25)
    assert ours["wrong_unresolved"] == 0.25
    assert (jax["right"], jax["right_accused"], jax["wrong_found"]) == (1, 1.0, None)
    assert (small["group"], small["faint"], small["faint_accepted"]) == ("float64, 0.01", 1, 1.0)


# --- the other tools ---


@pytest.mark.parametrize("name", ["torch_slow", "torch_fast", "jax"])
def test_the_others_are_asked_the_same_question(name):
    there = rivals.rivals()
    if name not in there:
        pytest.skip(f"{name.split('_')[0]} is not installed")
    accepts = there[name]
    for style in implementations.styles():
        case = replace(RIGHT, style=style, cell="LSTM", sizes=TINY | {"B": 1})
        target = case.target()
        before = {n: a.copy() for n, a in target.parameters.items()}
        assert accepts(target), style
        for n, array in target.parameters.items():
            assert (array == before[n]).all()
    assert not accepts(replace(WRONG, fault="factor_two").target())


# --- calibration ---


def test_scores_are_differences_in_error_bars():
    found = list(calibration.scored(RIGHT))
    assert {what for what, _ in found} <= {"entries", "directions"}
    assert len(found) >= RIGHT.target().parameters["W1"].size
    assert max(abs(z) for _, z in found) < calibration.BARS[-1]
    wrong = [z for _, z in calibration.scored(replace(RIGHT, fault="factor_two"))]
    assert max(map(abs, wrong)) > 100


def test_nothing_to_nothing_is_no_score():
    assert calibration._z(0.0, 0.0, 0.0) == 0
    assert calibration._z(1.0, 0.0, 0.0) == np.inf
    assert calibration._z(1.0, 2.0, 0.5) == -2


def test_rows_and_a_figure_of_known_scores(tmp_path):
    z = np.random.default_rng(0).standard_normal(20000) / calibration.DEVIATIONS
    row = calibration._row("float64, entries", z)
    for bar in calibration.BARS:
        assert row["within"][str(bar)] == pytest.approx(row["nominal"][str(bar)], abs=0.01)
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    file = tmp_path / "z.png"
    calibration.draw({"float64, entries": z}, file)
    assert file.read_bytes().startswith(b"\x89PNG")


# --- cost, growth, accuracy ---


def test_one_entry_is_off_by_a_hundredth_of_the_rms():
    target = growth.network(500, seed=3)
    (name, index), wrong = growth.one_wrong_entry(target, seed=3)
    truth, found = target.gradient(), wrong.gradient()
    for other, array in found.items():
        expected = np.array(truth[other])
        if other == name:
            expected[index] += 0.01 * np.sqrt(np.mean(expected**2))
        np.testing.assert_allclose(array, expected, rtol=1e-12)


def test_a_row_of_growth():
    row = growth.row(300, 0, "quick")
    assert 200 < row["parameters"] < 400
    assert row["right_verdict"] == "agree"
    assert row["right_evaluations"] > 0
    (summed,) = growth.summary([row])
    assert summed["right"] == "1 of 1"
    assert summed["named"] == f"{int(row['named'])} of 1"


def test_sizes_to_grow_over_are_chosen_and_large_ones_measured_once(monkeypatch):
    asked = []
    monkeypatch.setattr(
        growth, "growth", lambda counts, seeds: asked.append((*counts, len(seeds))) or []
    )
    command = ["check", "--only", "growth"]
    assert cli.main([*command, "--parameters", "300", "2000000"]) == 0
    assert asked == [(300, 3), (2_000_000, 1)]
    asked.clear()
    assert cli.main(command) == 0
    assert asked == [(1000, 3), (10**4, 3), (10**5, 3), (10**6, 1), (10**7, 1)]
    assert cli.main([*command, "--parameters", "0"]) == 3


def test_named_is_the_place_itself():
    worst = type("Worst", (), {"index": (1, 2)})()
    tensor = type("Tensor", (), {"wrong": (worst, worst)})()
    report = type("Report", (), {"tensors": {"W": tensor}})()
    assert growth.located(report) == (("W", (1, 2)), 2)
    report.tensors["W"].wrong = ()
    assert growth.located(report) == (None, 0)


def test_a_row_of_cost():
    pytest.importorskip("torch", reason="torch is not installed")
    assert sum(array.size for array in cost.lstm(64).parameters.values()) == 33280
    for name, spoil in cost.WRONG.items():
        row = cost.row(name, spoil(cost.lstm(2)), slow=name == "right")
        expected = "agree" if name == "right" else "disagree"
        assert row["quick"] == row["normal"] == expected, name
        if name == "right":
            assert row["torch_slow"] == row["torch_fast"] == "agree"
            assert row["ratio"] == pytest.approx(row["torch_slow_seconds"] / row["quick_seconds"])
        else:
            assert row["torch_slow"] is row["ratio"] is None


@pytest.mark.usefixtures("_alone")
def test_without_torch_there_is_no_cost():
    assert list(cost.cost(2)) == []


def test_a_row_of_accuracy(monkeypatch):
    monkeypatch.setattr(accuracy, "SIZES", {"T": 5, "I": 2, "H": 2, "O": 2})
    monkeypatch.setattr(accuracy, "EPSILONS", (1e-6, 1e-5, 1e-4))
    row = accuracy.row("float64, one number", range(2))
    assert row["discrepancy"] <= row["worst"] < 1e-8
    assert row["verdicts"] == ["agree", "agree"]
    assert row["hand_epsilon"] in (1e-6, 1e-5, 1e-4, *np.mean([[1e-6, 1e-5], [1e-5, 1e-4]], 1))
    assert accuracy.target("float32, one number", 0).loss().dtype == np.float32


# --- the command ---


@pytest.fixture
def _little(monkeypatch):
    monkeypatch.setattr(cases, "sample", lambda everything, count: list(everything)[:2])
    monkeypatch.setattr(cases, "right", lambda *_: [RIGHT, replace(RIGHT, dtype="float32")])
    monkeypatch.setattr(cases, "wrong", lambda *_: [WRONG, replace(WRONG, fault="random_buffer")])
    monkeypatch.setattr(growth, "growth", lambda counts, seeds: [growth.row(200, 0, "quick")])
    monkeypatch.setattr(bench_check, "strangers", lambda *_: [])
    monkeypatch.setattr(accuracy, "SIZES", {"T": 4, "I": 2, "H": 2, "O": 2})


@pytest.mark.usefixtures("_little", "_alone")
def test_the_command(capsys, tmp_path):
    file, figure = tmp_path / "rows.json", tmp_path / "z.svg"
    options = ["check", "--quick", "--json", str(file)]
    assert cli.main(options) == 0
    printed = capsys.readouterr().out
    for part in ("Trust", "Calibration", "Growth", "Accuracy", "torch is not installed"):
        assert part in printed
    assert "right, but accused: 0" in printed
    rows = json.loads(file.read_text("utf-8"))
    assert [row["part"] for row in rows].count("trust") == 4
    assert {row["part"] for row in rows} == {"trust", "calibration", "growth", "accuracy"}
    assert cli.main(["check", "--rows", str(file)]) == 0
    again = capsys.readouterr().out.split("\n\n")
    assert len(again) == 4
    assert all(one.strip() in printed for one in again)
    assert cli.main(["check", "--rows", str(file), "--figure", str(figure)]) == 3
    assert "got --rows" in capsys.readouterr().err
    assert cli.main(["check", "--rows", str(tmp_path / "none.json")]) == 3
    assert "--rows: expected a file that --json wrote, got" in capsys.readouterr().err
    assert cli.main(["check", "--only", "trust", "--figure", str(figure)]) == 3
    assert (
        "--figure: expected calibration among the parts that are measured, got trust"
        in capsys.readouterr().err
    )
    assert cli.main(["check", "--cases", "3", "2", "1"]) == 3
    assert "--cases: expected one number or two, got 3" in capsys.readouterr().err
    assert cli.main(["check", "--cases", "-1"]) == 3
    assert "--cases: expected an integer of at least 0, got -1" in capsys.readouterr().err
    assert cli.main(["check", "--seeds", "0"]) == 3
    assert "--seeds: expected an integer of at least 1, got 0" in capsys.readouterr().err


def test_rows_of_a_run_cut_short_are_in_the_file(monkeypatch, tmp_path):
    def two_rows():
        yield {"n": 1}
        yield {"n": 2}
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_check, "KEPT", 0)
    file = tmp_path / "rows.json"
    with pytest.raises(KeyboardInterrupt):
        bench_check._kept(two_rows(), str(file))
    assert json.loads(file.read_text("utf-8")) == [{"n": 1}, {"n": 2}]


def test_right_and_wrong_cases_in_the_numbers_asked_for(monkeypatch):
    seen = []
    monkeypatch.setattr(trust, "trust", lambda cases, *_: seen.append(cases) or [])
    monkeypatch.setattr(bench_check, "_show", lambda *_: None)
    for numbers in (["8"], ["8", "12"]):
        assert cli.main(["check", "--only", "trust", "--cases", *numbers]) == 0
    counts = [(sum(not c.fault for c in cs), sum(bool(c.fault) for c in cs)) for cs in seen]
    assert counts == [(8, 8), (8, 12)]


def test_what_a_sample_bounds():
    assert trust.at_most(0, 3000) == pytest.approx(1 - 0.05 ** (1 / 3000))
    assert trust.at_most(300, 3000) == pytest.approx(0.1095, abs=2e-4)
    assert trust.at_most(5, 5) == 1


@pytest.mark.usefixtures("_little", "_alone")
def test_who_failed_is_listed_by_name(monkeypatch, capsys):
    monkeypatch.setattr(trust, "check", lambda target, **_: Said("agree", NAMES))
    cli.main(["check", "--quick", "--only", "trust"])
    printed = capsys.readouterr().out
    assert "resolvable, but accepted: 2:\n  concatenated GRU 4,2,2,3,3 float64" in printed
    assert "accepted against its own claim: 1:" in printed


def test_the_tables_fit_the_page():
    shares = dict.fromkeys((c.key for c in tables.TRUST), 1.0)
    counts = {"right": 1376, "wrong": 8464, "faint": 1234}
    rows = [shares | counts | {"group": "float64, 1/√H", "tool": "torch"}]
    assert max(map(len, table(rows, tables.TRUST).splitlines())) <= 100
    cell = {
        "parameters": 33280,
        "gradient": "averaged over T",
        "quick_evaluations": 1234,
        "ratio": 1234.5,
    }
    cell |= dict.fromkeys(("quick", "normal", "torch_slow", "torch_fast"), "disagree")
    cell |= dict.fromkeys((f"{n}_seconds" for n in ("quick", "normal", "torch_slow")), 12.34)
    assert max(map(len, table([cell], tables.COST).splitlines())) <= 100


def test_the_check_of_this_benchmark_is_the_public_one():
    assert trust.check is tt.check
