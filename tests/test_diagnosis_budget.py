"""A diagnosis is limited by what it counts, never by a clock: a slow machine finds the same."""

import itertools
import re
import sys
import time
from dataclasses import replace

import pytest

import throughtime as tt
from benchmarks.diagnose.cases import LARGER, Case
from throughtime.diagnosis import diagnose
from throughtime.gradcheck.budget import Budget, Spent
from throughtime.progress import progress_bar

pytestmark = pytest.mark.usefixtures("experiments_alone")

CLOCKS = ("time", "perf_counter", "monotonic", "process_time", "thread_time")

WRONG = {
    "experiments": Case("compiled", "LSTM", ("time_reversed",), "experiments", LARGER, 52),
    "functions": Case("compiled", "LSTM", ("dc_next_missing",), "functions", LARGER, 52),
    "mutants": Case(
        "compiled",
        "LSTM",
        ("dh_overwritten", "gates_swapped_in_dc", "wrong_sign"),
        "layout",
        LARGER,
    ),
}


def slow_machine(monkeypatch):
    """Whoever looks at a clock finds that an hour has passed since the last look."""
    for name in CLOCKS:
        clock, hours = getattr(time, name), itertools.count(0.0, 3600.0)
        ahead = hours.__next__
        for place in [m for n, m in sys.modules.items() if n.split(".")[0] == "throughtime"]:
            for attribute in [key for key, value in vars(place).items() if value is clock]:
                monkeypatch.setattr(place, attribute, ahead)
        monkeypatch.setattr(time, name, ahead)


@pytest.mark.parametrize("case", WRONG.values(), ids=list(WRONG))
def test_a_slow_machine_finds_the_same(case, monkeypatch):
    fast = tt.check(case.target(), progress=False)
    slow_machine(monkeypatch)
    slow = tt.check(case.target(), progress=False)
    assert slow.seconds >= 3600
    assert fast.verdict == "disagree"
    assert slow.causes == fast.causes
    assert slow.notes == fast.notes
    assert slow.evaluations == fast.evaluations


def test_where_seconds_are_given_they_end_a_diagnosis(monkeypatch):
    target = WRONG["experiments"].target()
    report = tt.check(target, diagnose=False, progress=False)
    slow_machine(monkeypatch)
    found = diagnose(target, report, Budget(6_000, seconds=3600.0 * 1_000))
    ended = "The diagnosis ran out of its budget before its experiments were finished."
    assert ended in found.notes
    assert found.causes == ()


def test_a_budget_counts():
    budget = Budget(2)
    budget.take()
    assert (budget.used, budget.left, budget.over, budget.exhausted) == (1, 1, False, False)
    budget.take()
    with pytest.raises(Spent):
        budget.take()
    assert (budget.used, budget.over, budget.exhausted) == (2, True, True)


def test_a_budget_of_seconds_ends_with_them(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("throughtime.gradcheck.budget.time", lambda: now[0])
    budget = Budget(seconds=2.0)
    part = budget.part(1_000_000, share=0.25)
    now[0] = 0.4
    assert not part.over
    now[0] = 0.6
    assert part.over
    budget.take()
    now[0] = 2.1
    with pytest.raises(Spent):
        budget.take()


def test_the_bar_says_what_is_counted_and_how_many_there_may_be(capsys):
    with progress_bar(0, "diagnosis", "losses", show=True) as bar:
        bar.delay = bar.mininterval = 0
        budget = Budget(6_000, bar=bar)
        budget.part(300, share=0.5).announce("diagnosis", "mutants")
        bar.update(7)
        mutants = str(bar)
        budget.announce("diagnosis", "losses")
        budget.take()
        losses = str(bar)
    assert mutants.startswith("diagnosis: at most 300 mutants:   2%")
    assert " 7/300 " in mutants
    assert losses.startswith("diagnosis: at most 6,000 losses:   0%")
    assert " 1/6000 " in losses


@pytest.mark.parametrize(("known", "what"), [("layout", "mutants"), ("experiments", "losses")])
def test_a_long_diagnosis_says_what_it_does_and_how_much_there_may_be(
    known, what, monkeypatch, capfd
):
    def shown():
        report = tt.check(replace(WRONG["experiments"], known=known).target(), progress=True)
        assert report.causes
        return capfd.readouterr().err

    monkeypatch.setattr("tqdm.std.time", lambda: 0.0)
    assert "diagnosis" not in shown()
    seconds = itertools.count(0.0, 1.0)
    monkeypatch.setattr("tqdm.std.time", lambda: next(seconds))
    assert re.search(rf"diagnosis: at most [1-9][\d,]+ {what}: ", shown())
