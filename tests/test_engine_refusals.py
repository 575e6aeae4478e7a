"""What the engine does with too little memory, wrong arrays and wrong settings: it says so."""

import numpy as np
import pytest

import throughtime as tt
from engine_examples import OPTIONS, example, python
from throughtime import _engine
from throughtime.cells import engine_cell

ARRAYS = ["W", "U", "b", "p", "R", "c_bias", "inputs", "classes", "lengths", "h", "c", "kept"]
BACKWARD = [
    *["doutputs", "dh", "dc", "dW", "dU", "db", "dp", "dR", "dc_bias", "dinputs"],
    *["delta_h", "delta_c", "delta_z"],
]
NAMES = {"classes": "inputs", "dh": "dstate h", "dc": "dstate c"}  # in messages
NAMES |= {f"delta_{part}": f"delta {part}" for part in "hcz"}


def arguments(name, *, indices=False):
    """All that `_engine.forward` and `backward` are given, by name."""
    case = example(name, (4, 3, 5, 6), ragged=True, indices=indices)
    T, B, H = 4, 3, 6
    p = {"c_bias" if n == "c" else n: array for n, array in case.p.items()}
    given = dict.fromkeys(ARRAYS + BACKWARD) | p
    given["classes" if indices else "inputs"] = case.inputs
    given["lengths"] = case.lengths
    for part, size in case.cell.state_sizes.items():
        given[part] = np.zeros((T + 1, B, size))
        given[f"d{part}"] = np.zeros((B, size))
        given[f"delta_{part}"] = np.zeros((T, B, size))
    given["kept"] = np.zeros((T, B, len(case.cell.kept_names) * H))
    given["doutputs"] = case.doutputs
    given |= {f"d{n}": np.zeros_like(a) for n, a in p.items()}
    given["dinputs"] = None if indices else np.zeros_like(case.inputs)
    given["delta_z"] = np.zeros((T, B, len(case.p["b"])))
    return engine_cell(case.cell), given


def call(cell, given):
    _engine.forward(cell, **{name: given[name] for name in ARRAYS})
    _engine.backward(cell, **given)


WRONG = {
    "another shape": lambda a: np.zeros([n + 1 for n in a.shape], a.dtype),
    "another last size": lambda a: np.zeros((*a.shape[:-1], a.shape[-1] - 1), a.dtype),
    "another number of axes": lambda a: a[None],
    "another type": lambda a: a.astype("float16"),
    "complex": lambda a: a.astype("complex128"),
    "empty": lambda a: np.zeros(0, a.dtype),
}


@pytest.mark.parametrize("indices", [False, True], ids=["numbers", "indices"])
@pytest.mark.parametrize("name", OPTIONS)
def test_each_wrong_array_is_named(name, indices):
    cell, right = arguments(name, indices=indices)
    call(cell, right)
    for what, array in right.items():
        for change in WRONG.values() if array is not None else []:
            with pytest.raises(ValueError, match="expected") as refused:
                call(cell, right | {what: change(array)})
            said = str(refused.value).split(":")[0]
            # The states' first axis gives T and B, and W the precision: others then do not fit.
            assert said == NAMES.get(what, what) or what in ("h", "W"), refused.value


OPTIONAL = {"lengths", "doutputs", "dinputs", "delta_h", "delta_c", "delta_z"}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_missing_is_named(name):
    cell, right = arguments(name)
    for what in [n for n, a in right.items() if a is not None and n not in OPTIONAL]:
        with pytest.raises(ValueError, match=NAMES.get(what, what)):
            call(cell, right | {what: None})


@pytest.mark.parametrize("view", [lambda a: np.asfortranarray(a), lambda a: a[..., ::-1]])
@pytest.mark.parametrize("name", ["LSTM peepholes projection", "GRU"])
def test_an_array_to_be_written_is_never_copied_instead(name, view):
    """A strided one is refused or filled; what must not be is that the result is lost."""
    cell, right = arguments(name)
    written = ["h", "kept", "dh", "dW", "dU", "db", "dinputs", "delta_h", "delta_z"]
    for what in written:
        array = view(np.zeros_like(right[what]))
        if array.flags.c_contiguous:
            continue
        try:
            call(cell, right | {what: array})
        except (TypeError, ValueError):
            continue
        assert array.any(), what


def test_an_array_to_be_written_may_not_be_read_only():
    cell, right = arguments("LSTM peepholes projection")
    for what in ("h", "kept", "dW", "dinputs"):
        array = np.zeros_like(right[what])
        array.flags.writeable = False
        with pytest.raises(ValueError, match="expected a contiguous array to write to"):
            call(cell, right | {what: array})


@pytest.mark.parametrize("array", [[1.0], None, np.float32(1)], ids=["list", "None", "scalar"])
def test_what_is_no_array_is_refused(array):
    with pytest.raises(TypeError, match="ndarray"):
        _engine.sum_of_squares(array)


