"""The layout of a target that has none, and its data, by its losses alone."""

from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest

import corpus as implementations
import throughtime as tt
from benchmarks.diagnose import strangers_layouts
from corpus import Setting, notebooks
from corpus.notebooks import Habits
from small_networks import Small
from throughtime.diagnosis.drawn_losses import DrawnLosses
from throughtime.diagnosis.errors_of_targets import InTargets
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.mutant_match import by_mutants
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.recovered_layout import structures, with_layout
from throughtime.diagnosis.single_step_losses import RecurrentWeights, SingleStep
from throughtime.gradcheck import Budget


def study_of(target, evaluations=6_000):
    values = {name: np.array(array) for name, array in target.parameters.items()}
    return Study(target, values, Budget(evaluations))


def recovered(target, evaluations=6_000):
    """The study after the search; its target has a layout if one was found."""
    study = study_of(target, evaluations)
    with_layout(study)
    return study


def one_of_the_corpus(style, cell, fault=(), **sizes):
    """A target without a layout, and what it is made of."""
    made = implementations.make(style, cell, fault, **sizes)
    assert made.layout is None
    return made, Setting(cell, **sizes)


def characters(T=7, *, right=True, turned=False, epsilon=0.0, size=6, units=5, phi=np.tanh):
    """A character RNN with column vectors; as a wrong one it sends nothing back in time.

    Where it is turned, at_length gives the last T characters instead of the first.
    """
    rng = np.random.default_rng(1)
    shapes = {"Wxh": (units, size), "Whh": (units, units), "Why": (size, units)}
    shapes |= {"bh": (units, 1), "by": (size, 1)}
    p = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()}
    text = rng.integers(size, size=T + 1)

    def run(T):
        own = text[-(T + 1) :] if turned else text[: T + 1]
        h, kept, loss = np.zeros((units, 1)), [], 0.0
        for now, following in pairwise(own):
            before, h = h, phi(p["Wxh"][:, [now]] + p["Whh"] @ h + p["bh"])
            y = np.exp(p["Why"] @ h + p["by"])
            share = y / y.sum()
            loss -= np.log(share[following, 0] + epsilon)
            kept.append((now, following, before, h, share))
        return loss, kept

    def gradient(T):
        d, dh_next = {name: np.zeros_like(array) for name, array in p.items()}, 0.0
        for now, following, before, h, share in reversed(run(T)[1]):
            dy = share.copy()
            dy[following] -= 1
            d["Why"] += dy @ h.T
            d["by"] += dy
            dz = (p["Why"].T @ dy + dh_next) * (1 - h * h)
            d["Wxh"][:, [now]] += dz
            d["Whh"] += dz @ before.T
            d["bh"] += dz
            dh_next = p["Whh"].T @ dz if right else 0.0
        return d

    def at_length(T):
        return tt.Target(p, lambda: run(T)[0], lambda: gradient(T), at_length=at_length, steps=T)

    return at_length(T), text


def test_the_characters_of_a_text_are_recovered_with_the_layout():
    target, text = characters()
    study = recovered(target)
    found = study.target.layout
    assert (found.W, found.U, found.b, found.V, found.d) == ("Wxh", "Whh", "bh", "Why", "by")
    assert (found.loss.kind, found.loss.time) == ("softmax", "sum")
    np.testing.assert_array_equal(found.inputs.argmax(axis=2)[:, 0], text[:-1])
    np.testing.assert_array_equal(found.targets.argmax(axis=2)[:, 0], text[1:])
    assert study.budget.used < 100
    assert found.notes[0].startswith("Your network was recognised: rnn(order='h', W='Wxh'")


