"""A step's backward pass that is written by hand, beside the derived one."""

import numpy as np
import pytest

import throughtime as tt
from derived_cells import CELLS, lstm


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward(x, h, c, W, U, b):
    z = W @ x + U @ h + b
    H = len(h)
    i, f, g, o = (
        sigmoid(z[:H]),
        sigmoid(z[H : 2 * H]),
        np.tanh(z[2 * H : 3 * H]),
        sigmoid(z[3 * H :]),
    )
    c_new = f * c + i * g
    return o * np.tanh(c_new), c_new, (x, h, c, W, U, i, f, g, o, c_new)


def backward(mistake=""):
    """A hand-written backward pass with one or several mistakes."""

    def run(dh, dc, cache):
        x, h, c, W, U, i, f, g, o, c_new = cache
        do = dh * np.tanh(c_new)
        through = dh * o * (1 if "slope" in mistake else 1 - np.tanh(c_new) ** 2)
        dc = through if "carousel" in mistake else dc + through
        di, df, dg = dc * g, dc * (c_new if "current" in mistake else c), dc * i
        dzf = df * (1 if "sigma" in mistake else f * (1 - f))
        slope = np.tanh(g) if "activated" in mistake else g
        dzg = dg * (1 - slope**2)
        dz = np.concatenate([di * i * (1 - i), dzf, dzg, do * o * (1 - o)])
        gates = {"gate": i}.get("gate" if "gate" in mistake else "", f)
        dU = np.outer(dz, h) * (-1 if "sign" in mistake else 1)
        return W.T @ dz, U.T @ dz, dc * gates, np.outer(dz, x), dU, dz

    return run


EDITED = ("indrnn", "sru", "mgu", "coupled_lstm", "slstm")


def test_a_right_step_agrees():
    found = tt.derive(lstm).compare(backward(), forward=forward)
    assert found.agrees
    assert not found.edits
    assert list(found.differences) == ["dx", "dh", "dc", "dW", "dU", "db"]
    assert str(found).startswith("AGREE\n    dx  agrees")


@pytest.mark.parametrize(
    ("mistake", "derived", "instead"),
    [
        ("slope", "(1 - tanh_c ** 2)", "dc = dc_next + dh * sigmoid_o"),
        ("carousel", "dc = dc_next + dh", "dc = dh * sigmoid_o * (1 - tanh_c ** 2)"),
        ("current", "df = dc * c_before", "df = dc * c * sigmoid_f * (1 - sigmoid_f)"),
        ("sigma", "df = dc * c_before", "df = dc * c_before"),
        ("gate", "dc_before = dc * sigmoid_f", "dc_before = dc * sigmoid_i"),
        ("activated", "da = dc * sigmoid_i", "da = dc * sigmoid_i * (1 - np.tanh(tanh_a) ** 2)"),
        ("sign", "dU += np.outer(dz, h_before)", "dU += -np.outer(dz, h_before)"),
    ],
)
def test_a_mistake_is_a_line_of_the_derivation(mistake, derived, instead):
    found = tt.derive(lstm).compare(backward(mistake), forward=forward)
    assert not found.agrees
    (edit,) = found.edits
    assert derived in edit.line
    assert edit.instead == instead
    assert f"yours is: {instead}" in str(found)


def test_two_mistakes_are_two_lines():
    found = tt.derive(lstm).compare(backward("gate sign"), forward=forward)
    assert {edit.instead.split(" ")[0] for edit in found.edits} == {"dc_before", "dU"}


def test_what_no_small_edit_gives_is_said():
    found = tt.derive(lstm).compare(lambda x, h, c, W, U, b, dh, dc: {"dc": np.cos(dc)})
    assert found.differences.keys() == {"dc"}
    assert "No small edits of the derived step give these gradients." in str(found)


@pytest.mark.parametrize(
    ("step", "options", "message"),
    [
        (lambda dh, q: 0, {}, r"backward: expected arguments of x, h, c, .*got q; give forward="),
        (lambda dh, dc, x: (1, 2), {}, r"backward: expected a mapping, or 6 arrays: dx, dh.*got 2"),
        (lambda dh, dc, x: {"dw": x}, {}, r"backward: expected a mapping from dx.*got \['dw'\]"),
        (lambda dh, dc, x: {"dW": x}, {}, r"backward: dW: expected \(12, 2\), got \(2,\)"),
    ],
)
def test_what_cannot_be_compared(step, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tt.derive(lstm).compare(step, **options)


@pytest.mark.parametrize("name", sorted(set(CELLS) - {"lif"}))
def test_the_derived_step_of_every_cell_agrees_with_itself_and_its_edits_are_found(name):
    derivation = tt.derive(CELLS[name])
    space = {}
    exec(derivation.numpy, space)
    step, back = space[f"{name}_step"], space[f"{name}_step_backward"]
    trace = derivation.backward.trace
    states, parameters = list(trace.states), list(trace.parameters)
    arguments = [trace.inputs.name, *states, *parameters]

    def made(edit):
        def run(given):
            values, arriving = given
            gradient = [np.zeros(np.shape(values[p])) for p in parameters]
            kept = step(*(values[n] for n in arguments))[-1]
            own = [values[n] for n in parameters]
            before = [values[n] for n in states]
            *dstates, dx = back(*arriving, values[trace.inputs.name], *before, kept, *own, gradient)
            return edit([dx, *dstates, *gradient])

        return run

    def called(edit):
        names = ", ".join([*arguments, *(f"d{n}" for n in states)])
        values = "{" + ", ".join(f"'{n}': {n}" for n in arguments) + "}"
        arriving = "[" + ", ".join(f"d{n}" for n in states) + "]"
        local = {"run": made(edit)}
        exec(f"def f({names}): return run(({values}, {arriving}))", local)
        return local["f"]

    assert derivation.compare(called(lambda found: found)).agrees
    if name not in EDITED:
        return
    last = len(arguments) - 1
    wrong = derivation.compare(
        called(lambda found: [-g if k == last else g for k, g in enumerate(found)])
    )
    assert len(wrong.edits) == 1
