"""Layouts: arrays and blocks there and back, and the loss that a layout stands for."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus as implementations
import throughtime as tt
from benchmarks.diagnose.layouts import layout_of
from corpus import Setting
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants.model import BlockPlace, Placement

STYLES = implementations.styles()
VARIANTS = implementations.correct(*STYLES)


def total(value):
    return float(np.sum(np.asarray(value, dtype=float)))


def known(style, cell, **variant):
    """A correct implementation with its layout's model."""
    sizes = {"B": 1 if style == "gate_by_gate" else 2} | variant
    target = implementations.make(style, cell, **sizes)
    if target.reset:
        target.reset()
    return target, layout_of(style, Setting(cell, **sizes)).model(target.parameters)


@pytest.mark.parametrize(("style", "cell", "variant"), VARIANTS, ids=str)
def test_the_model_of_a_layout_has_its_loss_and_its_gradient(style, cell, variant):
    target, model = known(style, cell, **variant)
    assert model.value() == pytest.approx(total(target.loss()), rel=1e-13)
    if target.reset:
        target.reset()
    for name, ours in model.gradient().items():
        theirs = target.gradient()[name] if target.reset is None else None
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-14)


# --- there and back ---

HELD = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["lstm", "gru", "rnn"]),
        "transposed": st.booleans(),
        "combined": st.sampled_from([False, "xh", "hx"]),
        "apart": st.booleans(),
        "units": st.integers(1, 4),
        "features": st.integers(1, 4),
        "biases": st.integers(0, 2),
        "head": st.booleans(),
        "directions": st.integers(1, 2),
        "projection": st.sampled_from([None, 1, 3]),
        "ragged": st.booleans(),
        "layers": st.integers(1, 2),
        "data": st.data(),
    }
)


def held_so(
    kind,
    transposed,
    combined,
    apart,
    units,
    features,
    biases,
    head,
    directions,
    projection,
    ragged,
    layers,
    data,
):
    """A layout drawn at random, and arrays that fit it."""
    letters = {"lstm": "ifgo", "gru": "rzn", "rnn": "h"}[kind]
    order = "".join(data.draw(st.permutations(letters)))
    gates, O, T, B = len(order), 3, 4, 2  # noqa: E741
    suffix = "{layer}{direction}{gate}" if apart else "{layer}{direction}"
    size = projection if projection and kind == "lstm" else units
    names = {"W": "W" + suffix, "U": "U" + suffix, "b": None, "second_bias": None}
    names["b"] = "b" + suffix if biases else None
    names["second_bias"] = "c" + suffix if biases > 1 else None
    rng = np.random.default_rng(0)
    rows = units if apart else gates * units
    arrays = {}
    for layer, direction in np.ndindex(layers, directions):
        inputs = features if layer == 0 else directions * size
        widths = {"W": inputs + size} if combined else {"W": inputs, "U": size}
        own = {"layer": layer, "direction": direction}
        for letter in order if apart else "-":
            for kind_of, width in widths.items():
                shape = (width, rows) if transposed else (rows, width)
                arrays[names[kind_of].format(**own, gate=letter)] = rng.normal(size=shape)
            for bias in ("b", "second_bias"):
                if names[bias]:
                    arrays[names[bias].format(**own, gate=letter)] = rng.normal(size=rows)
        if size != units:
            shape = (units, size) if transposed else (size, units)
            arrays[f"R{layer}{direction}"] = rng.normal(size=shape)
    if size != units:
        names["projection"] = "R{layer}{direction}"
    if head:
        arrays |= {"V": rng.normal(size=(O, directions * size)), "d": rng.normal(size=O)}
    layout = getattr(tt.layouts, kind)(
        rng.normal(size=(T, B, features)),
        rng.normal(size=(T, B, O if head else directions * size)),
        order=order,
        transposed=transposed,
        combined=combined,
        layers=layers,
        bidirectional=directions > 1,
        lengths=[4, 2] if ragged else None,
        head="V" if head else None,
        head_bias="d" if head else None,
        loss="squared_error",
        **names,
    )
    return layout, arrays


