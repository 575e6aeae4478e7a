"""Layouts that are guessed: of networks as people write them, each with its own forward pass."""

import re
from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants import mutants
from throughtime.diagnosis.mutants.arrangements import arrangements
from throughtime.diagnosis.mutants.data_readings import Readings
from throughtime.diagnosis.mutants.gate_names import groupings, orders_by_name
from throughtime.diagnosis.mutants.layout import Guess
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.nearest_layout import other_sizes

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def each_test_draws_the_same():
    RNG.bit_generator.state = START


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(y):
    p = np.exp(y - y.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def drawn(size=0.5, **shapes):
    return {name: size * RNG.standard_normal(shape) for name, shape in shapes.items()}


# --- networks with other people's names, axes and losses ---
# Each gives its parameters, its loss, inputs and targets as they hold them, and what else is known.


def character_lstm(size=0.5):
    """One character after the other, one matrix a gate over [h, x], states that are carried on."""
    names = dict.fromkeys(("Wf", "Wi", "Wcc", "Wo"), (4, 9)) | {"Wy": (5, 4)}
    names |= dict.fromkeys(("bf", "bi", "bcc", "bo"), (4, 1)) | {"by": (5, 1)}
    p, (xs, ys) = drawn(size, **names), RNG.integers(5, size=(2, 6))
    h0, c0 = 0.5 * RNG.standard_normal((2, 4, 1))

    def loss():
        h, c, total = h0, c0, 0.0
        for x, y in zip(xs, ys, strict=True):
            z = np.vstack([h, np.eye(5)[:, [x]]])
            f, i, o = (sigmoid(p[f"W{k}"] @ z + p[f"b{k}"]) for k in "fio")
            c = f * c + i * np.tanh(p["Wcc"] @ z + p["bcc"])
            h = o * np.tanh(c)
            total += -np.log(softmax((p["Wy"] @ h + p["by"]).T)[0, y])
        return total

    return p, loss, list(xs), list(ys), {"h0": h0, "c0": c0}


def words_for_gates():
    """Gates by words, cells of h, c = o ⊙ c, and a mean over steps and over the vocabulary."""
    gates = ("forget_gate", "input_gate", "candidate", "output_gate")
    p = drawn(**{f"weight_{k}": (7, 3) for k in gates}, W=(3, 4), b=(1, 4))
    p |= drawn(**{f"bias_{k}": (1, 3) for k in gates})
    xs, ys = np.eye(4)[RNG.integers(4, size=6)], np.eye(4)[RNG.integers(4, size=6)]

    def loss():
        h, c, terms = np.zeros((1, 3)), np.zeros((1, 3)), []
        for x, y in zip(xs, ys, strict=True):
            z = np.hstack([x[None], h])
            f, i, a, o = (z @ p[f"weight_{k}"] + p[f"bias_{k}"] for k in gates)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(a)
            h = sigmoid(o) * c
            terms.append(np.mean(-y * np.log(softmax(h @ p["W"] + p["b"]))))
        return np.mean(terms)

    return p, loss, xs[..., None], ys[..., None], {}


def batch_first_gru():
    """Inputs (B, T, I), one answer a sequence, log(p + ε), and W held in the other way than U."""
    p = drawn(Wzx=(4, 2), Wzh=(4, 4), Wrx=(4, 2), Wrh=(4, 4), Whx=(4, 2), Whh=(4, 4))
    p = {k: w if k.endswith("h") else w.T.copy() for k, w in p.items()}
    p |= drawn(bz=4, br=4, bh=4, **{"out.weight": (3, 4), "out.bias": 3})
    xs, ys = RNG.standard_normal((2, 5, 2)), RNG.integers(3, size=2)

    def loss():
        h = np.zeros((2, 4))
        for x in xs.swapaxes(0, 1):
            z = sigmoid(x @ p["Wzx"] + h @ p["Wzh"].T + p["bz"])
            r = sigmoid(x @ p["Wrx"] + h @ p["Wrh"].T + p["br"])
            n = np.tanh(x @ p["Whx"] + (r * h) @ p["Whh"].T + p["bh"])
            h = (1 - z) * h + z * n
        shares = softmax(h @ p["out.weight"].T + p["out.bias"])
        return -np.log(shares[np.arange(2), ys] + 1e-6).mean()

    return p, loss, xs, ys, {}


def series():
    """One number in, one number out, no biases, vectors for matrices, half a squared error of σ."""
    p = drawn(w_in=4, w_rec=(4, 4), w_out=4)
    xs, ys = RNG.standard_normal(7), RNG.random(7)

    def loss():
        h, total = np.zeros(4), 0.0
        for x, y in zip(xs, ys, strict=True):
            h = np.tanh(p["w_in"] * x + p["w_rec"] @ h)
            total += 0.5 * (sigmoid(p["w_out"] @ h) - y) ** 2
        return total

    return p, loss, xs, ys, {}


def biases_in_the_matrix():
    """A GRU, all of it in one matrix over [1, x, h], an initial state that is learned, Σ w h."""
    p = drawn(WGRU=(1 + 3 + 4, 12), h0=(2, 4))
    xs, weights = RNG.standard_normal((5, 2, 3)), RNG.standard_normal((5, 2, 4))

    def loss():
        h, total = p["h0"], 0.0
        z_of, r_of, n_of = np.split(p["WGRU"], 3, axis=1)
        for x, w in zip(xs, weights, strict=True):
            seen = np.hstack([np.ones((2, 1)), x, h])
            z, r = sigmoid(seen @ z_of), sigmoid(seen @ r_of)
            n = np.tanh(np.hstack([seen[:, :4], r * h]) @ n_of)
            h = z * h + (1 - z) * n
            total += (w * h).sum()
        return total

    return p, loss, xs, weights, {}


def stacked_rnn():
    """Two layers with numbers in their names, above an embedding, (B, T) classes."""
    p = drawn(embed=(5, 3), **{"W_xa.0": (3, 4), "W_xa.1": (4, 4), "W_ay.0": (4, 5)})
    p |= drawn(**{"W_aa.0": (4, 4), "W_aa.1": (4, 4), "b_a.0": (1, 4), "b_a.1": (1, 4)})
    p |= drawn(**{"b_y.0": (1, 5)})
    xs, ys = RNG.integers(5, size=(2, 2, 6))

    def loss():
        one = two = np.zeros((2, 4))
        total = 0.0
        for t in range(6):
            x = p["embed"][xs[:, t]]
            one = np.maximum(x @ p["W_xa.0"] + one @ p["W_aa.0"] + p["b_a.0"], 0)
            two = np.maximum(one @ p["W_xa.1"] + two @ p["W_aa.1"] + p["b_a.1"], 0)
            shares = softmax(two @ p["W_ay.0"] + p["b_y.0"])
            total -= np.log(shares[np.arange(2), ys[:, t]]).sum() / 12
        return total

    return p, loss, xs, ys, {}


def peepholes_by_gate():
    """f = 1 − i, peepholes of the two gates that are left, columns (I, B, T), and no output."""
    p = drawn(Wz=(3, 2), Wi=(3, 2), Wo=(3, 2), Rz=(3, 3), Ri=(3, 3), Ro=(3, 3))
    p |= drawn(pi=3, po=3, bz=3, bi=3, bo=3)
    xs, ys = RNG.standard_normal((2, 4, 5)), RNG.standard_normal((3, 4, 5))

    def loss():
        h, c, total = np.zeros((3, 4)), np.zeros((3, 4)), 0.0
        for t in range(5):
            z, i, o = (
                p[f"W{k}"] @ xs[..., t] + p[f"R{k}"] @ h + p[f"b{k}"][:, None] for k in "zio"
            )
            i = sigmoid(i + p["pi"][:, None] * c)
            c = i * np.tanh(z) + (1 - i) * c
            h = sigmoid(o + p["po"][:, None] * c) * np.tanh(c)
            total += ((h - ys[..., t]) ** 2).sum()
        return total

    return p, loss, xs, ys, {}


def first_unit_and_given_head(head=None):
    """An LSTM under test alone: the loss sees its first unit, or a head that is no parameter."""
    p = drawn(**{f"lstm.{k}": (4, 6) for k in "abcd"}, **{f"bias.{k}": 4 for k in "abcd"})
    xs, ys = RNG.standard_normal((6, 2)), RNG.standard_normal(6)
    V = np.eye(1, 4) if head is None else head

    def loss():
        h, c, total = np.zeros(4), np.zeros(4), 0.0
        for x, y in zip(xs, ys, strict=True):
            a, b, o, f = (p[f"lstm.{k}"] @ np.hstack([x, h]) + p[f"bias.{k}"] for k in "abcd")
            c = sigmoid(f) * c + sigmoid(b) * np.tanh(a)
            h = sigmoid(o) * np.tanh(c)
            total += np.abs(V @ h - y).sum()
        return total

    return p, loss, xs, ys, {} if head is None else {"head": V}


NETWORKS = {
    "character LSTM": character_lstm,
    "character LSTM with small weights": lambda: character_lstm(0.01),
    "gates by words": words_for_gates,
    "batch first": batch_first_gru,
    "one series": series,
    "biases in the matrix": biases_in_the_matrix,
    "two layers": stacked_rnn,
    "peepholes": peepholes_by_gate,
    "first unit": first_unit_and_given_head,
    "given head": lambda: first_unit_and_given_head(np.array([[0.5, -1, 2, 0.3]])),
}


def target_of(p, loss, xs, ys, known, steps=None):
    layout = tt.layouts.guess(xs, ys, **known)
    return tt.Target(p, loss, dict, layout=layout, steps=steps)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_recognised_and_its_gradient_is_that_of_the_loss(name):
    p, loss, *rest = NETWORKS[name]()
    found = model_from_target(target_of(p, loss, *rest))
    assert found.model is not None, found.notes
    assert found.notes[0].startswith("The layout was guessed, and has your loss:")
    gradient, along, step = (
        found.model.gradient(),
        drawn(1, **{k: w.shape for k, w in p.items()}),
        1e-5,
    )
    kept, values = {k: w.copy() for k, w in p.items()}, []
    for sign in (1, -1):
        for k, w in p.items():
            w[...] = kept[k] + sign * step * along[k]
        values.append(loss())
    slope = sum(float((gradient[k] * along[k]).sum()) for k in p)
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_the_order_of_gates_is_told_where_all_weights_are_small():
    """i and o of the first step are exchangeable there, to all digits that a loss has."""
    p, loss, *rest = character_lstm(1e-4)
    found = model_from_target(target_of(p, loss, *rest))
    assert "{'f': 'Wf', 'i': 'Wi', 'g': 'Wcc', 'o': 'Wo'}" in found.notes[0]


def test_the_steps_of_a_target_tell_which_axis_is_time():
    p = drawn(W=(4, 3), U=(4, 4), V=(2, 4))
    xs, ys = RNG.standard_normal((5, 5, 3)), RNG.standard_normal((5, 5, 2))

    def loss():
        h, total = np.zeros((5, 4)), 0.0
        for t in range(5):
            h = np.tanh(xs[:, t] @ p["W"].T + h @ p["U"].T)
            total += ((h @ p["V"].T - ys[:, t]) ** 2).sum()
        return total

    found = model_from_target(target_of(p, loss, xs, ys, {}, steps=5))
    np.testing.assert_array_equal(found.model.data.x, xs.swapaxes(0, 1))


def test_steps_may_run_from_the_last_to_the_first():
    """As when binary numbers are added from their last digit on."""
    p = drawn(1, W=(3, 2), U=(3, 3), V=(1, 3))
    numbers, total = RNG.integers(2, size=(2, 6)), RNG.integers(2, size=6)

    def loss():
        h, errors = np.zeros(3), 0.0
        for t in reversed(range(6)):
            h = sigmoid(p["W"] @ numbers[:, t] + p["U"] @ h)
            errors += ((sigmoid(p["V"] @ h) - total[t]) ** 2).sum()
        return errors

    found = model_from_target(target_of(p, loss, numbers, total, {}))
    assert found.model is not None, found.notes
    assert found.notes[0].endswith("Its steps run from the last of your inputs to the first.")


# --- what the nearest layout differs by ---


def rnn_with(total):
    """An RNN whose loss is made from the sum of its squared errors."""
    p = drawn(Wxh=(4, 2), Whh=(4, 4), bh=4, Why=(3, 4), by=3)
    xs, ys = RNG.standard_normal((6, 2)), RNG.standard_normal((6, 3))

    def loss():
        h, errors = np.zeros(4), 0.0
        for x, y in zip(xs, ys, strict=True):
            h = np.tanh(p["Wxh"] @ x + p["Whh"] @ h + p["bh"])
            errors += ((p["Why"] @ h + p["by"] - y) ** 2).sum()
        return total(errors, p)

    return model_from_target(target_of(p, loss, xs, ys, {}))


def test_a_factor_is_taken_and_named():
    found = rnn_with(lambda errors, p: errors * 36)
    assert found.model.loss.scale == pytest.approx(36)
    assert "Your loss is 36 times that of rnn(order='h', W='Wxh'," in found.notes[0]
    assert found.notes[0].endswith(": T² with T = 6?")


def test_an_l2_term_is_taken():
    found = rnn_with(lambda e, p: e + 0.03 * sum((w**2).sum() for w in p.values() if w.ndim == 2))
    assert found.model.decay == pytest.approx(0.06)
    assert "it has an L2 term, 0.03 Σ w²" in found.notes[0]


def test_a_loss_of_single_precision_is_recognised():
    found = rnn_with(lambda errors, p: float(np.float32(errors)))
    assert found.rounded
    assert re.search(r"to within \de-08 of it: is something kept in float32\?", found.notes[0])


def test_a_constant_is_said():
    found = rnn_with(lambda errors, p: errors + 0.75)
    assert found.model is None
    assert "At every point your loss is that of rnn(" in found.notes[0]
    assert found.notes[0].endswith("plus 0.75.")


def test_that_nothing_is_near_is_said_with_the_number_of_tries():
    found = rnn_with(lambda errors, p: errors**1.5 + (p["bh"] ** 3).sum())
    assert found.model is None
    assert re.search(
        r"No layout that was tried .* \(\d+ were tried\)\. The likeliest reading, "
        r"rnn\(order='h', W='Wxh', .*\), has the loss [\d.]+; yours is [\d.]+\.$",
        found.notes[0],
    )


def test_data_that_fit_no_network_are_said():
    p, loss, xs, ys, _ = stacked_rnn()
    found = model_from_target(target_of(p, loss, xs + 10, ys, {}))
    assert "takes inputs (2, 6) to targets (2, 6) (0 were tried)." in found.notes[0]


def test_a_declared_layout_is_told_the_factor_too():
    p = drawn(Wx=(4, 2), Wh=(4, 4), b=4)
    xs, ys = RNG.standard_normal((6, 1, 2)), RNG.standard_normal((6, 1, 4))
    layout = tt.layouts.rnn(xs, ys, loss="squared_error")
    target = tt.Target(p, lambda: 7 * layout.model(p).value(), dict, layout=layout)
    note = model_from_target(target).notes[0]
    assert "Neither another reduction nor another order" in note
    assert "Your loss is 7 times that of rnn(" in note


def test_sizes_make_up_a_factor():
    words = dict(other_sizes(T=7, B=1, O=3))
    assert words["T / O"] == pytest.approx(7 / 3)
    assert words["1 / (T · O)"] == pytest.approx(1 / 21)
    assert not any("B" in name for name in words)


# --- names ---


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("Wf Wi Wc Wo Wy bf bi bc bo by", {("Wf", "Wi", "Wc", "Wo"), ("bf", "bi", "bc", "bo")}),
        ("W_hz W_hr W_hn W_xz W_xr W_xn", {("W_hz", "W_hr", "W_hn"), ("W_xz", "W_xr", "W_xn")}),
        ("W Wz Wr U Uz Ur", {("W", "Wz", "Wr"), ("U", "Uz", "Ur")}),
    ],
)
def test_names_that_differ_in_one_part_are_groups(names, expected):
    sizes = {"b": (4, 1), "W": (4, 6), "U": (4, 4)}
    shapes = {name: sizes[name[0]] for name in names.split()}
    shapes |= {"Wy": (3, 4), "by": (3, 1)} if "Wy" in names else {}
    shapes |= {name: (4, 4) for name in names.split() if name.startswith("W_h")}
    gates = max(len(group) for group in expected)
    found = [set(map(frozenset, one.groups)) for one in groupings(shapes, gates)]
    assert set(map(frozenset, expected)) in found


