"""The small implementations: right ones are right, and each mistake is one."""

import ast
from pathlib import Path

import numpy as np
import pytest

import corpus as implementations
from corpus import CELLS, FAULTS, registry
from corpus.setting import Setting
from helpers import numerical_gradient, relative_error

SMALL = {"T": 4, "I": 2, "H": 3, "O": 3}
ENTRIES = implementations.catalogue()


def vector(arrays):
    return np.concatenate([np.asarray(a, float).ravel() for a in arrays.values()])


def gradient(target):
    if target.reset:
        target.reset()
    return {name: np.array(array, float) for name, array in target.gradient().items()}


def loss(target):
    if target.reset:
        target.reset()
    return float(np.sum(target.loss(), dtype=float))


def numerical(target, step):
    return {
        name: numerical_gradient(lambda: loss(target), array, step)
        for name, array in target.parameters.items()
    }


def apart(a, b):
    return relative_error(vector(a), vector(b))


def pair(entry, T):
    """The implementation with its mistake, and the same network without."""
    sizes = SMALL | {"T": T} | ({"B": 2} if entry.style != "gate_by_gate" else {})
    return [implementations.make(*entry, plain=plain, **sizes) for plain in (False, True)]


# --- without a mistake ---


@pytest.mark.parametrize("style", implementations.styles())
@pytest.mark.parametrize("cell", CELLS)
def test_right_ones_agree_with_central_differences(style, cell):
    for name, kind, variant in implementations.correct(style):
        if kind == cell:
            step = 2e-5 if "activation" in variant else 1e-3  # within a kink
            target = implementations.make(name, kind, **SMALL, **variant)
            assert apart(gradient(target), numerical(target, step)) < 1e-9, variant


def blocks(order, matrices):
    return np.concatenate([matrices[k] for k in order])


def as_torch(style, cell, p, H):
    """(W_ih, W_hh, b) in torch's order from a style's own parameters, and (V, c) of its head."""
    p = {name: array.astype(float) for name, array in p.items()}
    if style == "torch_function":
        return p["W_ih"], p["W_hh"], p["b_ih"], p["b_hh"], p["weight"], p["bias"]
    if style == "compiled":
        I = p["W"].shape[1] - H  # noqa: E741
        return p["W"][:, :I], p["W"][:, I:], p["b"], 0 * p["b"], p["V"], p["c"]
    if style == "concatenated":
        W, b = p["W1"].T, p["b1"]
        if cell == "LSTM":  # i f o g
            rows = np.r_[0 : 2 * H, 3 * H : 4 * H, 2 * H : 3 * H]
            W, b = W[rows], b[rows]
        return W[:, H:], W[:, :H], b, 0 * b, p["Wy"].T, p["by"]
    order = {"RNN": "h", "GRU": "rzh", "LSTM": "ifco"}[cell]
    W, U, b = (np.concatenate([p[letter + k] for k in order]) for letter in "WUb")
    return W, U, b[:, 0], 0 * b[:, 0], p["V"], p["c"][:, 0]


def torch_loss(torch, style, cell, s, parts):
    """The loss by torch's own modules; by hand where the reset gate acts before the product."""
    W_ih, W_hh, b_ih, *_, V, c = parts
    x, labels = torch.from_numpy(s.inputs()), torch.from_numpy(s.labels())
    if cell == "GRU" and style in ("concatenated", "gate_by_gate"):
        h, H, hs = torch.zeros(s.B, s.H, dtype=torch.float64), s.H, []
        for xt in x:
            a = xt @ W_ih.T + b_ih
            r, z = torch.sigmoid(a[:, : 2 * H] + h @ W_hh[: 2 * H].T).chunk(2, 1)
            n = torch.tanh(a[:, 2 * H :] + (r * h) @ W_hh[2 * H :].T)
            h = z * h + (1 - z) * n if style == "concatenated" else (1 - z) * h + z * n
            hs.append(h)
        hs = torch.stack(hs)
    else:
        module = getattr(torch.nn, cell)(s.I, s.H).double()
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        named = dict(zip(names, parts[:4], strict=True))
        hs, _ = torch.func.functional_call(module, named, (x,))
    return torch.nn.functional.cross_entropy((hs @ V.T + c).flatten(0, 1), labels.flatten())


@pytest.mark.parametrize("style", implementations.styles())
@pytest.mark.parametrize("cell", CELLS)
def test_right_ones_agree_with_autograd(style, cell):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    target = implementations.make(style, cell, **SMALL)
    B = 1 if style == "gate_by_gate" else 2
    s = Setting(cell, B=B, **SMALL)
    parts = as_torch(style, cell, target.parameters, s.H)
    tensors = [torch.tensor(part, requires_grad=True) for part in parts]
    value = torch_loss(torch, style, cell, s, tensors)
    assert float(value.detach()) == pytest.approx(loss(target), rel=1e-12)
    truth = torch.autograd.grad(value, tensors, allow_unused=True)
    ours = list(as_torch(style, cell, gradient(target), s.H))
    if style != "torch_function":  # one bias, not two
        ours, truth = ours[:3] + ours[4:], truth[:3] + truth[4:]
    for mine, theirs in zip(ours, map(np.asarray, truth), strict=True):
        assert np.linalg.norm(mine - theirs) <= 1e-9 * np.linalg.norm(theirs)


