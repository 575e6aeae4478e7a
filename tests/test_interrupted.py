"""Ctrl-C while causes are looked for: the verdict stays, with the causes found until then."""

import dataclasses
import itertools
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import throughtime as tt
from benchmarks.diagnose import run
from benchmarks.diagnose.cases import SMALL, Case
from throughtime.cli import INTERRUPTED as STATUS
from throughtime.diagnosis import INTERRUPTED


@pytest.fixture(scope="module", autouse=True)
def experiments_alone_throughout():
    """The diagnosis without a layout that it recovers: experiments have to tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("throughtime.diagnosis.mutant_match.with_layout", lambda study: None)
        yield


TWICE_WRONG = Case(
    "concatenated", "RNN", ("wrong_sign", "dh_next_missing"), "experiments", SMALL, 3
)


def watched(target, before_loss):
    """The target, at every length, with something that is done before each evaluation."""

    def loss():
        before_loss()
        return target.loss()

    at_length = lambda T: watched(target.at_length(T), before_loss)  # noqa: E731
    return dataclasses.replace(target, loss=loss, at_length=target.at_length and at_length)


def interrupted_at(target, place):
    """The target, whose loss is interrupted when its evaluation with the given number begins."""
    calls = itertools.count(1)

    def interrupt():
        if next(calls) == place:
            raise KeyboardInterrupt

    return watched(target, interrupt)


def losses_of_the_check(target):
    """How often the check alone evaluates the loss."""
    calls = []
    tt.check(watched(target, lambda: calls.append(1)), diagnose=False, progress=False)
    return len(calls)


@pytest.fixture(scope="module")
def target():
    return TWICE_WRONG.target()


@pytest.fixture(scope="module")
def whole(target):
    return tt.check(target, progress=False)


@pytest.mark.parametrize(("further", "causes"), [(1, 0), (2, 0), (700, 0), (2_000, 1)])
def test_the_verdict_and_the_causes_until_then_are_kept(target, whole, further, causes):
    kept = {name: array.copy() for name, array in target.parameters.items()}
    place = losses_of_the_check(target) + further
    report = tt.check(interrupted_at(target, place), progress=False)
    assert report.verdict == "disagree"
    assert report.tensors.keys() == whole.tensors.keys()
    assert INTERRUPTED in report.notes
    assert INTERRUPTED in str(report)
    assert report.causes == whole.causes[: len(report.causes)]
    assert len(report.causes) == causes
    for name, array in kept.items():
        np.testing.assert_array_equal(target.parameters[name], array)


def test_without_an_interrupt_there_is_no_note(whole):
    assert [cause.fault for cause in whole.causes] == ["wrong_sign", "dh_next_missing"]
    assert INTERRUPTED not in whole.notes


def test_an_interrupt_of_the_check_itself_is_passed_on(target):
    kept = {name: array.copy() for name, array in target.parameters.items()}
    for place in (1, losses_of_the_check(target)):
        with pytest.raises(KeyboardInterrupt):
            tt.check(interrupted_at(target, place), progress=False)
    for name, array in kept.items():
        np.testing.assert_array_equal(target.parameters[name], array)


def test_an_interrupt_of_the_search_for_mutants_keeps_the_verdict(monkeypatch):
    def search(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("throughtime.diagnosis.mutant_match.explain", search)
    target = dataclasses.replace(TWICE_WRONG, known="layout").target()
    report = tt.check(target, progress=False)
    assert report.verdict == "disagree"
    assert report.causes == ()
    assert INTERRUPTED in report.notes


def test_a_benchmark_ends_with_the_diagnosis(monkeypatch):
    class Interrupted(Case):
        def target(self):
            given = super().target()
            return interrupted_at(given, losses_of_the_check(given) + 20)

    case = Interrupted(**vars(TWICE_WRONG))
    with pytest.raises(KeyboardInterrupt):
        run.row(case)


WAITING = """
import itertools, sys, time
import numpy as np

calls = itertools.count(1)


def wait():
    if next(calls) == {place}:
        open({marker!r}, "w").close()
        time.sleep({seconds})
"""

TARGET = """
import throughtime as tt

