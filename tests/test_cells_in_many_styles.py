"""Steps as people write them: each derived, run, printed as NumPy and C, or refused in words."""

import copy
import pickle

import numpy as np
import pytest

import test_equations as printed
import throughtime as tt
from derived_cells import CELLS, made

V = "v = W @ x + U @ h + b\n"
STYLES = {
    "a constant array": "return np.tanh(W @ x + U @ h + b) * np.array([1.0, 0.0, 2.0])",
    "a constant matrix": "return np.tanh(np.eye(3) @ h + W @ x + U @ b)",
    "a mask of minus infinity": (
        "v = np.where(np.arange(len(h)) < 2, W @ x + U @ h, -np.inf)\nreturn tt.softmax(v) + b * h"
    ),
    "a local called dh": "dh = np.tanh(W @ x + U @ h + b) - h\nreturn h + 0.1 * dh",
    "locals called as what is printed": (
        "dx = np.tanh(W @ x + U @ h + b)\nh_before = dx * h\nkept = h_before + h\nreturn kept * dx"
    ),
    "locals called as functions": (
        "sigmoid = tt.sigmoid(W @ x + U @ h + b)\n"
        "tanh = np.tanh(sigmoid * h)\nreturn tanh * sigmoid"
    ),
    "a condition divided": V + "return (v > 0) / 2 * v",
    "the mean of a condition": V + "return np.mean(v > 0) * v",
    "and, or, not": V + "return np.where((v > 0) & (v < 1) | ~(h > 0), v, 0.1 * v)",
    "a condition as numbers": V + "return (v > 0).astype(float) * v",
    "the absolute value": V + "return v / (1 + abs(v)) + v.min()",
    "the largest of each column": "return np.tanh(np.stack([W @ x, U @ h, b]).max(axis=0))",
    "softmax of each row": "return tt.softmax(np.outer(W @ x, h) + U) @ h + b",
    "logsumexp of each row": "return tt.logsumexp(np.outer(W @ x, h) + U) + b",
    "ddof": V + "return (v - v.mean()) / v.std(ddof=1)",
    "rows": "return np.tanh(x @ W.T + h @ U.T + b)",
}


def defined(body, names="x, h, W, U, b", **shapes):
    space = {"np": np, "tt": tt}
    exec(f"def step({names}):\n" + "\n".join(f"    {line}" for line in body.split("\n")), space)
    return tt.cell(**(shapes or {"W": "H I", "U": "H H", "b": "H"}))(space["step"])


MADE = {name: defined(body) for name, body in STYLES.items()}
MADE["a state that stays"] = defined("return np.tanh(W @ x + h), c", "x, h, c, W", W="H I", c="2")
MADE["a number called dt"] = defined(
    "dh = np.tanh(W @ x) - h\nreturn h + dt * dh", "x, h, W, dt", W="H I", dt=""
)
MADE["an option with a default"] = defined(
    "return np.tanh(W @ x + (rate if leaky else 0) * h)",
    "x, h, W, rate=0.5, *, leaky=True",
    W="H I",
)


@pytest.mark.parametrize("name", MADE)
def test_it_is_the_step_and_its_derivative(name, monkeypatch):
    cell, rng = made(MADE[name]), np.random.default_rng(3)
    p = {n: 0.6 * rng.standard_normal(s) for n, s in cell.shapes().items()}
    x = rng.standard_normal((1, 1, 3))
    before = {n: rng.standard_normal((1, k)) for n, k in cell.state_sizes.items()}
    outputs, _, _ = cell.forward(p, x, before)
    own = cell.definition.step(x[0, 0], *(a[0] for a in before.values()), *p.values())
    own = own[0] if isinstance(own, tuple) else own
    np.testing.assert_allclose(outputs[0, 0], own, rtol=1e-12)
    assert tt.derive(cell).agrees
    assert tt.derive(cell).latex
    monkeypatch.setitem(printed.DEFINED, name, MADE[name])
    printed.test_the_printed_numpy_runs_and_gives_every_gradient(name)
    single = {n: a.astype("f4") for n, a in p.items()}
    _, _, tape = cell.forward(single, x.astype("f4"))
    assert all(array.dtype == np.float32 for array in tape.kept.values())


