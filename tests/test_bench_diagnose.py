"""The diagnosis's benchmark: what it tries, what it calls right, and what it prints."""

import json

import pytest

import corpus as implementations
from benchmarks import cli
from benchmarks.diagnose import cases, run, score, tables
from benchmarks.diagnose.cases import Case
from benchmarks.tables import table
from corpus import FAULTS
from throughtime.diagnosis import FAULTS as NAMED
from throughtime.diagnosis import Cause

TINY = {"T": 4, "B": 2, "I": 2, "H": 3, "O": 3}


def case(*faults, known="layout", style="concatenated", cell="LSTM", **rest):
    return Case(style, cell, faults, known, TINY, **rest)


def cause(fault, *alternatives):
    return Cause(fault, "", "", alternatives=alternatives)


# --- what is tried ---


def test_every_mistake_of_the_implementations_can_be_named():
    assert set(FAULTS) <= set(NAMED)


def test_every_mistake_is_tried_with_everything_that_may_be_known():
    everything = list(cases.single(range(1)))
    tried = {(c.style, c.cell, *c.faults) for c in everything}
    shown = {e for e in implementations.catalogue() if FAULTS[e.fault].shows_in == "gradient"}
    assert tried == shown
    assert len(everything) == len(shown) * 12  # sizes, precisions, what is known
    assert {c.known for c in everything} == set(cases.KNOWN)
    assert {c.sizes["B"] for c in everything if c.style == "gate_by_gate"} == {1}


def test_a_sample_has_equally_many_of_each_kind_and_is_the_same_every_time():
    everything = list(cases.single(range(1)))
    chosen = cases.sample(everything, 12)
    assert len({(c.known, c.dtype) for c in chosen}) == 6
    assert len(chosen) == 12
    assert list(map(str, chosen)) == list(map(str, cases.sample(everything, 12)))


def test_several_mistakes_all_change_the_gradient():
    found = cases.several(2, 3)
    assert len(found) == 3
    for one in found:
        whole = cases.gradient_of(one.made())
        for name in one.faults:
            fewer = [n for n in one.faults if n != name]
            assert cases.apart(whole, cases.gradient_of(one.made(fewer))) > cases.VISIBLE


def test_what_a_case_gives_away():
    assert case("truncated", known="layout").target().layout is not None
    assert case("truncated", known="layout").target().at_length(2).layout is not None
    told = case("truncated", known="experiments").target()
    assert told.layout is None
    assert told.at_length is not None
    bare = case("dropout_mask_redrawn", known="functions").target()
    assert bare.at_length is bare.steps is bare.reset is bare.layout is None
    assert bare.loss() == bare.loss()  # it begins each run by itself


@pytest.mark.parametrize("style", implementations.styles())
@pytest.mark.parametrize("cell", implementations.CELLS)
def test_the_layouts_are_those_of_the_styles(style, cell):
    one = Case(style, cell, (), "layout", {**TINY, "B": 1})
    target = one.target()
    model = target.layout.model(target.parameters)
    if target.reset is not None:
        target.reset()
    assert model.value() == pytest.approx(float(target.loss()), rel=1e-12)
    given = {name: array.astype(float) for name, array in model.gradient().items()}
    assert cases.apart(cases.gradient_of(target), given) < 1e-12


# --- what counts as right ---


@pytest.mark.parametrize(
    ("fault", "causes", "expected"),
    [
        ("factor_two", [cause("factor_two")], "right"),
        ("factor_two", [], "unknown"),
        ("factor_two", [cause("factor_half")], "wrong"),
        ("factor_two", [cause("factor_two"), cause("zero_gradient")], "wrong"),
        ("factor_two", [cause("summed_over_batch", "factor_two")], "listed"),
        ("dh_next_missing", [cause("between_steps")], "place"),
        ("dh_next_missing", [cause("between_steps", "dh_next_missing")], "listed"),
        ("dh_next_missing", [cause("inside_a_step")], "wrong"),
        ("dh_next_missing", [cause("output_layer")], "wrong"),
        ("derivative_missing", [cause("inside_a_step")], "place"),
        ("derivative_missing", [cause("between_steps")], "wrong"),
        ("different_loss", [cause("output_layer")], "place"),
        ("divided_by_batch", [cause("factor_half")], "listed"),  # B = 2: the same gradient
    ],
)
def test_the_outcome(fault, causes, expected):
    assert score.outcome(case(fault), causes) == expected


def test_another_name_for_the_same_gradient_is_not_false():
    assert score.same_gradient(case("half_squared_error"), "factor_half")
    assert not score.same_gradient(case("half_squared_error"), "factor_two")
    assert not score.same_gradient(case("factor_two"), "summed_over_batch")  # nobody has it