@pytest.mark.parametrize("dtype", ["int64", "float16", "complex64", "longdouble"])
def test_numbers_of_another_type_are_refused(dtype):
    with pytest.raises(TypeError, match="float32 or float64"):
        _engine.sum_of_squares(np.ones(3, dtype))


@pytest.mark.parametrize(("what", "low", "high"), [("classes", 0, 4), ("lengths", 0, 4)])
@pytest.mark.parametrize("name", OPTIONS)
def test_indices_and_lengths_out_of_range(name, what, low, high):
    cell, right = arguments(name, indices=True)
    for bad in (low - 1, high + 1, -(2**62), 2**62):
        array = right[what].copy()
        array.flat[-1] = bad
        with pytest.raises(ValueError, match=f"expected {low} to {high}, got {bad}"):
            call(cell, right | {what: array})


def test_cells_that_do_not_exist():
    for kind, *sizes in [(3, 1, 1, 1), (-1, 1, 1, 1), (0, 0, 1, 1), (1, 1, -1, 1), (2, 1, 2, 1)]:
        with pytest.raises(ValueError, match="cell"):
            _engine.Cell(kind=kind, **dict(zip(("inputs", "units", "outputs"), sizes, strict=True)))


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (0, ValueError, "threads: expected an integer of at least 1, got 0"),
        (-1, ValueError, "threads: expected an integer of at least 1, got -1"),
        (2000, ValueError, "threads: expected an integer from 1 to 1024, got 2000"),
        (10**30, ValueError, "threads: expected an integer from 1 to 1024, got 10{30}"),
        ("two", TypeError, "threads: expected an integer of at least 1, got 'two'"),
        (1.5, TypeError, "threads: expected an integer of at least 1, got 1.5"),
        (True, TypeError, "threads: expected an integer of at least 1, got True"),
        (None, TypeError, "threads: expected an integer of at least 1, got None"),
    ],
)
def test_wrong_numbers_of_threads(count, error, message):
    before = _engine.threads()
    with pytest.raises(error, match=f"^{message}$"):
        tt.set_threads(count)
    assert _engine.threads() == before


def test_wrong_engine_and_isa():
    with (
        pytest.raises(ValueError, match="engine: expected 'compiled' or 'readable', got 'fast'"),
        tt.engine("fast"),
    ):
        pass
    with pytest.raises(ValueError, match=r"expected one of .*, got 'v9'"):
        _engine.choose_isa("v9")


@pytest.mark.parametrize(
    ("variable", "bad", "expected"),
    [
        ("THROUGHTIME_ENGINE", "nonsense", "'compiled' or 'readable'"),
        ("THROUGHTIME_ISA", "nonsense", f"one of {', '.join(_engine.available_isas())}"),
        ("THROUGHTIME_THREADS", "abc", "an integer from 1 to 1024"),
        ("THROUGHTIME_THREADS", "0", "an integer from 1 to 1024"),
        ("THROUGHTIME_THREADS", "2 or 3", "an integer from 1 to 1024"),
        ("THROUGHTIME_THREADS", "99999999999999999999", "an integer from 1 to 1024"),
    ],
)
def test_wrong_environment_variables(variable, bad, expected):
    code = "import engine_examples as e; e.run(e.example('LSTM', (9, 37, 9, 65)))"
    done = python(code, **{variable: bad})
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1] == f"ValueError: {variable}: expected {expected}, got {bad!r}"
    )


def test_environment_variables_are_obeyed():
    isa = _engine.available_isas()[-1]
    code = """
import throughtime as tt
info = tt.engine_info()
print(info["engine"], info["isa"], info["threads"])
"""
    done = python(code, THROUGHTIME_ENGINE="readable", THROUGHTIME_ISA=isa, THROUGHTIME_THREADS="3")
    assert done.stdout.split() == ["readable", isa, "3"]
    done = python(code, THROUGHTIME_ENGINE="", THROUGHTIME_ISA="", THROUGHTIME_THREADS="")
    assert done.stdout.split()[:2] == ["compiled", _engine.available_isas()[0]]


def test_workspace_is_given_back():
    from engine_examples import run

    run(example("LSTM", (9, 7, 9, 65)))
    assert tt.release_workspace() > 4 * 65 * 65 * 8  # U alone
    assert tt.release_workspace() == 0


LIMITED = """
import resource, numpy as np, engine_examples as e, throughtime as tt

def limit(room):
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + room if room else resource.RLIM_INFINITY, -1))
"""


