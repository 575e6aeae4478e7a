"""Strangers' programs: that the right ones are right, what a mistake is called, what is counted."""

import json
from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from benchmarks import cli
from benchmarks.diagnose import strangers, strangers_run, strangers_score, strangers_tables
from benchmarks.diagnose.strangers import Stranger, stranger
from benchmarks.diagnose.strangers_layouts import layout_of
from benchmarks.tables import table
from corpus import notebooks
from corpus.notebooks import HEADS, KINDS, Habits
from corpus.notebooks.mistakes import BETWEEN, PLACES, STEP
from throughtime.diagnosis import Cause

SEVERAL = range(24)
FEW = (9, 24, 36, 48, 50)


def off(target, rng):
    """The largest relative error of a tensor's gradient along a random direction."""
    found, worst = target.gradient(), 0.0
    for name, array in target.parameters.items():
        along, kept, values = rng.standard_normal(array.shape), array.copy(), []
        for distance in (1e-4, -1e-4, 2e-4, -2e-4):
            array[...] = kept + distance * along
            values.append(float(target.loss()))
        array[...] = kept
        slope = (8 * (values[0] - values[1]) - (values[2] - values[3])) / 12e-4
        size = 1e-3 + float(np.linalg.norm(found[name]))
        worst = max(worst, abs(slope - float((found[name] * along).sum())) / size)
    return worst


# --- the programs ---


@pytest.mark.parametrize("seed", SEVERAL)
def test_without_its_mistakes_the_gradient_is_that_of_the_loss(seed):
    habits = replace(stranger(seed).habits, dtype="float64", scale=0.5)
    assert off(notebooks.target(habits), np.random.default_rng(seed)) < 1e-7


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_every_head_on_every_cell_in_two_layers(cell, head):
    variant = {"RNN": "tanh", "LSTM": "peepholes", "GRU": "after, 1-z"}[cell]
    O = 4 if head in ("sum of h", "squared h") else 1 if head == "one output" else 3  # noqa: E741
    habits = Habits(cell, variant, head, B=2, O=O, layers=2, embedding=True, states=True, bias=1.0)
    assert off(notebooks.target(habits), np.random.default_rng(0)) < 1e-7


@pytest.mark.parametrize("seed", FEW)
def test_the_check_tells_right_from_wrong(seed):
    drawn = stranger(seed)
    own = replace(drawn.habits, scale=0.5)
    assert tt.check(notebooks.target(own), diagnose=False).verdict == "agree"
    assert tt.check(drawn.target(), diagnose=False).verdict == "disagree"


def test_nearly_every_mistake_is_drawn_soon():
    """A mistake that changes nothing is left out, so what is drawn has an effect."""
    seen = {mistake.partition(" ")[0] for seed in range(150) for mistake in stranger(seed).mistakes}
    assert len(seen) > 0.8 * len(KINDS)


def test_a_single_step_shows_what_is_inside_a_step_and_hides_what_is_between_steps():
    """With states that are not 0, in the first program of its own that can have the mistake."""
    drawn = [strangers.habits(strangers.Draw(seed, 0, 9), seed) for seed in range(300)]
    plain = [
        replace(s, dtype="float64", scale=0.5, states=True, bias=1.0) for s in drawn if s.T > 3
    ]
    for name, kind in KINDS.items():
        s = next(s for s in plain if notebooks.variants(name, s))
        for mistake in notebooks.variants(name, s):
            one = Stranger(0, s, (mistake,), "plain")
            shows = strangers.changed(one.gradient(T=1), one.gradient((), T=1)) > 1e-9
            if kind.places == {STEP}:
                assert shows, mistake
            if kind.places == {BETWEEN}:
                assert not shows, mistake


def test_a_mistake_left_out_makes_a_difference():
    several = [s for s in map(stranger, range(40)) if len(s.mistakes) > 2][:3]
    assert several
    for drawn in several:
        for mistake in drawn.mistakes:
            fewer = [m for m in drawn.mistakes if m != mistake]
            assert strangers.changed(drawn.wrong, drawn.gradient(fewer)) >= strangers.VISIBLE