@pytest.mark.parametrize(
    ("kind", "letters", "keys", "order"),
    [
        ("LSTM", "ifgo", ("forget", "u", "can", "output"), "figo"),
        ("LSTM", "ifgo", ("f", "i", "c_tilde", "o"), "figo"),
        ("GRU", "rzn", ("update_gate", "reset_gate", "cand"), "zrn"),
        ("GRU", "rzn", ("z", "r", "hh"), "zrn"),
    ],
)
def test_the_order_that_names_speak_for_comes_first(kind, letters, keys, order):
    orders = orders_by_name(kind, letters, keys)
    assert orders[0] == order
    assert len(set(orders)) == len(orders) == {3: 6, 4: 24}[len(letters)]


def test_many_long_names_leave_few_arrangements():
    shapes = {"decoder.weight": (3, 8), "decoder.bias": (3,)}
    for layer in range(4):
        for gate in ("forget", "input", "cell", "output"):
            name = f"encoder.layers.{layer}.lstm.{{}}_{gate}_gate.weight"
            shapes[name.format("x")] = (8, 8 if layer else 5)
            shapes[name.format("h")] = (8, 8)
            shapes[name.format("bias")] = (8,)
    found = list(arrangements(shapes, Readings(np.zeros((6, 2, 5)), np.zeros((6, 2), int))))
    assert {one.kind for one in found} == {"LSTM"}
    assert {len(one.layers) for one in found} == {4}
    assert len(found) == 4  # either orientation of W and of U
    assert found[0].options["transposed"] == found[0].options["recurrent_transposed"]
    assert found[0].orders[0] == "figo"


