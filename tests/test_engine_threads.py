"""Threads, forks and Ctrl-C: the same bits whoever calls and however the work is divided."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import throughtime as tt
from engine_examples import OPTIONS, assert_same_bits, child_environment, example, python, run
from throughtime import _engine

LARGE = (14, 37, 20, 129)  # T, B, I, H: enough work in every product for five threads


@pytest.fixture(autouse=True)
def keep_settings():
    threads, isa = _engine.threads(), _engine.isa()
    yield
    tt.set_threads(threads)
    _engine.choose_isa(isa)


def with_threads(count, case):
    tt.set_threads(count)
    return run(case)


@pytest.mark.parametrize("isa", _engine.available_isas())
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("name", OPTIONS)
def test_same_bits_for_any_number_of_threads(isa, name, ragged):
    _engine.choose_isa(isa)
    case = example(name, LARGE, ragged=ragged).astype("float32")
    alone = with_threads(1, case)
    for count in (2, 3, 5):
        assert_same_bits(with_threads(count, case), alone)


@pytest.mark.parametrize("isa", _engine.available_isas())
@pytest.mark.parametrize(
    ("name", "shape", "indices"),
    [
        ("LSTM peepholes projection", (9, 41, 33, 90), False),
        ("GRU original", (9, 41, 33, 90), False),
        ("LSTM", (2, 150, 30, 501), True),  # columns of δW in parts, too
        ("GRU", (2, 300, 7, 65), False),  # chunks of one step
        ("LSTM", (3, 3, 20, 272), False),  # few sequences, wide layers: columns of U in parts
        ("GRU original", (1, 5, 256, 320), False),  # and not packed
        ("RNN tanh", (2, 2, 64, 512), False),
        ("LSTM projection", (1, 30, 200, 210), False),  # one product with each matrix
        ("GRU", (1, 100, 64, 130), False),
    ],
)
def test_same_bits_in_float64_and_for_class_indices(isa, name, shape, indices):
    _engine.choose_isa(isa)
    case = example(name, shape, ragged=True, indices=indices)
    alone = with_threads(1, case)
    for count in (2, 3, 5):
        assert_same_bits(with_threads(count, case), alone)


def test_work_is_really_divided():
    """Else nothing that is said here about threads would have been tested."""
    code = f"""
import os, engine_examples as e, throughtime as tt
threads = lambda: len(os.listdir("/proc/self/task"))
case, before = e.example("RNN tanh", {LARGE}), threads()
for count in (1, 2, 5, 3):
    tt.set_threads(count)
    e.run(case)
    print(threads() - before)
"""
    assert python(code).stdout.split() == ["0", "1", "4", "4"]


def test_eight_python_threads_at_once_get_the_bits_of_one():
    cases = [example(name, LARGE, ragged=True).astype("float32") for name in OPTIONS]
    alone = [with_threads(1, case) for case in cases]
    tt.set_threads(3)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, cases * 4))
    for k, ours in enumerate(found):
        assert_same_bits(ours, alone[k % len(cases)])


FORK = f"""
import os, sys, threading, engine_examples as e, throughtime as tt
case = e.example("LSTM", {LARGE})
tt.set_threads(3)
truth = e.run(case)

def child():
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    e.assert_same_bits(e.run(case), truth)
    os._exit(7 if len(os.listdir("/proc/self/task")) == 3 else 1)
"""


def test_a_forked_child_has_threads_of_its_own():
    code = f"{FORK}\nassert child() == 7\ne.assert_same_bits(e.run(case), truth)\nprint('same')"
    done = python(code)
    assert done.stdout == "same\n", done.stderr


def test_fork_while_other_threads_are_inside_the_engine():
    """Whatever they hold at that moment, the child does not wait for it."""
    code = f"""{FORK}
small, going = e.example("LSTM", (3, 2, 3, 4)), True

def calls(case):
    while going:
        e.run(case)

others = [threading.Thread(target=calls, args=[c]) for c in (case, small, small)]
[t.start() for t in others]
codes = {{child() for _ in range(25)}}
going = False
[t.join() for t in others]
print(codes)
"""
    done = python(code)
    assert done.stdout == "{7}\n", done.stderr


def test_a_pool_of_forked_processes():
    code = f"""
import multiprocessing, engine_examples as e, throughtime as tt
tt.set_threads(2)
cases = [e.example(name, {LARGE}) for name in e.OPTIONS]
truth = [e.run(case) for case in cases]

def work(k):
    return e.run(cases[k])

with multiprocessing.get_context("fork").Pool(3) as pool:
    for ours, theirs in zip(pool.map(work, range(len(cases))), truth):
        e.assert_same_bits(ours, theirs)
print("same")
"""
    done = python(code)
    assert done.stdout == "same\n", done.stderr


LONG = """
import signal, traceback, numpy as np, engine_examples as e, throughtime as tt
from throughtime.cells.tape import Columns, Tape
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
T, H = 20_000, 2048  # tens of seconds
cell = tt.RNN(1, H)
p = {name: np.zeros(shape, "float32") for name, shape in cell.shapes().items()}
x, h, s = np.zeros((T, 1, 1), "f"), np.zeros((T + 1, 1, H), "f"), np.zeros((T, 1, H), "f")
tape = Tape(x, {"h": h}, Columns(s, ("s",)), None)
print("go", flush=True)
try:
    CALL
    print("ran to its end")
except KeyboardInterrupt as interrupt:
    print("stopped inside", traceback.extract_tb(interrupt.__traceback__)[-1].filename)
case = e.example("LSTM", (5, 3, 4, 7))
e.assert_agrees(case)
print("works")
"""


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("call", ["cell.forward(p, x)", "cell.backward(p, tape, h[1:])"])
def test_control_c_stops_a_long_call(call, threads):
    """And leaves everything usable."""
    child = subprocess.Popen(
        [sys.executable, "-c", LONG.replace("CALL", call)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(THROUGHTIME_THREADS=threads),
    )
    try:
        assert child.stdout.readline() == "go\n"
        time.sleep(0.4)  # well inside the call
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
    finally:
        child.kill()
    assert out.splitlines()[0].endswith("compiled.py"), out + err
    assert out.splitlines()[1:] == ["works"], out + err