@pytest.mark.skipif(printed.COMPILER is None, reason="no C compiler")
def test_the_printed_c_gives_every_gradient(tmp_path, monkeypatch):
    monkeypatch.setattr(printed, "DEFINED", MADE)
    printed.test_the_printed_c_compiles_and_gives_every_gradient(tmp_path)


REFUSED = {
    "a name that is not known": ("return h + W @ x + y", "line 2: NameError: name 'y'"),
    "an attribute": ("return h.foo + W @ x", r"\.foo of a value is not known"),
    "a remainder": ("return h % 2 + W @ x", "TypeError: unsupported operand"),
    "recursion": ("return step(x, h, W)", "RecursionError"),
    "a plain array": ("return np.array(h) + W @ x", "np.concatenate or np.stack"),
    "an array in place": ("z = np.zeros(3)\nz += W @ x\nreturn z + h", "changed in place"),
    "no parts": ("return np.split(h, 0)[0] + W @ x", "into 0"),
    "and of values": ("return (h & h) + W @ x", "compare them"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_its_line(case):
    body, words = REFUSED[case]
    with pytest.raises(tt.EquationError, match=words):
        defined(body, "x, h, W", W="H I")(2, 3)


def test_what_else_is_refused_in_words():
    with pytest.raises(tt.EquationError, match="a value of parameters alone"):
        defined("return np.tanh(W @ x + c), b", "x, h, c, W, b", W="H I", b="H")(2, 3)
    with pytest.raises(tt.EquationError, match="the input must be a vector"):
        defined("return h * x[0]", "x, h", x="2 H")(2, 3)
    with pytest.raises(TypeError, match="with parentheses"):
        tt.cell(lambda x, h: x + h)
    assert tt.cell()(lambda x, h: x + h).__name__ == "cell"  # code is printed with it


def test_a_network_is_copied_and_a_cell_pickled():
    cell = tt.cell(W="H I")(lambda x, h, W: np.tanh(W @ x + h))(3, 4)
    net = tt.Network([cell, tt.Dense(4, 2)], loss=tt.MeanSquaredError(), dtype="float64")
    inputs, targets = np.ones((3, 1, 3)), np.zeros((3, 1, 2))
    loss = net.loss_and_gradient(inputs, targets)[0]
    assert copy.deepcopy(net).loss_and_gradient(inputs, targets)[0] == loss
    assert pickle.loads(pickle.dumps(small)) is small
    assert pickle.loads(pickle.dumps(small(3, 4))) == small(3, 4)


@tt.cell(W="H I")
def small(x, h, W):
    return np.tanh(W @ x + h)


def test_class_indices_may_be_a_state():
    cell = made(CELLS["qrnn"])
    classes = np.array([[0, 2], [1, 1], [2, 0]])
    p = {n: np.ones(s) / 3 for n, s in cell.shapes().items()}
    one, _, _ = cell.forward(p, classes)
    other, _, _ = cell.forward(p, np.eye(3)[classes])
    np.testing.assert_array_equal(one, other)


def test_it_reads_as_one_writes_it():
    text = {name: tt.derive(CELLS[name]).text for name in ("liquid", "layer_norm_lstm", "mlstm")}
    assert "h_t = (h_{t−1} + 0.1 f ⊙ A) / s_1" in text["liquid"]
    assert "δtau = −Σ_t s_3 ⊙ σ(tau)" in text["liquid"]
    assert "√(mean(a²) + 10⁻⁵)" in text["layer_norm_lstm"]
    assert "sum(sum(" not in text["mlstm"]
    assert "z = W x_t + U Mᵀ weights + b" in tt.derive(CELLS["attention"]).text
    assert (
        "(2 − tanh_v²)"
        in tt.derive(defined("v = W @ x + h\nreturn np.tanh(v) + v", "x, h, W", W="H I")).text
    )