def test_all_habits_and_all_knowledge_are_drawn():
    drawn = [stranger(seed) for seed in range(120)]
    assert {d.known for d in drawn} == set(strangers.KNOWN)
    assert {d.habits.head for d in drawn} == set(HEADS)
    assert {d.habits.stored for d in drawn} == set(notebooks.STORED)
    assert {len(d.mistakes) for d in drawn} >= {1, 2, 3, 4, 5, 6}
    for name in ("columns", "biases", "head_first", "embedding", "states", "half", "dtype"):
        assert len({getattr(d.habits, name) for d in drawn}) == 2
    assert {d.habits.scale for d in drawn} >= {0.01, 0.5}
    assert str(stranger(7)) == str(stranger(7))


def test_what_a_case_gives_away():
    drawn = stranger(3)
    told = {known: replace(drawn, known=known).target() for known in strangers.KNOWN}
    assert told["functions"].steps is told["functions"].at_length is None
    assert told["plain"].steps == drawn.habits.T
    assert told["plain"].at_length is None
    assert told["at_length"].at_length(2).steps == 2
    assert told["at_length"].layout is None
    assert type(told["guessed"].layout) is type(tt.layouts.guess(np.ones((2, 1)), np.ones((2, 1))))
    with pytest.raises(ValueError, match="for which there are data"):
        told["at_length"].at_length(drawn.habits.longest + 1)


def test_a_layout_is_given_where_one_describes_the_program():
    given = [s for s in map(stranger, range(80)) if s.known == "layout"]
    assert len(given) > 5
    for drawn in given[:10]:
        model = drawn.target().layout.model(drawn.target().parameters)
        found = {name: np.asarray(array) for name, array in model.gradient().items()}
        assert (
            strangers.changed(found, drawn.right) < 1e-4 if drawn.habits.dtype == "float32" else 1
        )
    assert layout_of(Habits("RNN", "tanh", "two layers")) is None


# --- what counts as true ---

LSTM = Habits("LSTM", "", "linear", B=2, batch="sum", time="sum")


def case(*mistakes, known="at_length", **habits):
    return Stranger(0, replace(LSTM, **habits), mistakes, known)


def cause(fault, *alternatives, where=""):
    return Cause(fault, "", "", where=where, alternatives=alternatives)


@pytest.mark.parametrize(
    ("mistakes", "named", "expected"),
    [
        (["dh_next_missing"], cause("dh_next_missing"), "true"),
        (["dh_next_missing"], cause("between_steps"), "place"),
        (["dh_next_missing"], cause("between_steps", "dh_next_missing"), "place"),
        (["dh_next_missing"], cause("truncated", "dh_next_missing"), "in set"),
        (["dh_next_missing"], cause("truncated"), "false"),
        (["dh_next_missing"], cause("inside_a_step"), "false"),
        (["dh_next_missing"], cause("output_layer"), "false"),
        (["dh_next_missing", "wrong_sign"], cause("wrong_sign"), "true"),
        (["half_of_the_derivative f"], cause("inside_a_step"), "place"),
        (["half_of_the_derivative f"], cause("inside_a_step", where="gate f"), "place"),
        (["half_of_the_derivative f"], cause("inside_a_step", where="gate o"), "false"),
        (["half_of_the_derivative f"], cause("inside_a_step", where="Wy"), "false"),
        (["half_of_the_derivative f"], cause("derivative_missing"), "false"),
        (["half_of_the_derivative f"], cause("between_steps"), "false"),
        (["divided_by_batch"], cause("factor_half"), "true"),  # B = 2: the same gradient
        (["half_squared_error"], cause("divided_by_batch"), "true"),
        (["half_squared_error"], cause("averaged_over_steps"), "false"),
        (["bias_of_first_sequence"], cause("inside_a_step", where="bf"), "place"),
        (["bias_of_first_sequence"], cause("inside_a_step", where="Wf"), "false"),
        (["dc_next_missing", "dh_next_missing"], cause("truncated", where="k = 1"), "true"),
        (["dc_next_missing", "dh_next_missing"], cause("truncated", where="k = 2"), "false"),
        (["factor_two"], cause("scaled"), "place"),
        (["divided_by_batch", "dh_next_missing"], cause("scaled"), "place"),
        (["dc_next_missing", "dh_next_missing"], cause("scaled"), "false"),
        (["tensor_scaled"], cause("scaled"), "false"),
        (["zero_gradient"], cause("zero_gradient"), "true"),
        (["bias_averaged"], cause("tensor_scaled", where="bf"), "true"),
    ],
)
def test_the_outcome(mistakes, named, expected):
    assert strangers_score.outcome(case(*mistakes), [named]) == expected


