"""Exact BPTT under a memory budget: the same bits, from segments that are run again."""

import subprocess
import sys

import numpy as np
import pytest

import throughtime as tt
from throughtime.network.checkpointing import MemoryBudget, budget_of, byte_count


def problem(cell, *, T=700, B=2, dtype="float32", classes=False, seed=0):
    first = [tt.Embedding(7, 3)] if classes else []
    layers = [*first, cell(3, 5), tt.GRU(5, 4), tt.Dense(4, 6)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(), dtype=dtype, seed=seed)
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal((T, B, 3)).astype(dtype)
    inputs = rng.integers(0, 7, (T, B)) if classes else numbers
    state = net.zero_state(B)
    state.flat[...] = rng.standard_normal(state.flat.size)
    return net, inputs, rng.integers(0, 6, (T, B)), state


CELLS = {
    "rnn": tt.RNN,
    "lstm": tt.LSTM,
    "peepholes and projection": lambda i, h: tt.LSTM(i, h, peepholes=True, projection=5),
    "gru original": lambda i, h: tt.GRU(i, h, reset_after=False),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [False, True])
def test_the_same_bits_with_and_without_a_budget(name, dtype, classes):
    net, inputs, targets, state = problem(CELLS[name], dtype=dtype, classes=classes)
    expected = net.loss_and_gradient(inputs, targets, state=state)
    budget = budget_of(net, 700, 2)
    for segment in (128, 256, 640):
        limit = budget.needed(segment)
        assert budget.longest_segment(limit) >= segment
        found = net.loss_and_gradient(inputs, targets, state=state, memory_limit=limit)
        assert found[0] == expected[0]
        assert found[1] == expected[1]


def test_class_indices_without_an_embedding():
    net = tt.Network([tt.LSTM(5, 4), tt.Dense(4, 5)], tt.SoftmaxCrossEntropy())
    codes = np.random.default_rng(0).integers(0, 5, (900, 1))
    expected = net.loss_and_gradient(codes, codes)
    found = net.loss_and_gradient(codes, codes, memory_limit=budget_of(net, 900, 1).needed(256))
    assert found == expected


def test_ragged_lengths():
    net, inputs, targets, state = problem(tt.LSTM, B=3)
    lengths = np.array([700, 1, 300])
    options = {"state": state, "lengths": lengths}
    expected = net.loss_and_gradient(inputs, targets, **options)
    limit = budget_of(net, 700, 3).needed(170)
    assert net.loss_and_gradient(inputs, targets, memory_limit=limit, **options) == expected


def test_the_readable_engine_gives_the_same_gradient_to_rounding():
    net, inputs, targets, state = problem(tt.LSTM, dtype="float64")
    with tt.engine("readable"):
        loss, gradient = net.loss_and_gradient(inputs, targets, state=state)
        limit = budget_of(net, 700, 2).needed(128)
        again, found = net.loss_and_gradient(inputs, targets, state=state, memory_limit=limit)
    assert again == pytest.approx(loss, rel=1e-14)
    assert (found - gradient).norm() < 1e-13 * gradient.norm()


def test_the_longest_segment_that_fits_is_taken():
    budget = MemoryBudget(steps=1000, unit=100, step=10, border=50, fixed=7)
    assert budget.longest_segment(budget.needed(1000)) == 1000
    assert budget.longest_segment(budget.needed(1000) - 1) == 900
    assert budget.longest_segment(budget.needed(300)) == 300


def test_a_budget_that_is_too_small_names_the_smallest_that_works():
    net, inputs, targets, _ = problem(tt.LSTM)
    with pytest.raises(ValueError, match="memory_limit: expected at least") as refusal:
        net.loss_and_gradient(inputs, targets, memory_limit="1KB")
    least = int(str(refusal.value).split("at least ")[1].split()[0])
    net.loss_and_gradient(inputs, targets, memory_limit=least)
    with pytest.raises(ValueError, match=f"expected at least {least} bytes"):
        net.loss_and_gradient(inputs, targets, memory_limit=least - 1)


@pytest.mark.parametrize("text", ["", "MB", "64XB", "-3MB", "1.2.3MB", "six", 3.5])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(ValueError, match='memory_limit: expected bytes, or text such as "64MB"'):
        byte_count(text)


def test_what_cannot_be_cut_is_refused():
    x, y = np.zeros((4, 1, 2), np.float32), np.zeros((4, 1, 6), np.float32)
    both = tt.Network([tt.RNN(2, 3, bidirectional=True)], tt.MeanSquaredError())
    with pytest.raises(ValueError, match="expected layers that run in one direction"):
        both.loss_and_gradient(x, y, memory_limit="1GB")
    dropping = tt.Network([tt.RNN(2, 6), tt.Dropout(0.5)], tt.MeanSquaredError())
    with pytest.raises(ValueError, match="expected a run without dropout, got dropout_seed=1"):
        dropping.loss_and_gradient(x, y, memory_limit="1GB", dropout_seed=1)


LONG = """
import resource, numpy as np, throughtime as tt
net = tt.Network([tt.LSTM(64, 64)], tt.MeanSquaredError(time="mean"))
T = 200_000
inputs = np.zeros((T, 1, 64), np.float32)
targets = np.zeros((T, 1, 64), np.float32)
net.loss_and_gradient(inputs[:1000], targets[:1000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
net.loss_and_gradient(inputs, targets, memory_limit="24MB")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_long_run_stays_within_its_budget():
    """Measured by the system: 200,000 steps would need 600 MB; the inputs are there already."""
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    inputs_and_targets = 2 * 200_000 * 64 * 4 / 1024  # zeros take memory when they are first read
    assert int(done.stdout) < inputs_and_targets + 40_000