@settings(deadline=None, max_examples=60)
@given(HELD)
def test_arrays_become_blocks_and_blocks_arrays(drawn):
    layout, arrays = held_so(**drawn)
    placement = layout.placement({name: array.shape for name, array in arrays.items()})
    back = placement.tensors(placement.blocks(arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


@settings(deadline=None, max_examples=30)
@given(HELD)
def test_the_gradient_of_every_layout_is_that_of_its_loss(drawn):
    layout, arrays = held_so(**drawn)
    gradient, step = layout.model(arrays).gradient(), 1e-5
    rng = np.random.default_rng(1)
    along = {name: rng.normal(size=array.shape) for name, array in arrays.items()}
    ahead, behind = (
        layout.model({n: a + sign * step * along[n] for n, a in arrays.items()}).value()
        for sign in (1, -1)
    )
    slope = sum(float((gradient[name] * along[name]).sum()) for name in arrays)
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("cell_activation", ["tanh", "identity"])
def test_the_variants_of_an_lstm_have_the_gradient_of_their_loss(coupled, cell_activation):
    rng = np.random.default_rng(3)
    gates = 3 if coupled else 4
    arrays = {"W": rng.normal(size=(gates * 3, 5)) / 2, "b": rng.normal(size=gates * 3)}
    layout = tt.layouts.lstm(
        rng.normal(size=(5, 2)),
        rng.normal(size=(5, 1, 3)),
        W="W",
        combined="xh",
        coupled=coupled,
        cell_activation=cell_activation,
        loss="half_squared_error",
    )
    gradient, step = layout.model(arrays).gradient(), 1e-5
    for index in [(0, 0), (4, 3), (8, 4)]:
        values = []
        for sign in (1, -1):
            moved = {name: array.copy() for name, array in arrays.items()}
            moved["W"][index] += sign * step
            values.append(layout.model(moved).value())
        slope = (values[0] - values[1]) / (2 * step)
        assert gradient["W"][index] == pytest.approx(slope, rel=1e-6)


# --- the loss decides whether a layout is believed ---


def target_of(style, cell, layout=None, **sizes):
    sizes = {"B": 1 if style == "gate_by_gate" else 3, "T": 5, "O": 4} | sizes
    plain = implementations.make(style, cell, **sizes)
    setting = Setting(cell, **sizes)
    own = layout_of(style, setting)
    chosen = own if layout is None else layout(own, setting)
    options = {"reset": plain.reset, "steps": plain.steps, "layout": chosen}
    return tt.Target(plain.parameters, plain.loss, plain.gradient, **options)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_a_right_layout_is_believed_and_nothing_is_moved(cell, dtype):
    target = target_of("concatenated", cell, dtype=dtype)
    before = {name: array.copy() for name, array in target.parameters.items()}
    found = model_from_target(target)
    assert found.model is not None
    assert found.notes == ()
    for name, array in target.parameters.items():
        np.testing.assert_array_equal(array, before[name])


def test_without_a_layout_there_is_no_model():
    plain = implementations.make("concatenated", "LSTM")
    assert model_from_target(plain) == model_from_target(plain)
    assert model_from_target(plain).model is None


def changed(**how):
    return lambda layout, _: dataclasses.replace(layout, **how)


def other_loss(**how):
    return lambda layout, _: dataclasses.replace(
        layout, loss=dataclasses.replace(layout.loss, **how)
    )


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        (changed(order="fiog"), r"The layout is wrong: lstm\(order='ifog', .* would agree"),
        (other_loss(time="sum"), r"The loss is another one: .*time='mean', .* would agree"),
        (changed(decay=0.1), r"The loss is another one"),
        (changed(h0=np.ones((3, 4))), "Neither another reduction nor another order"),
        (changed(V="V"), r"does not fit: layout: expected names among W1.* got 'V'"),
        (changed(order="ifoo"), r"does not fit: order: expected each gate of ifao once"),
        (changed(d=""), r"does not fit: layout: .* 'by' left over; name it in the layout"),
    ],
)
def test_a_wrong_layout_is_not_and_it_is_said_why(layout, says):
    found = model_from_target(target_of("concatenated", "LSTM", layout))
    assert found.model is None
    assert len(found.notes) == 1
    assert re.search(says, found.notes[0]), found.notes[0]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_a_layout_is_guessed_from_names_and_shapes(style, cell):
    guess = lambda _, s: tt.layouts.guess(s.inputs(), s.labels())  # noqa: E731
    found = model_from_target(target_of(style, cell, guess, time="sum"))
    assert found.model is not None, found.notes
    assert found.notes[0].startswith(f"The layout was guessed, and has your loss: {cell.lower()}(")
    right = target_of(style, cell, time="sum").gradient()
    for name, array in found.model.gradient().items():
        np.testing.assert_allclose(array, right[name], rtol=1e-9, atol=1e-12)