def test_without_data_every_structure_is_listed_once():
    shapes = {"W": (4, 3), "U": (4, 4), "b": (4,), "V": (2, 4), "d": (2,)}
    found = [one.layout for one in Guess(None, None).structures(shapes)]
    seen = {(str(one.cell), one.W, one.U, one.V, one.recurrent_transposed) for one in found}
    assert len(seen) == len(found) == 8


# --- losses ---

LOSSES = [
    {"kind": "softmax", "outputs": "mean"},
    {"kind": "softmax", "epsilon": 1e-2},
    {"kind": "binary", "epsilon": 1e-2, "outputs": "mean"},
    {"kind": "weighted", "time": "mean", "outputs": "mean"},
    {"kind": "absolute_error", "activation": "softmax", "scale": 3.0},
    *({"kind": "squared_error", "activation": name, "half": name == "tanh"}
      for name in ("sigmoid", "tanh", "softmax")),
]  # fmt: skip


@pytest.mark.parametrize("options", LOSSES, ids=str)
def test_a_loss_has_its_derivative(options):
    loss, y = ModelLoss(**options), RNG.standard_normal((4, 2, 3))
    targets, along = RNG.random((4, 2, 3)), RNG.standard_normal((4, 2, 3))
    if loss.kind == "softmax":
        targets = targets / targets.sum(axis=-1, keepdims=True)
    weights = loss.weights(4, np.full(2, 4))
    _, dy = loss.evaluate(y, targets, weights)
    ahead, behind = (loss.evaluate(y + k * along, targets, weights)[0] for k in (1e-6, -1e-6))
    assert float((dy * along).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-7)