@pytest.mark.parametrize(
    ("style", "cell", "sizes"),
    [
        ("gate_by_gate", "LSTM", {"B": 1, "T": 4}),
        ("gate_by_gate", "GRU", {"B": 1, "T": 4, "time": "sum"}),
        ("concatenated", "LSTM", {"B": 1, "T": 4, "task": "regression"}),
        ("concatenated", "RNN", {"B": 1, "T": 3, "dtype": "float32"}),
        ("concatenated", "RNN", {"B": 2, "T": 3, "batch": "sum", "time": "sum"}),
        ("gate_by_gate", "LSTM", {"B": 1, "T": 2, "states": True}),
    ],
    ids=str,
)
def test_inputs_that_are_numbers_are_recovered(style, cell, sizes):
    target, setting = one_of_the_corpus(style, cell, **sizes)
    found = recovered(target).target.layout
    assert type(found.cell).__name__ == cell
    assert found.loss.last == (setting.task == "regression")
    exact = 1e-5 if setting.dtype == "float32" else 1e-9
    x, mine = setting.inputs(), found.inputs
    order = np.argsort(mine[0, :, 0]), np.argsort(x[0, :, 0])  # sequences have no order
    np.testing.assert_allclose(mine[:, order[0]], x[:, order[1]], atol=exact)
    for name, state in (("h0", 0), ("c0", 1)) if setting.states else ():
        got = np.reshape(getattr(found, name), (1, -1))
        np.testing.assert_allclose(got, setting.start(state), atol=exact)
    if not found.loss.last:
        labels = found.targets.argmax(axis=2)
        np.testing.assert_array_equal(labels[:, order[0]], setting.labels()[:, order[1]])


def test_the_model_of_a_recovered_layout_has_the_right_gradient():
    target, _ = characters()
    found = recovered(target).target.layout.model(target.parameters).gradient()
    for name, g in target.gradient().items():
        np.testing.assert_allclose(found[name], g, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("cell", "fault"),
    [("GRU", "direct_path_missing"), ("LSTM", "gates_swapped_in_dc"), ("RNN", "time_reversed")],
)
def test_with_a_recovered_layout_the_fault_is_named_as_with_a_given_one(cell, fault):
    target, _ = one_of_the_corpus("gate_by_gate", cell, fault, B=1, T=4)
    report = tt.check(target)
    assert [cause.fault for cause in report.causes] == [fault]
    assert report.causes[0].confidence == 0.99
    assert any(note.startswith("Your network was recognised") for note in report.notes)


# --- what is not recognised ---


def nothing_found(target, evaluations=6_000):
    study = recovered(target, evaluations)
    assert study.target is target
    return study.budget.used


def test_another_cell_is_not_recognised():
    assert nothing_found(characters(T=2, size=3, units=2, phi=np.arctan)[0]) > 0


def test_an_absolute_error_is_recovered_where_targets_are_0_and_1():
    network = Small("absolute", 1, sigmoid=True)
    found = recovered(network.target(2)).target.layout
    assert (found.loss.kind, found.loss.activation) == ("absolute_error", "sigmoid")
    np.testing.assert_allclose(found.targets[:, 0, 0], [0, 1], atol=1e-6)
    np.testing.assert_allclose(found.inputs[:, 0], network.x[:2], atol=1e-6)


def test_other_data_at_other_lengths_are_not_taken_for_the_same():
    nothing_found(characters(turned=True)[0])


def test_a_loss_that_is_nearly_another_is_not_taken_for_it():
    nothing_found(characters(T=3, epsilon=3.3e-4)[0])


def test_without_other_lengths_several_steps_are_not_looked_into():
    target, _ = characters()
    assert nothing_found(replace(target, at_length=None)) == 0


def test_one_step_needs_no_other_length():
    target, text = characters(T=1)
    found = recovered(replace(target, at_length=None)).target.layout
    assert found.inputs.argmax() == text[0]


def test_no_more_is_evaluated_than_a_share_of_the_budget():
    assert nothing_found(characters()[0], evaluations=60) <= 18


def test_parameters_are_where_they_were():
    target, _ = characters()
    before = {name: array.copy() for name, array in target.parameters.items()}
    recovered(target)
    for name, array in target.parameters.items():
        np.testing.assert_array_equal(array, before[name])


SMALL = Habits(cell="RNN", variant="tanh", head="linear", stored="two", T=2, I=2, H=2, O=2)