@pytest.mark.parametrize("style", implementations.styles())
@pytest.mark.parametrize("cell", CELLS)
def test_float32_is_float32_throughout_and_terms_add_up(style, cell):
    whole = implementations.make(style, cell, dtype="float32", **SMALL)
    terms = implementations.make(style, cell, dtype="float32", terms=True, **SMALL)
    assert np.asarray(whole.loss()).dtype == np.asarray(terms.loss()).dtype == np.float32
    assert np.asarray(whole.loss()).shape in ((), (1,))
    assert {a.dtype for a in whole.gradient().values()} == {np.dtype(np.float32)}
    assert loss(terms) == pytest.approx(loss(whole), rel=1e-6)
    double = implementations.make(style, cell, **SMALL)
    for name, array in whole.parameters.items():
        double.parameters[name][...] = array
    assert apart(gradient(whole), gradient(double)) < 3e-6


@pytest.mark.parametrize("style", implementations.styles())
def test_at_another_length_it_is_the_same_network(style):
    target = implementations.make(style, "LSTM", **SMALL)
    longer = target.at_length(9)
    assert longer.steps == 9
    for name, array in target.parameters.items():
        assert longer.parameters[name] is array
    again = longer.at_length(SMALL["T"])
    assert loss(again) == loss(target)
    assert loss(longer) != loss(target)


OURS = ("throughtime", "corpus", "benchmarks")


@pytest.mark.parametrize("style", registry.STYLES)
def test_a_style_shares_no_line_with_another_nor_with_the_engine(style):
    room = Path(registry.__file__).parent / style
    shared = {"throughtime.arrays", "throughtime.gradcheck", "corpus.setting"}
    for path in room.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith(OURS):
                own = node.module.startswith(f"corpus.{style}")
                assert own or node.module in shared, f"{path.name} imports {node.module}"


# --- with one ---


def test_there_are_enough_of_them():
    assert len({fault for _, _, fault in ENTRIES}) >= 30
    assert {style for style, _, _ in ENTRIES} == set(implementations.styles())
    assert {fault for _, _, fault in ENTRIES} <= set(FAULTS)
    for name in FAULTS:
        assert name.isidentifier()
        assert name == name.lower()


@pytest.mark.parametrize("style", implementations.styles())
@pytest.mark.parametrize("cell", CELLS)
def test_each_mistake_changes_the_gradient(style, cell):
    for entry in implementations.catalogue(style):
        if entry.cell != cell or FAULTS[entry.fault].shows_in == "harness":
            continue
        wrong, right = map(gradient, pair(entry, T=5))
        assert apart(wrong, right) > 1e-4, entry
        assert loss(pair(entry, T=5)[0]) == loss(pair(entry, T=5)[1])


@pytest.mark.parametrize("style", implementations.styles())
@pytest.mark.parametrize("cell", CELLS)
def test_what_a_single_step_hides_and_what_it_does_not(style, cell):
    for entry in implementations.catalogue(style):
        fault = FAULTS[entry.fault]
        if entry.cell != cell or fault.one_step is None or fault.shows_in == "harness":
            continue
        wrong, right = map(gradient, pair(entry, T=1))
        if fault.one_step:
            assert apart(wrong, right) < 1e-14, entry
        else:
            assert apart(wrong, right) > 1e-6, entry


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if FAULTS[e.fault].shows_in == "harness"], ids=str
)
def test_what_no_single_gradient_shows(entry):
    wrong, _ = pair(entry, T=4)
    before = {name: array.copy() for name, array in wrong.parameters.items()}
    first_loss, first, second, second_loss = (
        loss(wrong), gradient(wrong), gradient(wrong), loss(wrong)
    )  # fmt: skip
    moved = any((before[n] != a).any() for n, a in wrong.parameters.items())
    assert moved or apart(second, first) > 1e-4 or first_loss != second_loss


def test_several_at_once():
    names = ("averaged_over_steps", "wrong_sign")
    both = gradient(implementations.make("concatenated", "GRU", names, T=4))
    right = gradient(implementations.make("concatenated", "GRU", names, plain=True, T=4))
    assert apart(both, {name: -array / 4 for name, array in right.items()}) < 1e-14


# --- what is refused ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("numpy", "LSTM"), "style: expected one of gate_by_gate, concatenated, .* got 'numpy'"),
        (("concatenated", "lstm"), "cell: expected one of RNN, GRU, LSTM, got 'lstm'"),
        (("concatenated", "RNN", "dc_next_missing"), "faults of concatenated, RNN: .*'dc_next_mi"),
        (
            ("concatenated", "RNN", ("averaged_over_steps", "summed_over_steps")),
            "faults: expected time='sum', got summed_over_steps, which needs time='mean'",
        ),
    ],
)
def test_what_is_not_there_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        implementations.make(*arguments)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"time: expected 'sum' for averaged_over_steps, got 'mean"
    ):
        implementations.make("concatenated", "RNN", "averaged_over_steps", time="mean")
    with pytest.raises(ValueError, match=r"gate_by_gate: .* got batch"):
        implementations.make("gate_by_gate", "RNN", B=2)


def test_without_a_compiler_or_torch_a_style_is_left_out(monkeypatch):
    monkeypatch.setattr(registry, "which", lambda name: None)
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    registry._room.cache_clear()
    assert implementations.styles() == ("gate_by_gate", "concatenated")
    with pytest.raises(ValueError, match=r"got compiled: no C\+\+ compiler"):
        implementations.make("compiled", "RNN")
    with pytest.raises(ValueError, match="got torch_function: torch is not installed"):
        implementations.make("torch_function", "RNN")