def test_nothing_named_is_nothing():
    assert strangers_score.outcome(case("wrong_sign"), []) == "nothing"


def test_one_length_cannot_tell_what_several_tell():
    """At T = 2 a mean over the steps is a factor of a half, and at another length it is not."""
    told = {"T": 2, "longest": 4, "B": 1}
    for known, expected in (("plain", "true"), ("at_length", "false")):
        one = case("factor_half", known=known, **told)
        assert strangers_score.outcome(one, [cause("averaged_over_steps")]) == expected


def test_a_tensor_is_named_with_its_factor_or_falsely():
    one = case("tensor_scaled", "tensor_copied")
    wrong = [n for n in one.right if strangers_score.off_by(one, n) == 1.5]
    assert wrong
    assert strangers_score.literal(one, cause("tensor_scaled", where=f"{wrong[0]}"))
    right = [n for n in one.right if strangers_score.off_by(one, n) == 1.0]
    assert not strangers_score.literal(one, cause("tensor_scaled", where=right[0]))


def test_places_and_names_are_those_of_the_diagnosis():
    for kind in KINDS.values():
        assert kind.places <= set(PLACES)
    families = {name for name, fault in tt.diagnosis.FAULTS.items() if fault.family}
    assert set(strangers_score.CLAIMED) <= families


# --- rows, tables, command ---


def test_a_program_is_checked_and_diagnosed():
    found = strangers_run.row(50)
    assert found["verdict"] == "disagree"
    assert found["case"] == str(stranger(50))
    assert found["losses"] > 100
    assert len(found["judged"]) == len(found["causes"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_an_error_in_the_diagnosis_is_a_row(monkeypatch):
    def fails(*_, **__):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(strangers_run, "check", fails)
    found = strangers_run.row(50)
    assert (found["verdict"], found["outcome"]) == ("failed", None)
    assert "failed: 1:" in strangers_tables.text([found])


def a_row(outcome, *causes, faults=("dh_next_missing",), **rest):
    base = {"part": "strangers", "known": "plain", "head": "softmax", "cell": "RNN"}
    base |= {"outcome": outcome, "causes": list(causes), "faults": list(faults), "message": None}
    base |= {
        "judged": [outcome] * len(causes),
        "losses": 100,
        "verdict": "disagree",
        "case": "7: a",
    }
    return base | rest


ROWS = [
    a_row("true", "dh_next_missing"),
    a_row("in set", "truncated"),
    a_row("place", "between_steps", known="layout"),
    a_row("false", "wrong_matrix", losses=300, head="none", cell="LSTM"),
    a_row("nothing", faults=["a", "b", "c"]),
    a_row(None, verdict="agree"),
]


def test_the_shares():
    by, order = strangers_tables.GROUPS["known"]
    layout, plain, everything = strangers_tables.summary(ROWS, by, order)
    assert (layout["group"], plain["group"], everything["group"]) == ("layout", "plain", "all")
    assert (everything["cases"], everything["true"], everything["set"]) == (5, 0.2, 0.4)
    assert (everything["place"], everything["false"], everything["nothing"]) == (0.6, 0.2, 0.2)
    assert (plain["false"], layout["false"]) == (0.25, 0.0)
    assert layout["at_most"] == pytest.approx(0.95)
    assert everything["any"] == 0.2
    assert "95.0%" in table([layout], strangers_tables.STRANGERS)
    (one,) = strangers_tables.kinds(ROWS)
    assert (one["kind"], one["cases"], one["true"], one["false"]) == ("dh_next_missing", 4, 0.25, 1)
    assert one["otherwise"].startswith("truncated 1, between_steps 1, !wrong_matrix 1")


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(strangers_run, "row", lambda seed: a_row("true", "x") | {"seed": seed})
    file = tmp_path / "rows.json"
    options = ["diagnose", "--only", "strangers", "--first-seed", "5", "--strangers", "3"]
    assert cli.main([*options, "--json", str(file)]) == 0
    said = capsys.readouterr().out
    assert "a false name first: 0" in said
    rows = json.loads(file.read_text("utf-8"))
    assert [row["seed"] for row in rows] == [5, 6, 7]
    assert cli.main(["diagnose", "--read", str(file)]) == 0
    assert capsys.readouterr().out in said
    assert cli.main(["diagnose", "--strangers", "0"]) == 3
    assert "--strangers" in capsys.readouterr().err