@pytest.mark.parametrize("kind", ["softmax", "squared_error", "weighted"])
def test_a_mean_over_outputs_is_a_third_of_the_sum(kind):
    y, targets = RNG.standard_normal((4, 1, 3)), np.eye(3)[RNG.integers(3, size=(4, 1))]
    mean, total = (ModelLoss(kind, outputs=word).errors(y, targets) for word in ("mean", "sum"))
    for one, other in zip(mean, total, strict=True):
        np.testing.assert_allclose(3 * one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_activation": "relu"}, "output_activation: expected one of identity, "),
        ({"output_activation": "tanh"}, "expected 'identity' with the loss 'softmax', got 'tanh'"),
        ({"loss": "squared_error", "epsilon": 1e-8}, "epsilon: expected 0 with the loss 'squared"),
    ],
)
def test_what_a_loss_lacks_is_refused_and_not_ignored(options, message):
    with pytest.raises(ValueError, match=message):
        tt.layouts.rnn(np.ones((4, 2)), np.zeros(4, int), **options)


# --- and what it is good for ---


@pytest.mark.parametrize("seed", [0, 6])
def test_a_fault_is_named_where_the_loss_has_an_epsilon(seed):
    """The derivative is that of log p, as everybody writes it, and a term is missing.

    With the second seed, all that looked like noise during the check is known to be rounding later.
    """
    RNG.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    p, loss, xs, ys, _ = batch_first_gru()
    layout = tt.layouts.guess(xs, ys)
    model = model_from_target(tt.Target(p, loss, dict, layout=layout)).model
    plain = model.with_loss(replace(model.loss, exact=False))
    (wrong,) = mutants(plain, among=["update_gate_term_missing"])
    report = tt.check(tt.Target(p, loss, lambda: wrong.gradient, layout=layout))
    assert [cause.fault for cause in report.causes] == ["update_gate_term_missing"]
    assert report.causes[0].confidence > 0.9


