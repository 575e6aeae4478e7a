"""Mistakes in backward passes of cells that are given by their forward equations."""

from dataclasses import replace

import numpy as np
import pytest

import handwritten_cells as by_hand
import throughtime as tt
from derived_cells import BUILT_IN, CELLS, lstm, made
from throughtime.arrays import Array
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants import explain
from throughtime.diagnosis.mutants.mutations import mutations
from throughtime.gradcheck import Budget


def known(name, mistakes=(), **sizes):
    """(the model behind a network by hand, its gradient)."""
    cell, net = by_hand.network(name, mistakes, **sizes)
    model = model_from_target(by_hand.target_of(cell, net)).model
    assert model is not None
    return model, net.gradient()


def network(name, layers=1, bidirectional=False, embedding=False, units=3):
    """A Network of the cell as a target."""
    rng = np.random.default_rng(0)
    cells, width = [], 2
    for _ in range(layers):
        cells.append(CELLS[name](width, units, bidirectional=bidirectional))
        width = (1 + bidirectional) * units
    body = [*([tt.Embedding(5, 2)] if embedding else []), *cells, tt.Dense(width, 2)]
    net = tt.Network(body, tt.MeanSquaredError(), dtype="float64", seed=0)
    x = rng.integers(0, 5, (4, 3)) if embedding else rng.standard_normal((4, 3, 2))
    y = rng.standard_normal((4, 3, 2))
    return tt.target_of(net, x, y, lengths=np.array([4, 2, 3]) if bidirectional else None)


def equal(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return all(np.allclose(a[name], b[name], rtol=1e-10, atol=1e-13) for name in a)


@pytest.mark.parametrize("name", CELLS)
def test_without_a_mistake_the_gradient_is_the_networks_own(name):
    cell = made(CELLS[name])
    rng = np.random.default_rng(0)
    net = tt.Network([cell, tt.Dense(cell.output_size, 2)], tt.MeanSquaredError(), dtype="float64")
    x, y = rng.standard_normal((4, 2, cell.inputs)), rng.standard_normal((4, 2, 2))
    names = {own: f"0.{own}" for own in cell.shapes()}
    options = {"head": "1.W", "head_bias": "1.b", "loss": "squared_error"}
    model = tt.layouts.cell(cell, x, y, names=names, **options).model(net.parameters)
    loss, gradient = net.loss_and_gradient(x, y)
    assert model.value() == pytest.approx(loss, rel=1e-12)
    assert equal(model.gradient(), gradient)


@pytest.mark.parametrize(
    "shape",
    [{"layers": 2}, {"layers": 2, "bidirectional": True}, {"embedding": True}, {"units": 2}],
    ids=str,
)
def test_stacks_directions_and_embeddings(shape):
    target = network("mgu", **shape)
    found = model_from_target(target)
    assert found.model is not None, found.notes
    assert equal(found.model.gradient(), target.gradient())


@pytest.mark.parametrize("name", ["mgu", "min_gru"])
def test_many_at_once_are_as_one_by_one(name):
    model, _ = known(name, steps=4)
    sets = [(one,) for one in mutations(model)][::7]
    together = {id(one): model.data_gradient(one) for one in model.ahead(iter(sets))}
    for one in sets:
        model._deltas.clear()
        alone = model.data_gradient(one)
        for block, array in together[id(one)].items():
            np.testing.assert_allclose(array, alone[block], rtol=1e-9, atol=1e-12)


def test_many_at_once_in_a_stack():
    target = network("coupled_lstm", layers=2, bidirectional=True)
    model = model_from_target(target).model
    sets = [(one,) for one in mutations(model) if one.places == {"step"}][::100]
    together = {id(one): model.data_gradient(one) for one in model.ahead(iter(sets))}
    assert len(sets) > 10
    for one in sets:
        model._deltas.clear()
        alone = model.data_gradient(one)
        for block, array in together[id(one)].items():
            np.testing.assert_allclose(array, alone[block], rtol=1e-9, atol=1e-12)


SINGLE = [
    (name, number)
    for name, own in by_hand.CELLS.items()
    for number, (_, _, fault) in enumerate(own.mistakes)
    if fault != "unknown" and (name, number % 3) in {("mgu", 0), ("mgu", 1), ("deep_transition", 0)}
]


@pytest.mark.parametrize(("name", "number"), SINGLE)
def test_a_mistake_by_hand_is_named(name, number):
    model, gradient = known(name, (number,))
    (match, *_) = explain(model, gradient)
    assert match.faults[0] in by_hand.CELLS[name].mistakes[number][2].split("|")
    assert not match.unexplained


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("slstm", "df = dc * c_new + dn * n", "c_t for c_{t−1}"),
        ("mgu", "dn.T @ h", "h_{t−1} for f ⊙ h_{t−1} in δU_h"),
    ],
)
def test_where_it_is_is_said_in_the_words_of_the_equations(name, wrong, said):
    mistakes = by_hand.CELLS[name].mistakes
    (number,) = (k for k, one in enumerate(mistakes) if one[1] == wrong)
    model, gradient = known(name, (number,))
    (match, *_) = explain(model, gradient)
    assert said in match.evidence


