"""The targets that are drawn for a user's file are those that it expects."""

import pytest

import throughtime as tt
from throughtime.source import Program, find
from throughtime.source.finding.reading import Reading
from throughtime.source.finding.readings import Judged

# U target is looked up by its largest entry, and outputs are columns.
COLUMNS = """
import numpy as np

hidden_size, vocab_size = 4, 5

def init(hidden_size, vocab_size):
    U = np.random.randn(hidden_size, vocab_size) * 0.5
    V = np.random.randn(hidden_size, hidden_size) * 0.5
    W = np.random.randn(vocab_size, hidden_size) * 0.5
    return U, V, W

def softmax(v):
    e = np.exp(v - np.max(v))
    return e / np.sum(e)

def forward_pass(inputs, hidden_state, params):
    U, V, W = params
    outputs, hidden_states = [], [hidden_state]
    for x in inputs:
        hidden_states.append(np.tanh(np.dot(U, x) + np.dot(V, hidden_states[-1])))
        outputs.append(softmax(np.dot(W, hidden_states[-1])))
    return outputs, hidden_states

def backward_pass(inputs, outputs, hidden_states, targets, params):
    U, V, W = params
    dU, dV, dW = np.zeros_like(U), np.zeros_like(V), np.zeros_like(W)
    carried, loss = np.zeros_like(hidden_states[0]), 0
    for t in reversed(range(len(outputs))):
        loss += -np.log(outputs[t][np.argmax(targets[t]), 0])
        dy = outputs[t].copy()
        dy[np.argmax(targets[t])] -= 1
        dW += np.dot(dy, hidden_states[t + 1].T)
        dz = (np.dot(W.T, dy) + carried) * (1 - hidden_states[t + 1] ** 2)
        dU += np.dot(dz, inputs[t].T)
        dV += np.dot(dz, hidden_states[t].T)
        carried = np.dot(V.T, dz)
    return loss, (dU, dV, dW)

params = init(hidden_size, vocab_size)
"""


@pytest.mark.parametrize(
    ("entry", "verdict"), [("np.argmax(targets[t])", "agree"), ("0", "disagree")]
)
def test_where_the_largest_entry_is_looked_for_targets_are_one_hot(tmp_path, entry, verdict):
    """Of an index the largest entry is the first: a pass that always takes that one seems right."""
    path = tmp_path / "net.py"
    path.write_text(COLUMNS.replace("dy[np.argmax(targets[t])]", f"dy[{entry}]"))
    found = find(path)
    assert "y = np.eye(5)[draw.integers(5, size=12)][..., None]" in found.recipe.data
    target = Program(found.recipe).target()
    report = tt.check(target, progress=False, diagnose=False, effort="quick")
    assert report.verdict == verdict


def test_a_single_tensor_is_right_by_chance_where_targets_are_broadcast():
    """(4,) beside a column of 5 makes a (5, 4) that nobody means."""

    def judged(right, order, **shape):
        reading = Reading("", "", "", "", "", (), order=order, own_loss=True, **shape)
        names = dict.fromkeys("ABC", "")
        moves = tuple("ABC")
        return Judged(reading, names, names, right, moves, "", False, {})

    fitting = judged((), 1, fits=True)
    assert fitting.rank > judged(("A",), 2, enlarges=True).rank
    assert fitting.rank < judged(("A",), 2).rank
    assert fitting.rank < judged(("A", "B"), 2, enlarges=True).rank