def test_what_cannot_be_guessed_is_said():
    guess = lambda _, s: tt.layouts.guess(s.inputs(), s.labels())  # noqa: E731
    found = model_from_target(target_of("concatenated", "LSTM", guess, T=6, dropout=0.5))
    assert found.model is None
    assert found.notes[0].startswith("No layout that was tried has your loss, with the parameters")
    assert re.search(r"\([\d,]+ were tried\)\.", found.notes[0])


def test_classes_may_be_looked_up():
    rng = np.random.default_rng(0)
    shapes = {"E": (5, 2), "Wx": (3, 2), "Wh": (3, 3), "b": (3,)}
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    classes, answers = np.array([4, 0, 4, 1]), rng.normal(size=(4, 1, 3))
    options = {"loss": "squared_error"}
    model = tt.layouts.rnn(classes, answers, embedding="E", **options).model(arrays)
    vectors = {name: array for name, array in arrays.items() if name != "E"}
    same = tt.layouts.rnn(arrays["E"][classes], answers, **options).model(vectors)
    assert model.value() == pytest.approx(same.value(), rel=1e-12)
    given = model.gradient()
    for name, array in same.gradient().items():
        np.testing.assert_allclose(given[name], array, rtol=1e-12)
    assert given["E"][[0, 1, 4]].all()
    assert not given["E"][[2, 3]].any()
    with pytest.raises(ValueError, match=r"layout: E: expected \(classes, I\) with I = 2"):
        tt.layouts.rnn(classes, answers, embedding="E", **options).model(
            arrays | {"E": np.ones((5, 3))}
        )


@pytest.mark.parametrize("peepholes", ["p", "p{gate}"])
def test_gates_may_see_the_cell_state(peepholes):
    net = tt.Network(
        [tt.LSTM(2, 3, peepholes=True)], tt.MeanSquaredError(), dtype="float64", seed=0
    )
    rng = np.random.default_rng(0)
    net.parameters["0.p"][...] = rng.normal(size=9)
    x, y = rng.normal(size=(5, 1, 2)), rng.normal(size=(5, 1, 3))
    value, gradient = net.loss_and_gradient(x, y)

    def held(arrays):
        """As someone else holds them: rows as f, c, o, i, peepholes as f, o, i or by name."""
        gates = dict(zip("ifco", range(4), strict=True))
        rows = {name: np.split(arrays[f"0.{name}"], 4) for name in "WUb"}
        found = {n: np.concatenate([own[gates[k]] for k in "fcoi"]) for n, own in rows.items()}
        p = dict(zip("ifo", np.split(arrays["0.p"], 3), strict=True))
        one = {"p": np.concatenate([p[k] for k in "foi"])}
        return found | (one if peepholes == "p" else {f"p{k}": p[k] for k in "ifo"})

    options = {"order": "fcoi", "W": "W", "U": "U", "loss": "squared_error"}
    layout = tt.layouts.lstm(x, y, peepholes=peepholes, **options)
    model = layout.model(held(net.parameters))
    assert model.value() == pytest.approx(value, rel=1e-12)
    for name, array in held(gradient).items():
        np.testing.assert_allclose(model.gradient()[name], array, rtol=1e-10, atol=1e-13)


# --- what is refused ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "crossentropy"}, "loss: expected one of softmax, .* got 'crossentropy'"),
        ({"time": "average"}, "time: expected 'sum' or 'mean', got 'average'"),
        ({"combined": "h,x"}, r"combined: expected False, 'xh', 'hx', .* got 'h,x'"),
        ({"cell_activation": "relu"}, "cell_activation: expected 'tanh' or 'identity'"),
    ],
)
def test_a_word_that_is_not_known_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tt.layouts.lstm(np.ones((4, 2)), np.zeros(4, int), **options)