def test_what_is_no_single_change_is_unknown():
    mistakes = by_hand.CELLS["layer_norm_lstm"].mistakes
    (number,) = (k for k, one in enumerate(mistakes) if one[2] == "unknown")
    model, gradient = known("layer_norm_lstm", (number,), steps=3)
    named = {"dh_next_missing", "wrong_term_in_step", "derivative_missing"}
    assert explain(model, gradient, among=named, budget=Budget(200)) == []


def test_two_mistakes_are_two_names():
    model, gradient = known("deep_transition", (0, 6), steps=4)
    (match, *_) = explain(model, gradient)
    assert sorted(match.faults) == ["derivative_missing", "recurrent_untransposed"]


def test_a_check_names_it():
    cell, net = by_hand.network("deep_transition", (6,), steps=3)
    report = tt.check(by_hand.target_of(cell, net))
    assert report.verdict == "disagree"
    assert [cause.fault for cause in report.causes] == ["recurrent_untransposed"]


def both_ways(name):
    """Models of one network: by the cell that is written by hand, and by equations alone."""
    found = []
    for cell in BUILT_IN[name][::-1]:
        rng = np.random.default_rng(5)
        layers = [cell, tt.Dense(cell.output_size, 2)]
        net = tt.Network(layers, tt.MeanSquaredError(), dtype="float64", seed=0)
        for own in sorted(net.parameters):
            net.parameters[own][...] = 0.6 * rng.standard_normal(net.parameters[own].shape)
        x, y = rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2, 2))
        state = {f"0.{n}": 0.4 * rng.standard_normal((2, k)) for n, k in cell.state_sizes.items()}
        target = tt.target_of(net, x, y, state=state)
        found.append(target.layout.model(target.parameters))
    return found


def vector(tensors):
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])


@pytest.mark.parametrize(("name", "beyond"), [("RNN", 0), ("LSTM", 10), ("GRU", 3)])
def test_mutants_of_equations_hold_those_of_cells_by_hand(name, beyond):
    """But for columns of W taken for those of a GRU's U, and an LSTM's cells read a place early."""
    by_hand_, derived = both_ways(name)
    right = vector(by_hand_.gradient())
    np.testing.assert_allclose(right, vector(derived.gradient()), rtol=1e-12, atol=1e-13)
    sets = ((one,) for one in mutations(derived))
    blocks = (derived.data_gradient(one) for one in derived.ahead(sets))
    every = np.array([vector(derived.placement.tensors(one)) for one in blocks])
    missing = []
    for one in mutations(by_hand_):
        wrong = vector(by_hand_.gradient((one,)))
        near = np.abs(every - wrong).max(axis=1).min()
        if near > 1e-11 * np.abs(wrong).max():
            missing.append(str(one))
    assert len(missing) == beyond, missing


def test_in_one_layer_alone():
    model = model_from_target(network("mgu", layers=2)).model
    (wrong,) = (one for one in mutations(model, ["direct_path_missing"]) if one.layer == 1)
    match = explain(model, model.gradient((wrong,)))[0]
    assert match.faults == ("direct_path_missing",)
    assert "layer 1" in match.evidence