def of_a_notebook(mistakes=(), **habits):
    """A right program of a notebook, or one with mistakes, and its study after the search."""
    target = notebooks.target(replace(SMALL, **habits), mistakes, lengths=True)
    study = recovered(target)
    return target, study, study.target.layout


def has_its_gradient(target, layout):
    target.loss()
    own, found = target.gradient(), layout.model(target.parameters).gradient()
    for name, array in own.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("epsilon", [1e-2, 1e-4])
def test_an_epsilon_in_the_logarithm_is_found(epsilon):
    found = recovered(characters(T=2, epsilon=epsilon)[0]).target.layout
    assert (found.loss.kind, found.loss.epsilon) == ("softmax", epsilon)


def test_a_head_of_two_layers_is_found():
    target, _, found = of_a_notebook(head="two layers")
    assert (found.Q, found.q, found.V, found.d) == ("Wd1", "bd1", "Wd2", "bd2")
    has_its_gradient(target, found)


def test_a_head_that_is_no_parameter_is_found():
    target, _, found = of_a_notebook(head="outside", O=3)
    assert (found.V, found.fixed_head[0].shape) == ("", (3, 2))
    has_its_gradient(target, found)


def test_an_l2_term_is_found():
    target, _, found = of_a_notebook(decay=0.05)
    assert found.decay == pytest.approx(0.05)
    has_its_gradient(target, found)


def test_an_l2_term_is_found_where_a_softmax_overflows_far_out():
    target = notebooks.target(replace(SMALL, decay=0.05, head="softmax", O=3), lengths=True)
    losses = DrawnLosses(study_of(target), 2_000)
    assert losses.survey(2) == ()
    assert losses.decay == pytest.approx(0.05)
    assert set(losses.decayed) == {n for n, a in target.parameters.items() if min(a.shape) > 1}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_l2_term_of_a_linear_output_of_one_number_is_told_from_its_squared_error(dtype):
    own = replace(SMALL, decay=0.05, head="one output", O=1, dtype=dtype)
    target = notebooks.target(own, lengths=True)
    losses = DrawnLosses(study_of(target), 1_000)
    losses.survey(target.steps)
    biases = {name for name in target.parameters if name.startswith("b")}
    assert set(losses.decayed) == set(target.parameters) - biases
    assert recovered(target).target.layout is not None


def test_a_tensor_without_effect_is_found():
    target, _, found = of_a_notebook(unused=True)
    assert found.unused
    assert set(found.unused) < set(target.parameters)
    has_its_gradient(target, found)


def test_peepholes_are_found_gate_by_gate_where_gates_share_matrices():
    target, _, found = of_a_notebook(cell="LSTM", variant="peepholes", head="sum of h")
    assert sorted(found.p) == ["f", "i", "o"]
    has_its_gradient(target, found)


def test_three_sequences_are_told_apart_where_a_first_step_allows_several_cells():
    cell = {"cell": "GRU", "variant": "before, 1-z", "stored": "gate by gate, [x, h]", "names": 1}
    sizes = {"B": 3, "O": 1, "head": "one output", "longest": 5, "seed": 6228}
    target, _, found = of_a_notebook(**cell, **sizes, columns=False, batch="sum", scale=1.0)
    assert found.inputs.shape == (2, 3, 2)
    has_its_gradient(target, found)


def test_a_derivative_missing_between_the_layers_of_a_head_is_named():
    target, _, _ = of_a_notebook(("head_derivative_missing",), head="two layers")
    causes = tt.check(target).causes
    assert [(c.fault, c.where) for c in causes] == [("derivative_missing", "the output layers")]


def test_classes_of_several_sequences_are_found_by_trying_them():
    sizes = {"B": 3, "O": 3, "one_hot": True, "epsilon": 1e-2}
    target, study, found = of_a_notebook(head="softmax", **sizes)
    assert set(np.unique(found.inputs)) == {0, 1}
    assert study.budget.used < 150
    has_its_gradient(target, found)


def test_sequences_that_begin_alike_are_not_taken_for_one():
    sizes = {"B": 2, "O": 3, "T": 3, "one_hot": True, "longest": 5, "seed": 7}
    target, _, found = of_a_notebook(head="softmax", **sizes)
    assert found.inputs.shape == (3, 2, 2)
    assert (found.inputs[0, 0] == found.inputs[0, 1]).all()
    has_its_gradient(target, found)


