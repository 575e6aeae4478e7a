"""An initial state that the backward pass cannot see: only from rest can its gradient be right."""

import pytest

from found_files import verdict
from throughtime.source import find

NETWORK = """
import numpy as np


def init(hidden_size, vocab_size):
    draw = np.random.RandomState(0).randn
    U, V = draw(hidden_size, vocab_size) * 0.3, draw(hidden_size, hidden_size) * 0.3
    W = draw(vocab_size, hidden_size) * 0.3
    b_hidden, b_out = np.zeros((hidden_size, 1)), np.zeros((vocab_size, 1))
    return U, V, W, b_hidden, b_out


def forward_pass(inputs, hidden_state, params):
    U, V, W, b_hidden, b_out = params
    outputs, hidden_states = [], []
    for x in inputs:
        hidden_state = np.tanh(np.dot(U, x) + np.dot(V, hidden_state) + b_hidden)
        scores = np.dot(W, hidden_state) + b_out
        outputs.append(np.exp(scores) / np.sum(np.exp(scores)))
        hidden_states.append(hidden_state.copy())
    return outputs, hidden_states


def backward_pass(inputs, outputs, hidden_states, targets, params):
    U, V, W, b_hidden, b_out = params
    d_U, d_V, d_W = np.zeros_like(U), np.zeros_like(V), np.zeros_like(W)
    d_b_hidden, d_b_out = np.zeros_like(b_hidden), np.zeros_like(b_out)
    d_h_next, loss = np.zeros_like(hidden_states[0]), 0
    for t in reversed(range(len(outputs))):
        loss += -np.sum(np.log(outputs[t]) * targets[t])
        d_o = outputs[t].copy()
        d_o[np.argmax(targets[t])] -= 1
        d_W += np.dot(d_o, hidden_states[t].T)
        d_b_out += d_o
        d_h = np.dot(W.T, d_o) + d_h_next
        d_f = (1 - hidden_states[t] ** 2) * d_h
        d_b_hidden += d_f
        d_U += np.dot(d_f, inputs[t].T)
        if t > 0:
            d_V += np.dot(d_f, hidden_states[t - 1].T)
        d_h_next = np.dot(V.T, d_f)
    grads = d_U, d_V, d_W, d_b_hidden, d_b_out
    return loss, grads
"""


def found_in(tmp_path, text):
    path = tmp_path / "rnn.py"
    path.write_text(text)
    return find(path)


@pytest.mark.parametrize("mistaken", ["", "slope"])
def test_a_state_that_the_backward_pass_is_not_given_is_0(tmp_path, mistaken):
    """Also where something else is wrong: two faults would be said where there is one."""
    wrong = NETWORK.replace("hidden_states[t] ** 2)", "np.tanh(hidden_states[t]) ** 2)")
    found = found_in(tmp_path, wrong if mistaken else NETWORK)
    assert "0.0 * draw" in found.recipe.setup
    assert "The initial state is 0, as the" in " ".join(found.notes)
    assert ("is not given it" in " ".join(found.notes)) == bool(mistaken)
    assert len(found.recipe.parameters) == 5  # with `b_hidden`, which is no state


def test_a_state_that_it_is_given_stays_as_it_was_drawn(tmp_path):
    text = NETWORK.replace("hidden_states = [], []", "hidden_states = [], [hidden_state]")
    text = text.replace("hidden_states[t]", "hidden_states[t + 1]").replace("[t - 1]", "[t]")
    text = text.replace("        if t > 0:\n            d_V", "        d_V")
    found = found_in(tmp_path, text.replace("[t + 1] ** 2)", "[t + 1])"))
    assert "0.3 * draw" in found.recipe.setup
    assert "The initial state is 0" not in " ".join(found.notes)


TWO_ALIKE = """
import numpy as np


class Gated:
    def __init__(self, units):
        draw = np.random.RandomState(3).randn
        self.W_f, self.W_i = draw(units, units) * 0.5, draw(units, units) * 0.5

    def forward(self, xs):
        self.hs, self.gs, self.xs = [np.zeros(len(self.W_f))], [], xs
        for x in xs:
            self.gs.append(np.tanh(self.W_i @ x))
            self.hs.append(np.tanh(self.W_f @ self.hs[-1] + self.gs[-1]))
        return self.hs[-1]

    def BPTT(self, h, y):
        dW_f, dW_i, dh = np.zeros_like(self.W_f), np.zeros_like(self.W_i), h - y
        for t in reversed(range(len(self.xs))):
            dz = dh * (1 - self.hs[t + 1] ** 2)
            dW_f += np.outer(dz, self.hs[t])
            dW_i += np.outer(dz * (1 - self.gs[t] ** 2), self.xs[t])
            dh = self.W_f.T @ dz
        grads = [dW_i, dW_f]
        return self.hs[-1], grads
"""


def test_gradients_in_a_list_are_paired_by_the_names_that_it_is_made_of(tmp_path):
    """By their order they would be exchanged, and a right network be called wrong."""
    path = tmp_path / "gated.py"
    path.write_text(TWO_ALIKE)
    lines = (
        "net = Gated(4); x = np.random.randn(3, 4); y = np.random.randn(4); "
        "h = net.forward(x); loss = 0.5 * np.sum((h - y) ** 2); h, grads = net.BPTT(h, y)"
    )
    found = find(path, setup=lines)
    assert verdict(found) == "agree"
