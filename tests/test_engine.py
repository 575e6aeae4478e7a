"""The compiled twins against the readable cells: every cell and option, on every ISA."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import throughtime as tt
from engine_examples import (
    DOUBLE,
    ENGINE,
    OPTIONS,
    Example,
    assert_agrees,
    assert_same_bits,
    backward,
    errors,
    example,
    forward,
    run,
)
from throughtime import _engine
from throughtime.cells import compiled

# T, B, I, H: sizes that no tile, vector or chunk divides; several chunks of 256 rows, and chunks of
# one step.
SHAPES = [
    (3, 17, 9, 65),
    (2, 5, 33, 129),
    (1, 17, 5, 65),
    (2, 300, 3, 17),
    (300, 1, 2, 7),
    (33, 17, 1, 8),
    (1, 1, 1, 1),
    (1, 1, 32, 64),  # few rows: weights are not packed
    (2, 4, 16, 32),
    (1, 7, 64, 16),
    (1, 13, 20, 70),  # one product with each matrix: packed a panel at a time
    (1, 130, 9, 33),
]


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = _engine.threads()
    tt.set_threads(request.param)
    yield request.param
    tt.set_threads(before)


@pytest.fixture
def agrees(record_property):
    """Compares with the readable cells; the worst errors stand in the summary."""
    return lambda case: assert_agrees(
        case, lambda dtype, e: record_property(f"{ENGINE}, {dtype}", e)
    )


sizes = st.tuples(*[st.integers(1, 40)] * 4)


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=12)
@given(shape=sizes, ragged=st.booleans(), indices=st.booleans(), states=st.booleans())
def test_agrees_with_the_readable_cell(each_isa, name, shape, ragged, indices, states):
    assert_agrees(example(name, shape, ragged=ragged, indices=indices, states=states))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_agrees_at_awkward_sizes(each_isa, name, shape, agrees):
    agrees(example(name, shape, ragged=True))
    agrees(example(name, shape, indices=True))


@pytest.mark.parametrize("name", OPTIONS)
def test_agrees_when_work_is_divided(each_isa, threads, name, agrees):
    agrees(example(name, (9, 37, 20, 65), ragged=True))


@pytest.mark.parametrize("name", OPTIONS)
def test_all_lengths_zero_and_no_gradient_from_above(each_isa, name):
    """States stand still, every gradient but that of the initial state is 0."""
    case = example(name, (5, 3, 4, 6))
    case = replace(case, lengths=np.zeros(3, int), doutputs=None)
    ours = run(case)
    for part in case.state:
        assert ours[f"final state {part}"].tobytes() == case.state[part].tobytes()
        assert ours[f"dstate {part}"].tobytes() == case.dstate[part].tobytes()
    for what in [n for n in ours if n == "dinputs" or n.startswith(("delta", "dW", "dU", "db"))]:
        assert not ours[what].any(), what
    assert not ours["outputs"].any()


def strided(array):
    """The same numbers, with every axis turned round and gaps between them."""
    room = np.zeros([2 * n for n in array.shape], array.dtype)
    view = room[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    assert not view.flags.c_contiguous
    return view


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def misaligned(array):
    """The same numbers, none of them where a processor would like it."""
    room = np.zeros(array.nbytes + 1, np.uint8)
    view = np.frombuffer(room[1:].data, array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def with_arrays(case, change) -> Example:
    """The example with `change` made to every array that it gives."""
    every = {"inputs": change(case.inputs), "doutputs": change(case.doutputs)}
    if case.lengths is not None:
        every["lengths"] = change(case.lengths)
    for part in ("p", "state", "dstate"):
        every[part] = {n: change(a) for n, a in getattr(case, part).items()}
    return replace(case, **every)


@pytest.mark.parametrize("change", [strided, read_only, misaligned, np.asfortranarray])
@pytest.mark.parametrize("indices", [False, True], ids=["numbers", "indices"])
@pytest.mark.parametrize("name", OPTIONS)
def test_arrays_may_lie_in_memory_as_they_like(name, indices, change):
    case = example(name, (6, 5, 3, 7), ragged=True, indices=indices)
    assert_same_bits(run(with_arrays(case, change)), run(case))


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint16", "int64"])
def test_class_indices_of_any_integer_type(dtype):
    case = example("LSTM", (6, 5, 3, 7), indices=True)
    assert_same_bits(run(replace(case, inputs=case.inputs.astype(dtype))), run(case))


@pytest.mark.parametrize("name", OPTIONS)
def test_the_tape_of_one_engine_serves_the_other(each_isa, name):
    case = example(name, (7, 6, 4, 9), ragged=True)
    truth, readable = forward(case, "readable")
    truth = backward(case, readable, "readable")
    _, compiled = forward(case, "compiled")
    for tape, engine in [(readable, "compiled"), (compiled, "readable"), (compiled, "compiled")]:
        assert max(errors(backward(case, tape, engine), truth).values()) <= DOUBLE


@pytest.mark.parametrize("cut", [1, 4, 6])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_tape_cut_in_two_gives_the_whole(each_isa, name, cut):
    """From the later part's initial state to the earlier part's final one."""
    case = example(name, (7, 6, 4, 9), ragged=True)
    _, tape = forward(case, "compiled")
    whole = backward(case, tape, "compiled")
    truth = backward(case, tape, "readable")
    later = backward(replace(case, doutputs=case.doutputs[cut:]), tape.steps(cut, 7), "compiled")
    dstate = {n: later[f"dstate {n}"] for n in case.state}
    earlier = backward(
        replace(case, doutputs=case.doutputs[:cut], dstate=dstate), tape.steps(0, cut), "compiled"
    )
    joined = {n: earlier[n] for n in earlier if n.startswith("dstate")}
    for name in case.p:
        joined[f"d{name}"] = earlier[f"d{name}"] + later[f"d{name}"]
    for name in [n for n in whole if n.startswith("delta") or n == "dinputs"]:
        joined[name] = np.concatenate([earlier[name], later[name]])
    assert max(errors(joined, truth).values()) <= DOUBLE
    assert max(errors(whole, truth).values()) <= DOUBLE


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_not_needed_changes_nothing_else(name):
    case = example(name, (7, 6, 4, 9), ragged=True)
    _, tape = forward(case, "compiled")
    whole = backward(case, tape, "compiled")
    found = backward(case, tape, "compiled", need_inputs=False, need_deltas=False)
    expected = {n: a for n, a in whole.items() if n != "dinputs" and not n.startswith("delta ")}
    assert_same_bits(found, expected)


@pytest.mark.parametrize("layout", [np.array, strided, np.asfortranarray])
@pytest.mark.parametrize("indices", [False, True], ids=["numbers", "indices"])
@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_are_added_to_the_given_arrays(name, indices, layout):
    """Also where these are views of larger ones."""
    case = example(name, (7, 6, 4, 9), indices=indices)
    _, tape = forward(case, "compiled")
    found = backward(case, tape, "compiled")
    rng = np.random.default_rng(1)
    before = {n: rng.standard_normal(a.shape) for n, a in case.p.items()}
    given = {n: layout(a.copy()) for n, a in before.items()}
    returned = backward(case, tape, "compiled", gradient=given)
    truth = {f"d{n}": before[n] + found[f"d{n}"] for n in before}
    assert max(errors({f"d{n}": a for n, a in given.items()}, truth).values()) <= DOUBLE
    for n in given:
        assert np.shares_memory(returned[f"d{n}"], given[n]), n


@pytest.mark.parametrize("shape", [(1, 12, 300, 301), (40, 17, 9, 65)], ids=str)
@pytest.mark.parametrize("indices", [False, True], ids=["numbers", "indices"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_new_gradient_holds_nothing_of_the_memory_it_lies_in(name, indices, shape, monkeypatch):
    """Every number of it is written, also where it lies in memory that has been used before."""

    def used(shape, dtype):
        return np.full(shape, np.nan, dtype)

    monkeypatch.setattr(compiled, "_to_fill", used)
    case = example(name, shape, indices=indices, ragged=True)
    _, tape = forward(case, "compiled")
    zero = {n: np.zeros_like(a) for n, a in case.p.items()}
    expected = backward(case, tape, "compiled", gradient=zero)
    assert_same_bits(backward(case, tape, "compiled"), expected)


def test_a_class_of_one_s_own_keeps_its_own_equations():
    """It is not run as the cell that it is derived from."""

    class Doubled(tt.RNN):
        def step(self, p, z_x, state):
            return super().step(p, 2 * z_x, state)

    case = example("RNN tanh", (4, 3, 2, 5))
    own = replace(case, cell=Doubled(2, 5))
    assert_same_bits(forward(own, "compiled")[0], forward(own, "readable")[0])
    assert not np.array_equal(forward(own, "compiled")[0]["outputs"], run(case)["outputs"])


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
def test_not_a_number_and_infinity_spread_as_in_the_readable_cells(each_isa, name, bad):
    case = example(name, (5, 3, 4, 9))
    case.inputs[2, 1, 0] = bad
    with np.errstate(invalid="ignore"):
        truth, ours = forward(case, "readable")[0], forward(case, "compiled")[0]
    for what in truth:
        assert np.array_equal(np.isnan(ours[what]), np.isnan(truth[what])), what
        finite = np.isfinite(truth[what])
        assert max(errors({0: ours[what][finite]}, {0: truth[what][finite]}).values()) <= DOUBLE