def test_equal_sequences_have_the_squared_error_of_targets_that_differ():
    # Of their targets only the sum and Σ y² show, and targets with both of these have the loss.
    slope = np.random.default_rng(1).standard_normal((8, 1, 2)) * np.ones((8, 2, 1))
    y, constant = np.array([[1.0, 2.0], [-2.0, 0.5]]), np.zeros((8, 2))
    parts = InTargets(constant, slope, 1.0)
    wanted = parts.errors(y).sum(axis=1)
    found, rest = parts.solved(wanted)
    np.testing.assert_allclose(rest, 0.0, atol=1e-12)
    np.testing.assert_allclose(parts.errors(found).sum(axis=1), wanted, atol=1e-12)


def test_sequences_of_one_class_are_found():
    sizes = {"B": 2, "I": 1, "O": 2, "one_hot": True, "batch": "mean"}
    target, _, found = of_a_notebook(head="linear", **sizes)
    assert found.inputs.shape == (2, 2, 1)
    has_its_gradient(target, found)


@pytest.mark.parametrize(
    ("cell", "variant", "idle", "candidate"),
    [("LSTM", "", "f", "g"), ("GRU", "after, z", "r", "n")],
)
def test_a_single_step_without_biases_tells_the_idle_gate_and_the_candidate(
    cell, variant, idle, candidate
):
    habits = replace(SMALL, cell=cell, variant=variant, biases=False, H=3)
    target = notebooks.target(habits, lengths=True)
    losses = DrawnLosses(study_of(target), 2_000)
    single, every = SingleStep(losses), list(structures(losses.shapes))
    every = [one for one in every if set(one.order) == set(habits.gates) and one.V and not one.b]
    allowed = [one.order for one in every if single.allows(one, ModelLoss("squared_error"))]
    (places,) = {(order.index(idle), order.index(candidate)) for order in allowed}
    assert places == (habits.gates.index(idle), habits.gates.index(candidate))
    refused = (
        ModelLoss("weighted"),
        ModelLoss("squared_error", root=True),
        ModelLoss("softmax"),
        ModelLoss("binary"),
    )
    assert not any(single.allows(one, other) for one in every for other in refused)


def test_a_network_without_biases_is_found_with_the_first_of_the_layouts_that_are_left():
    # Its inputs are numbers, so that each layout and loss takes descents of its own.
    habits = {"cell": "LSTM", "stored": "two", "biases": False, "H": 3, "O": 2, "longest": 5}
    target, study, found = of_a_notebook(head="linear", **habits)
    assert study.budget.used < 400
    has_its_gradient(target, found)


def test_an_input_of_1_is_not_taken_for_a_bias():
    # Both sequences begin with class 0, whose column of W looks like a bias at T = 1.
    sizes = {"B": 2, "O": 3, "T": 3, "one_hot": True, "longest": 5, "seed": 7, "biases": False}
    target, _, found = of_a_notebook(cell="RNN", stored="[x, h]", head="softmax", **sizes)
    assert found.combined == "xh"
    has_its_gradient(target, found)


def test_an_output_that_hardly_shows_is_settled_by_the_squares_of_targets():
    slope = np.random.default_rng(1).standard_normal((6, 1, 2)) * [1.0, 1e-7]
    y, constant = np.array([[1.0, 2.0]]), np.zeros((6, 1))
    parts = InTargets(constant, slope, 1.0)
    off = y + np.array([[0.0, 1e-8]])
    np.testing.assert_allclose(parts.settled(off, parts.errors(y).sum(axis=1)), y, atol=1e-14)


def test_initial_states_are_found_without_inputs():
    target, _, found = of_a_notebook(states=True, H=3, longest=5)
    assert np.abs(found.h0).max() > 0
    has_its_gradient(target, found)


