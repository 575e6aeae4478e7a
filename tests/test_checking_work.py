"""Work is counted in processor time: what else the machine does changes no answer."""

import subprocess
import sys
import time

import numpy as np
import pytest

import throughtime as tt
from throughtime.checking.budget import Budget, Spent
from throughtime.checking.work import answering, worked

WORK = "end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
BUSY = f"import time\nprint(flush=True)\ninput()\n{WORK}print(flush=True)"
CHILD = f"import time\n{WORK}"
PARENT = f"""import subprocess, sys
print(flush=True)
input()
subprocess.run([sys.executable, '-c', {CHILD!r}])
print(flush=True)"""
SLOW = """import time
print(flush=True)
input()
for _ in range(3): time.sleep(0.1), sum(range(2_000_000))
print(flush=True)"""


def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_work_is_not_time():
    began = worked()
    time.sleep(0.3)
    assert worked() - began < 0.2
    work(0.3)
    assert worked() - began >= 0.3


def test_a_budget_of_work_ends_with_the_work():
    budget = Budget(work=0.2)
    half = budget.over(0.5)
    time.sleep(0.3)
    budget.take()
    assert not half()
    work(0.15)
    assert half()
    budget.take()
    work(0.1)
    with pytest.raises(Spent):
        budget.take()
    assert budget.exhausted


def test_a_budget_may_have_a_time_on_the_wall_too():
    budget = Budget(seconds=0.1, work=60.0)
    budget.take()
    time.sleep(0.15)
    with pytest.raises(Spent):
        budget.take()


def answered(code):
    """(work, seconds on the wall) of a program's answer, once it has started."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        process.stdout.readline()
        began, wall = worked(), time.perf_counter()
        with answering(process.pid):
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
        return worked() - began, time.perf_counter() - wall


@pytest.mark.parametrize("code", [BUSY, PARENT], ids=["itself", "its child"])
def test_who_answers_works(code):
    assert answered(code)[0] >= 0.4


@pytest.mark.skipif(sys.platform != "linux", reason="the clock of another process is Linux's")
def test_who_waits_for_a_processor_does_not():
    work, wall = answered(SLOW)
    assert work < wall - 0.2


def test_a_clock_that_runs_away_changes_no_diagnosis(monkeypatch):
    hours = iter(range(0, 10**9, 3600))
    net = tt.Network([tt.GRU(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 1, 2)), rng.normal(size=(5, 1, 3))
    wrong = tt.Target(
        net.parameters,
        lambda: net.evaluate(x, y).value,
        lambda: {name: -array for name, array in net.loss_and_gradient(x, y)[1].items()},
    )
    monkeypatch.setattr("throughtime.checking.budget.time", lambda: float(next(hours)))
    assert [cause.fault for cause in tt.check(wrong, progress=False).causes] == ["wrong_sign"]