w = np.array([1.0, 2.0, 3.0])
target = tt.Target(
    {{"w": w}},
    lambda: wait() or np.exp(w).sum(),
    lambda: {{"w": np.exp(w) * np.array([1.0, 2.0, -0.3])}},
)
"""

PROGRAM = """
import json

for line in sys.stdin:
    request, answer = json.loads(line), {{}}
    if request["do"] == "describe":
        answer = {{"names": ["w"], "shapes": [[3]], "dtype": "float64"}}
    elif request["do"] == "loss":
        wait()
        answer = {{"loss": float(np.exp(np.fromfile(request["parameters"])).sum())}}
    else:
        w = np.fromfile(request["parameters"])
        (np.exp(w) * np.array([1.0, 2.0, -0.3])).tofile(request["gradient"])
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def waiting(tmp_path):
    """Writes a target or a program whose loss makes a mark at some place, and waits there."""

    def write(kind, place=0, seconds=600):
        path, marker = tmp_path / f"{kind}.py", str(tmp_path / "mark")
        body = {"target": TARGET, "program": PROGRAM}[kind]
        path.write_text((WAITING + body).format(place=place, seconds=seconds, marker=marker))
        return path

    return write


def losses(path, kind):
    """How many losses the check of such a target or program takes."""
    if kind == "target":
        return losses_of_the_check(tt.target_of(f"{path}:target"))
    with tt.program_target([sys.executable, str(path)]) as target:
        return losses_of_the_check(target)


def interrupted(arguments, folder):
    """(exit status, standard output, standard error) of a process after Ctrl-C at the mark."""
    out, errors = folder / "out", folder / "errors"
    with out.open("w") as stdout, errors.open("w") as stderr:
        # Whoever runs the tests in the background may have it ignored; a process inherits that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen([sys.executable, *arguments], stdout=stdout, stderr=stderr)
        finally:
            signal.signal(signal.SIGINT, before)
    with process:
        while not (folder / "mark").exists():
            assert process.poll() is None, errors.read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    return process.returncode, out.read_text(), errors.read_text()


@pytest.mark.parametrize("kind", ["target", "program"])
def test_the_command_line_ends_with_the_verdict(waiting, tmp_path, kind):
    path = waiting(kind, losses(waiting(kind), kind) + 20)
    what = [f"{path}:target"] if kind == "target" else ["--program", sys.executable, str(path)]
    command = ["-m", "throughtime", "check", "--sweep", "--json", str(tmp_path / "r.json"), *what]
    status, out, errors = interrupted(command, tmp_path)
    assert status == 1
    assert out.startswith("DISAGREE: ")
    assert INTERRUPTED in out
    assert "smallest overall" not in out  # nor is a sweep made
    assert errors == ""
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["verdict"] == "disagree"
    assert INTERRUPTED in report["notes"]


@pytest.mark.parametrize("kind", ["target", "program"])
def test_the_command_line_without_a_verdict_ends_without(waiting, tmp_path, kind):
    path = waiting(kind, losses(waiting(kind), kind) - 5)
    what = [f"{path}:target"] if kind == "target" else ["--program", sys.executable, str(path)]
    command = ["-m", "throughtime", "check", "--json", str(tmp_path / "r.json"), *what]
    assert interrupted(command, tmp_path) == (STATUS, "", "interrupted\n")
    assert not (tmp_path / "r.json").exists()


AGAIN = """
import sys
import throughtime as tt

with tt.program_target([sys.executable, {program!r}]) as target:
    first = tt.check(target, progress=False)
    second = tt.check(target, diagnose=False, progress=False)
print(*first.notes, sep="\\n")
print(first.tensors["w"].numerical.tolist() == second.tensors["w"].numerical.tolist())
"""


def test_a_program_whose_answer_was_not_waited_for_can_be_asked_again(waiting, tmp_path):
    """The answer to what it was asked before is dropped, whenever it comes."""
    program = waiting("program", losses(waiting("program"), "program") + 20, seconds=0.5)
    script = tmp_path / "again.py"
    script.write_text(AGAIN.format(program=str(program)))
    status, out, errors = interrupted([str(script)], tmp_path)
    assert (status, errors) == (0, "")
    assert INTERRUPTED in out
    assert out.endswith("\nTrue\n")