def test_initial_states_are_found_with_an_embedding_of_the_size_of_the_state():
    cell = {"cell": "GRU", "variant": "before, z", "stored": "gate by gate, [x, h]"}
    sizes = {"B": 1, "I": 4, "H": 3, "O": 1, "one_hot": True, "embedding": True, "longest": 4}
    target, study, found = of_a_notebook(head="one output", states=True, **cell, **sizes)
    assert np.abs(found.h0).max() > 0
    assert study.budget.used < 150
    has_its_gradient(target, found)


@pytest.mark.parametrize(
    "habits",
    [
        # The candidate's bounds show; nothing of that depends on how many sequences there are.
        {"variant": "tanh", "head": "squared h", "B": 3, "batch": "sum"},
        {"cell": "LSTM", "variant": "", "head": "softmax", "O": 4, "epsilon": 1e-3, "H": 3},
        # Initial states that are not 0, with the gates that keep them closed by inputs.
        {"cell": "GRU", "variant": "before, z", "head": "linear", "states": True, "H": 3},
        {"cell": "GRU", "variant": "after, 1-z", "head": "linear", "states": True, "one_hot": True},
    ],
)
def test_a_network_without_biases_is_found_at_the_bounds_of_its_candidate(habits):
    target, _, found = of_a_notebook(**{"biases": False, "longest": 4} | habits)
    assert np.abs(found.h0).max() > 0 if "states" in habits else found.h0 is None
    has_its_gradient(target, found)


def test_initial_states_are_found_behind_gates_that_biases_close():
    cell = {"cell": "LSTM", "variant": "h = o c", "head": "linear", "one_hot": True, "states": True}
    target, _, found = of_a_notebook(**cell, B=2, H=3, I=3, batch="mean", longest=4)
    assert np.abs(found.c0).max() > 0
    has_its_gradient(target, found)


def test_where_no_guess_has_the_loss_the_losses_tell_the_layout():
    mistake = ("update_gate_term_missing",)
    habits = replace(SMALL, cell="GRU", variant="after, z", head="outside", O=3, T=3, longest=4)
    target = notebooks.target(habits, mistake, lengths=True)
    x, y = habits.inputs()[: habits.T], habits.targets()[: habits.T]
    study = study_of(replace(target, layout=tt.layouts.guess(x, y)))
    found = by_mutants(study)
    assert found.recovered
    assert [cause.fault for cause in found.causes] == ["update_gate_term_missing"]
    assert any("No network" in note for note in found.notes)


def test_what_does_not_matter_in_a_first_step_refutes_most_layouts():
    """Of columns and square matrices of one size, hardly any role is refuted by its shape."""
    habits = Habits("GRU", "after, z", "squared h", "gate by gate", T=2, I=1, H=3, O=3, bias=1.0)
    study = study_of(notebooks.target(habits, (), lengths=True))
    losses = DrawnLosses(study, 2_000)
    weights = RecurrentWeights(losses)
    idle = weights.idle()
    assert idle == {"Ur", "Uz", "Uh", "Wr", "br"}
    left = [one for one in structures(losses.shapes, idle) if weights.allows(one)]
    assert 0 < len(left) < 200
    assert len(list(islice(structures(losses.shapes), 10_000))) == 10_000
    with_layout(study)
    found = study.target.layout
    assert (found.W, found.U) == (
        {"r": "Wr", "z": "Wz", "n": "Wh"},
        {"r": "Ur", "z": "Uz", "n": "Uh"},
    )


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("variant", ["", "coupled", "peepholes"])
def test_the_true_layout_is_not_among_those_that_are_refuted(variant, states):
    habits = Habits("LSTM", variant, "linear", "gate by gate", T=2, I=2, H=3, O=2, states=states)
    study = study_of(notebooks.target(habits, (), lengths=True))
    weights = RecurrentWeights(DrawnLosses(study, 2_000))
    own = strangers_layouts.layout_of(habits)
    assert weights.allows(own)
    shapes = weights.losses.shapes
    places = own.placement(shapes).places
    left = [one for one in structures(shapes, weights.idle()) if one.cell == own.cell]
    assert any(one.placement(shapes).places == places for one in left)