@pytest.mark.parametrize("indices", [False, True])
@pytest.mark.parametrize("name", ["LSTM peepholes projection", "GRU original", "RNN tanh"])
def test_too_little_memory(name, indices):
    """MemoryError, forward and backward; then all is as before."""
    code = f"""{LIMITED}
case = e.example({name!r}, (3, 5, 1100, 1000), indices={indices})
tt.set_threads(1)
truth, tape = e.forward(case, "compiled")
truth |= e.backward(case, tape, "compiled")
gradient = {{n: np.zeros_like(a) for n, a in case.p.items()}}
calls = [
    lambda: e.forward(case, "compiled"),
    lambda: e.backward(case, tape, "compiled", gradient=gradient, need_inputs=False),
]
for call in calls * 2:
    tt.release_workspace()
    limit(3 << 20)  # the arrays fit, the packed matrices do not
    try:
        call()
        print("enough")
    except MemoryError as refused:
        print("MemoryError")
    limit(None)
e.assert_same_bits(e.run(case), truth)
print("works")
"""
    # What malloc is given back goes back to the system, rather than being room for the next call.
    done = python(code, MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="0")
    assert done.stdout.split() == ["MemoryError"] * 4 + ["works"], done.stdout + done.stderr


def test_no_room_for_further_threads():
    """The work is done by those there are."""
    code = f"""{LIMITED}
import os
threads = lambda: len(os.listdir("/proc/self/task"))
case, before = e.example("LSTM", (14, 37, 20, 129)), threads()
tt.set_threads(1)
alone = case.cell.forward(case.p, case.inputs, case.state)[0]
tt.set_threads(9)
limit(36 << 20)  # less than the stacks of eight threads
ours = case.cell.forward(case.p, case.inputs, case.state)[0]
limit(None)
few = threads() - before
again = case.cell.forward(case.p, case.inputs, case.state)[0]
assert ours.tobytes() == again.tobytes() == alone.tobytes()
print("same", few < 8, threads() - before)
"""
    done = python(code)
    assert done.stdout == "same True 8\n", done.stdout + done.stderr


HOSTILE = """
class Hostile(np.ndarray):
    def __array_finalize__(self, source):
        if source is not None:
            raise RuntimeError("no copies")

def hostile(array):
    plain = np.asfortranarray(array)
    return np.ndarray.__new__(Hostile, plain.shape, plain.dtype, plain, 0, plain.strides)
"""


def test_no_code_of_a_subclass_runs_while_an_array_is_copied():
    """An exception there would end the interpreter."""
    code = f"""{LIMITED}{HOSTILE}
from throughtime import _engine
W, x = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(2, 2, 3)
y = np.zeros((2, 2, 2))
_engine.dense_forward(2, 2, hostile(W), None, hostile(x), None, y)
assert np.array_equal(y, x @ W.T)
print(_engine.sum_of_squares(hostile(W)))
"""
    done = python(code)
    assert done.stdout == "55.0\n", done.stdout + done.stderr


def test_too_little_memory_for_the_copy_of_an_input():
    code = f"""{LIMITED}
from throughtime import _engine
W = np.asfortranarray(np.ones((1000, 2000)))
x, y = np.ones((1, 1, 2000)), np.zeros((1, 1, 1000))
limit(3 << 20)
for call in (
    lambda: _engine.dense_forward(1, 1, W, None, x, None, y),
    lambda: _engine.sum_of_squares(W),
):
    try:
        call()
        print("enough")
    except MemoryError:
        print("MemoryError")
limit(None)
print(_engine.sum_of_squares(W))
"""
    done = python(code, MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="0")
    assert done.stdout.split() == ["MemoryError"] * 2 + ["2000000.0"], done.stdout + done.stderr


def test_indices_that_another_thread_changes_meanwhile_are_not_read_again():
    code = f"""{LIMITED}
import threading
from throughtime import _engine
T, B, N = 400, 16, 5
classes = np.zeros((T, B), np.intp)
W, y, dy = np.ones((400, N)), np.zeros((T, B, 400)), np.ones((T, B, 400))
dE, ended = np.zeros((N, 400)), threading.Event()

def write():
    while not ended.is_set():
        classes[...] = 2**44
        classes[...] = 0

other = threading.Thread(target=write, daemon=True)
other.start()
done = refused = 0
while min(done, refused) < 20:
    try:
        _engine.dense_forward(T, B, W, None, None, classes, y)
        _engine.embedding_backward(classes, dy, dE)
        done += 1
    except ValueError:
        refused += 1
    np.multiply(classes, 1)  # lets the other one go on
ended.set()
other.join()
print("works")
"""
    done = python(code)
    assert done.stdout == "works\n", done.stdout + done.stderr


@pytest.mark.parametrize("sizes", [(2**62, 1, 1), (2**31, 2**31, 2**31), (1, 1, 2**60), (-1, 1, 1)])
def test_sizes_that_overflow_are_refused(sizes):
    with pytest.raises((MemoryError, ValueError)):
        _engine.empty(*sizes, True)


def test_the_engines_own_setting_refuses_what_it_has_no_room_for():
    before = _engine.threads()
    for count in (0, -1, 1025, 2**31 - 1):
        with pytest.raises(ValueError, match="threads: expected an integer from 1 to 1024"):
            _engine.set_threads(count)
    assert _engine.threads() == before