def test_other_words_of_the_other_cells_are_refused():
    x, y = np.ones((4, 2)), np.zeros(4, int)
    with pytest.raises(ValueError, match=r"keep: expected 'z' or '1-z', got 'r'"):
        tt.layouts.gru(x, y, keep="r")
    with pytest.raises(ValueError, match=r"nonlinearity: expected one of tanh, .* got 'gelu'"):
        tt.layouts.rnn(x, y, nonlinearity="gelu")
    with pytest.raises(ValueError, match=r"guess: expected lengths, .* got time"):
        tt.layouts.guess(x, y, time="sum")


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.ones((4, 1, 3)), np.zeros(4, int), r"layout's inputs: .* I = 2, got \(4, 1, 3\)"),
        (np.full(4, 2), np.zeros(4, int), r"layout's inputs: expected classes 0 … 1, got 2 … 2"),
        (np.ones((4, 2)), np.zeros(5, int), r"layout's targets: expected \(4, 1\), got \(5,\)"),
        (np.ones((4, 2)), np.full(4, 9), r"layout's targets: expected classes 0 … 2, got 9 … 9"),
        (
            np.ones((4, 2)),
            np.ones((4, 1, 2)),
            r"layout's targets: expected \(4, 1, 3\), T, B and O",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(inputs, targets, message):
    arrays = {"Wx": np.ones((3, 2)), "Wh": np.ones((3, 3)), "b": np.ones(3)}
    with pytest.raises(ValueError, match=message):
        tt.layouts.rnn(inputs, targets).model(arrays)


def test_entries_that_overlap_are_refused():
    places = {
        ("a", "b", 0): BlockPlace("b", slice(0, 2)),
        ("a", "b", 1): BlockPlace("b", slice(1, 3)),
    }
    with pytest.raises(ValueError, match="placed once, got gaps or overlaps"):
        Placement(places, {"b": (3,)})


@pytest.mark.parametrize("kind", ["numbers", "classes"])
@pytest.mark.parametrize("flat", [False, True], ids=["grid", "flat"])
def test_batch_first(kind, flat):
    """(B, T, ·) is the same run as (T, B, ·): inputs, targets, flat ones too, and the mask."""
    rng, T, B = np.random.default_rng(0), 5, 2
    p = {"Wx": (12, 3), "Wh": (12, 3), "b": (12,), "V": (4, 3), "d": (4,)}
    p = {name: rng.standard_normal(shape) for name, shape in p.items()}
    x = rng.standard_normal((T, B, 3)) if kind == "numbers" else rng.integers(0, 3, (T, B))
    y, mask = rng.integers(0, 4, (T, B)), rng.integers(0, 2, (T, B, 3))
    options = {"head": "V", "head_bias": "d"}
    expected = tt.layouts.lstm(x, y, mask=mask, **options).model(p)
    turned = [np.swapaxes(one, 0, 1) for one in (x, y, mask)]
    labels = turned[1].ravel() if flat else turned[1]
    layout = tt.layouts.lstm(turned[0], labels, mask=turned[2], batch_first=True, **options)
    assert layout.model(p).value() == expected.value()


def test_one_sequence_alone_has_no_batch_axis_to_be_first():
    rng = np.random.default_rng(0)
    p = {"Wx": rng.standard_normal((9, 3)), "Wh": rng.standard_normal((9, 3))}
    for x in (rng.standard_normal((5, 3)), rng.integers(0, 3, 5)):
        y = rng.integers(0, 3, 5)
        one, other = (tt.layouts.gru(x, y, b=None, batch_first=way) for way in (False, True))
        assert other.model(p).data.x.shape == (5, 1, 3)
        assert other.model(p).value() == one.model(p).value()


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        ((2, 5, 4), (2, 5), r"inputs: expected \(B, T, I\) with I = 3, got \(2, 5, 4\)"),
        ((2, 5, 3), (2, 4), r"targets: expected \(2, 5\), got \(2, 4\)"),
    ],
)
def test_batch_first_names_the_users_shapes(inputs, targets, message):
    p = {"Wx": np.ones((9, 3)), "Wh": np.ones((9, 3))}
    given = np.ones(inputs), np.ones(targets, int)
    layout = tt.layouts.gru(*given, b=None, batch_first=True)
    with pytest.raises(ValueError, match=message):
        layout.model(p)