def held_otherwise():
    """An LSTM by its equations, a matrix for each gate, transposed, and its arrays as they are."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 2, 2)), rng.standard_normal((4, 2, 3))
    net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=1)
    loss, gradient = net.loss_and_gradient(x, y)
    parts = dict(zip("ifao", (slice(3 * k, 3 * k + 3) for k in range(4)), strict=True))

    def apart(arrays):
        return {
            f"{own}_{gate}": (
                arrays[f"0.{own}"][rows].T if own in "WU" else arrays[f"0.{own}"][rows]
            )
            for own in "WUb"
            for gate, rows in parts.items()
        }

    names = {own: tuple(f"{own}_{gate}" for gate in parts) for own in "WUb"}
    layout = tt.layouts.cell(lstm(2, 3), x, y, names=names, transposed=True, loss="squared_error")
    return layout, apart(net.parameters), loss, apart(gradient)


def test_one_tensor_a_gate_and_transposed():
    layout, parameters, loss, gradient = held_otherwise()
    model = layout.model(parameters)
    assert model.value() == pytest.approx(loss, rel=1e-13)
    assert equal(model.gradient(), gradient)


def test_what_is_no_parameter_of_the_target():
    cell, net = by_hand.network("mgu")
    fixed = net.p.pop("b_f")
    options = {"head": "Vy", "head_bias": "dy", "loss": "squared_error"}
    states = {"h": net.start[0]}
    layout = tt.layouts.cell(cell, net.x, net.y, fixed={"b_f": fixed}, states=states, **options)
    model = layout.model(net.p)
    assert "b_f" not in model.gradient()
    net.p["b_f"] = fixed
    assert model.value() == pytest.approx(net.loss(), rel=1e-13)


def test_gates_are_known_by_the_parts_of_a_parameter():
    shapes = {"W": (12, 2), "U": (12, 3), "b": (12,)}
    layout = tt.layouts.cell(CELLS["slstm"], np.ones((4, 2)), np.zeros((4, 3)))
    assert layout.gates_of("U", shapes).letters == "ifao"
    layout = tt.layouts.cell(CELLS["indrnn"], np.ones((4, 2)), np.zeros((4, 3)))
    assert layout.gates_of("W", {"W": (3, 2), "u": (3,), "b": (3,)}) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"names": {"V": "v"}}, "parameters of mgu: W_f, U_f"),
        ({"transposed": ("h",)}, "parameters of mgu: W_f, U_f"),
        ({"fixed": {"z": 1.0}}, "arguments of mgu: x, h, W_f"),
        ({"states": {"c": 1.0}}, "arguments of mgu: x, h, W_f"),
        ({"order": "ifo"}, "names= says what the parameters are called"),
        ({"loss": "hinge"}, "one of softmax"),
    ],
)
def test_what_is_no_layout_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        tt.layouts.cell(CELLS["mgu"], np.ones((4, 2)), np.zeros((4, 3)), **given)


def test_arrays_that_do_not_fit_are_refused():
    cell, net = by_hand.network("mgu")
    layout = tt.layouts.cell(cell, net.x, net.y, head="Vy", head_bias="dy")
    with pytest.raises(ValueError, match="names among"):
        layout.model({own: array for own, array in net.p.items() if own != "U_h"})
    with pytest.raises(ValueError, match="transposed=True if it is held the other way"):
        layout.model(net.p | {"W_h": net.p["W_h"].T})
    with pytest.raises(ValueError, match="left over"):
        layout.model(net.p | {"more": np.ones(2)})
    with pytest.raises(TypeError, match="decorate the step"):
        tt.layouts.cell(tt.LSTM(2, 3), net.x, net.y)


def test_sizes_that_no_array_tells_are_asked_for():
    layout = tt.layouts.cell(CELLS["mgu"], np.ones((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"give the cell with its sizes: mgu\(I, H\)"):
        layout.model({"other": np.ones(3)})


def test_a_layout_with_another_loss_says_so():
    cell, net = by_hand.network("mgu", (3,))
    target = by_hand.target_of(cell, net)
    layout = tt.layouts.cell(cell, net.x, net.y, head="Vy", head_bias="dy", loss="squared_error")
    other = replace(target, layout=layout)  # without the initial state
    (note,) = model_from_target(other).notes
    assert "no mutant is used" in note