def test_a_declared_layout_may_be_batch_first():
    p, shape = drawn(Wx=(4, 2), Wh=(4, 4), b=4), {"loss": "squared_error"}
    xs, ys = RNG.standard_normal((3, 6, 2)), RNG.standard_normal((3, 6, 4))
    one = tt.layouts.rnn(xs, ys, batch_first=True, **shape).model(p)
    other = tt.layouts.rnn(xs.swapaxes(0, 1), ys.swapaxes(0, 1), **shape).model(p)
    assert one.value() == other.value()


def test_another_loss_is_named_where_outputs_are_activated():
    """An absolute error of σ(y) is printed, and half its square is descended."""
    p, xs, ys = drawn(Wx=(4, 2), Wh=(4, 4), V=(1, 4)), RNG.random((6, 2)), RNG.random((6, 1, 1))
    options = {"b": None, "head": "V", "output_activation": "sigmoid"}
    layout = tt.layouts.rnn(xs, ys, loss="absolute_error", **options)
    squared = tt.layouts.rnn(xs, ys, loss="half_squared_error", **options)
    target = tt.Target(
        p, lambda: layout.model(p).value(), lambda: squared.model(p).gradient(), layout=layout
    )
    causes = tt.check(target).causes
    assert [cause.fault for cause in causes] == ["different_loss"]
    assert causes[0].where == "δ of half a squared error"