def test_one_of_two_mistakes_is_true():
    two = case("factor_two", "dc_next_missing")
    assert score.true(two, cause("factor_two"))
    assert score.true(two, cause("dc_next_missing"))
    assert not score.true(two, cause("dh_next_missing"))


# --- what is counted ---


def row(fault, outcome, causes=(), known="experiments", dtype="float64", times=2.0):
    return {
        "faults": [fault] if fault else [],
        "outcome": outcome,
        "causes": list(causes),
        "known": known,
        "dtype": dtype,
        "check_seconds": 1.0,
        "diagnosis_seconds": times,
        "verdict": "disagree" if fault else "agree",
    }


ROWS = [
    row("factor_two", "right", ["factor_two"]),
    row("factor_two", "wrong", ["scaled"], times=4.0),
    row("dh_next_missing", "place", ["between_steps"], times=4.0),
    row("dh_next_missing", "unknown", []),
    row("factor_two", None, []),  # the check did not call it wrong
]


def test_the_shares():
    other = row("factor_two", "right", ["factor_two"], dtype="float32")
    whole, _ = tables.single([*ROWS, other])
    assert (whole["known"], whole["dtype"], whole["cases"]) == ("experiments", "float64", 4)
    names = ("right", "listed", "place", "wrong", "unknown")
    assert [whole[name] for name in names] == [0.25] * 5
    assert whole["times"] == 3.0
    assert "25.0%" in table([whole], tables.SINGLE)


def test_several_at_once():
    def two(named, false):
        found = row("factor_two", None, ["factor_two"] * (named + false))
        return found | {"faults": ["a", "b"], "named": named, "false": false}

    (found,) = tables.several([two(2, 0), two(1, 1), two(0, 0), two(2, 0)])
    assert (found["all"], found["all_but_one"]) == (0.5, 0.75)
    assert (found["wrong"], found["unknown"]) == (0.25, 0.25)


def test_right_code_that_is_accused():
    (found,) = tables.right([row("", None, []), row("", None, ["scaled"]), *ROWS])
    assert (found["cases"], found["accused"]) == (2, 1)


def test_the_confusion():
    first, second = tables.confusion(ROWS, "experiments")
    assert (first["fault"], first["right"], first["taken_for"]) == ("factor_two", 0.5, "!scaled 1")
    assert second["taken_for"] == "between_steps 1, unknown 1"
    assert tables.confusion(ROWS, "layout") == []


# --- the whole ---


def test_a_case_is_checked_and_diagnosed():
    found = run.row(case("averaged_over_steps", known="experiments"))
    assert found["verdict"] == "disagree"
    assert found["causes"] == ["averaged_over_steps"]
    assert (found["outcome"], found["named"], found["false"]) == ("right", 1, 0)
    assert found["diagnosis_seconds"] > 0
    right = run.row(case(known="layout"))
    assert (right["verdict"], right["causes"], right["outcome"]) == ("agree", [], None)


def test_what_cannot_be_checked_is_refused():
    found = run.row(case("random_buffer", known="experiments"))
    assert (found["verdict"], found["outcome"]) == ("refused", None)
    assert "gradient" in found["message"]


def test_the_command(tmp_path, capsys, monkeypatch):
    tried = [case("factor_two", known=known) for known in cases.KNOWN]
    monkeypatch.setattr(cases, "single", lambda seeds: iter(tried))
    monkeypatch.setattr(cases, "right", lambda seeds: iter([case(known="experiments")]))
    file = tmp_path / "rows.json"
    arguments = ["diagnose", "--cases", "9", "--known", "experiments", "--json", str(file)]
    assert cli.main([*arguments, "--only", "single", "right"]) == 0
    said = capsys.readouterr().out
    for title in ("One mistake", "named wrongly: 0", "Right code", "a cause was named: 0"):
        assert title in said
    assert "Two and three" not in said
    rows = json.loads(file.read_text("utf-8"))
    assert [(r["known"], r["faults"]) for r in rows] == [
        ("experiments", ["factor_two"]),
        ("experiments", []),
    ]

    arguments = ["diagnose", "--read", str(file)]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.split("\n", 1)[1] in said


def test_only_rows_are_read(tmp_path, capsys):
    file = tmp_path / "rows.json"
    for text in ("", "[1]", '[{"case": 1}]'):
        file.write_text(text)
        assert cli.main(["diagnose", "--read", str(file)]) == 3
        assert "--read: expected rows that --json wrote" in capsys.readouterr().err
    assert cli.main(["diagnose", "--read", str(tmp_path / "none")]) == 3


def test_the_command_wants_sensible_numbers(capsys):
    assert cli.main(["diagnose", "--workers", "0"]) == 3
    assert "--workers" in capsys.readouterr().err
