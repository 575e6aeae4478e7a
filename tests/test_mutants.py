"""Mutants: every fault of every style is found by its own mutant, and right code by none."""

from dataclasses import replace

import numpy as np
import pytest

import corpus as implementations
from benchmarks.diagnose.layouts import layout_of
from corpus import FAULTS, Setting, registry
from throughtime.diagnosis.mutants import explain, mutants, passes
from throughtime.diagnosis.mutants.mutations import mutations
from throughtime.diagnosis.mutants.shared_interventions import mutation
from throughtime.gradcheck.budget import Budget

STYLES = implementations.styles()
CELLS = ("RNN", "GRU", "LSTM")
SIZES = {"T": 5, "I": 3, "H": 4, "O": 7}
# Another mask is drawn anew at every call: no backward pass of ours can know which.
UNSEEN = {"dropout_mask_redrawn"}
# What the styles do not have: tests/test_catalogue.py writes networks with these mistakes.
ELSEWHERE = {
    *("wrong_operand_in_step", "wrong_term_in_step", "activation_for_derivative"),
    *("slope_of_previous_state", "update_gate_exchanged", "backward_in_forward_order"),
    *("another_layers_input", "another_layers_matrix", "last_output_gradient_at_every_step"),
    *("softmax_jacobian_diagonal", "delta_not_cleared", "delta_arrives_late"),
    "only_one_sequence_counts",
    "initial_state_overwritten",  # tests/test_lines_of_causes.py
}


def made(style, cell, faults=(), **sizes):
    """(the model of its layout, the gradient) of an implementation with such faults."""
    sizes = {"B": 1 if style == "gate_by_gate" else 4} | SIZES | sizes
    target = implementations.make(style, cell, faults, **sizes)
    setting = Setting(cell, **(sizes | registry.setting_of(faults)))
    if target.reset:
        target.reset()
    return layout_of(style, setting).model(target.parameters), target.gradient()


def named(matches):
    """The faults of the first match that explains all."""
    return next((set(match.faults) for match in matches if not match.unexplained), set())


def faults_of(style, cell):
    shown = registry.faults_of(style, cell)
    return [f for f in shown if FAULTS[f].shows_in == "gradient" and f not in UNSEEN]


def cases():
    """Every fault of every style, in one cell after the other; the benchmark takes them all."""
    for style in STYLES:
        for place, fault in enumerate(FAULTS):
            having = [cell for cell in CELLS if fault in faults_of(style, cell)]
            if having:
                yield style, having[place % len(having)], fault


@pytest.mark.parametrize(("style", "cell", "fault"), list(cases()))
def test_every_fault_is_found(style, cell, fault):
    model, gradient = made(style, cell, [fault])
    best = explain(model, gradient)[0]
    assert best.faults == (fault,)
    assert best.after < 1e-9 < 1e-5 < best.before
    for name, array in best.undone.items():
        np.testing.assert_allclose(array, model.gradient()[name], atol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("cell", CELLS)
def test_right_code_has_no_fault(style, cell, dtype):
    for _, kind, variant in implementations.correct(style):
        if kind == cell:
            assert explain(*made(style, cell, dtype=dtype, **variant)) == []


@pytest.mark.parametrize(
    "faults",
    [
        ("dh_next_missing", "gate_scaled"),
        ("current_c_for_previous", "wrapped_initial_state"),
        ("softmax_derivative_twice", "derivative_missing"),
        ("averaged_over_steps", "gradient_transposed"),
        ("dc_next_missing", "derivative_of_activated_value"),
        ("weight_decay_missing", "time_reversed"),
        ("only_last_step_kept", "term_counted_twice"),
        ("wrong_sign", "gates_swapped_in_dc", "current_h_for_previous"),
    ],
    ids="+".join,
)
def test_several_at_once(faults):
    assert named(explain(*made("concatenated", "LSTM", faults))) == set(faults)


def test_what_is_only_partly_known_is_said_to_be():
    model, gradient = made("concatenated", "LSTM", ["dh_next_missing"])
    rng = np.random.default_rng(0)
    gradient["Wy"] = gradient["Wy"] + rng.normal(size=gradient["Wy"].shape)
    (match,) = explain(model, gradient)
    assert match.faults == ("dh_next_missing",)
    assert match.unexplained == ("Wy",)
    assert "what is left is wrong in Wy alone" in match.evidence


def test_a_search_ends_with_its_budget():
    model, gradient = made("concatenated", "LSTM", ("dc_next_missing", "gates_swapped_in_dc"))
    few, late, enough = Budget(20), Budget(seconds=-1), Budget(passes(model))
    assert explain(model, gradient, budget=few) == []
    assert few.used == 20
    assert explain(model, gradient, budget=late) == []
    assert named(explain(model, gradient, budget=enough)) == {
        "dc_next_missing",
        "gates_swapped_in_dc",
    }
    assert 20 < enough.used < enough.limit


def test_a_search_of_what_nothing_explains_ends():
    """However many pairs there are; where entries may be clipped they are searched twice."""
    model, gradient = made("concatenated", "RNN")
    rng = np.random.default_rng(0)
    noisy = {name: array + rng.normal(size=array.shape) for name, array in gradient.items()}
    clipped = {name: np.clip(array, -0.5, 0.5) for name, array in noisy.items()}
    for wrong in (noisy, clipped):
        budget = Budget(2_000)
        assert explain(model, wrong, budget=budget) == []
        assert budget.used <= budget.limit


def test_long_and_large_networks_are_given_fewer_passes():
    sizes = {"I": 2, "H": 3, "O": 3, "B": 2}
    short, long = (made("concatenated", "LSTM", T=T, **sizes)[0] for T in (6, 60))
    assert passes(short) > 3 * passes(long)
    longer = made("concatenated", "LSTM", T=300, **sizes)[0]
    assert passes(longer) > len(list(mutations(longer)))


@pytest.mark.parametrize(("cell", "by", "back"), [("RNN", 1, 3), ("LSTM", 1, 5), ("RNN", 2, 4)])
def test_a_window_that_slides_is_a_truncation(cell, by, back):
    """The error of every step goes back alone, as far as its window reaches."""
    T = 7
    model, right = made("concatenated", cell, T=T)
    gradient = {name: np.zeros_like(array) for name, array in right.items()}
    for own in range(T):
        last = min(own // by * by + by - 1, T - 1)
        sent = mutation(
            dy=lambda dy, own=own, **_: dy * (np.arange(T) == own)[:, None, None],
            carried=lambda carried, t, first=last - back, **_: [(t > first) * d for d in carried],
        )
        for name, part in model.gradient([sent]).items():
            gradient[name] += part
    match = explain(model, gradient)[0]
    assert match.faults == ("truncated",)
    assert f"k = {back}, a window that slides" in match.evidence
    assert match.after < 1e-9


def test_noise_is_unknown():
    model, gradient = made("concatenated", "RNN")
    rng = np.random.default_rng(0)
    noisy = {name: array + rng.normal(size=array.shape) for name, array in gradient.items()}
    assert explain(model, noisy) == []


def test_faults_that_look_alike_are_rivals():
    model, gradient = made("concatenated", "RNN", ["factor_half"], B=2)
    (match,) = explain(model, gradient)
    assert match.faults == ("factor_half",)
    assert "divided_by_batch" in match.found[0].alternatives


def mutant_of(model, match):
    """The mutant with the one fault of a match, at the place that the match names."""
    (fault,) = match.found
    return next(m for m in mutants(model, match.faults) if m.where == (fault.where,))


def apart(one, other):
    return max(np.abs(one[name] - other[name]).max() for name in one)


@pytest.mark.parametrize("cell", CELLS)
def test_every_mutant_is_explained_by_its_own_fault_and_by_others_of_the_same_gradient(cell):
    model, _ = made("compiled" if "compiled" in STYLES else "concatenated", cell, states=True)
    right = model.gradient()
    first = {mutant.faults: mutant for mutant in reversed(list(mutants(model)))}
    for mutant in first.values():
        if apart(mutant.gradient, right) < 1e-7:
            continue
        matches = explain(model, mutant.gradient)
        assert mutant.faults in [match.faults for match in matches], mutant.faults
        for match in matches:
            assert not match.unexplained
            assert apart(mutant_of(model, match).gradient, mutant.gradient) < 1e-9, match.faults


def test_mutations_leave_the_right_gradient_as_it_was():
    model, _ = made("concatenated", "GRU", layers=2)
    before = model.gradient()
    for mutant in mutants(model, among=["dh_next_missing", "wrong_matrix"]):
        assert mutant.faults[0] in ("dh_next_missing", "wrong_matrix")
    for name, array in model.gradient().items():
        np.testing.assert_array_equal(array, before[name])


def test_the_table_holds_every_fault_that_has_a_place_in_the_backward_pass():
    found = set()
    for cell in CELLS:
        variants = [{"layers": 2}, {"task": "regression"}, {"ragged": True}]
        variants += [{"bidirectional": True}, *[{"projection": True}] * (cell == "LSTM")]
        for variant in variants:
            model, _ = made("concatenated", cell, **variant)
            found |= {mutation.fault for mutation in mutations(model)}
    read_off = {
        *("averaged_over_steps", "summed_over_steps", "divided_by_batch", "divided_by_classes"),
        *("factor_two", "factor_half", "wrong_sign", "tensor_scaled", "gate_scaled"),
        *("bias_averaged", "averaged_over_outputs", "root_taken", "half_squared_error"),
        *("gradient_transposed", "gates_permuted", "bias_of_gate_copied", "zero_gradient"),
        *("weight_decay_missing", "weight_decay_doubled", "clipped_by_value", "clipped_by_norm"),
    }
    shown = {name for name, fault in FAULTS.items() if fault.shows_in == "gradient"}
    assert found | read_off | UNSEEN == shown | ELSEWHERE
    assert not found & read_off


@pytest.mark.parametrize("cell", ["RNN", "GRU"])
def test_in_single_precision_too(cell):
    for fault in faults_of("concatenated", cell):
        matches = explain(*made("concatenated", cell, [fault], dtype="float32"))
        assert (fault,) in [match.faults for match in matches], fault


@pytest.mark.parametrize("cell", CELLS)
def test_one_factor_below_the_output_layer_is_one_fault(cell):
    model, gradient = made("concatenated", cell)
    head = {place.tensor for block, place in model.placement.places.items() if block.layer < 0}
    for factor, first in ((SIZES["T"], "summed_over_steps"), (1.7, "tensor_scaled")):
        scaled = {name: g if name in head else factor * g for name, g in gradient.items()}
        (match,) = explain(model, scaled)
        assert match.faults == (first,)
        assert match.found[0].where == "all that lies below the output layer"


def test_one_fault_beside_a_factor_below_the_output_layer_comes_first():
    model, gradient = made("concatenated", "LSTM", ["only_last_step_kept"])
    head = {place.tensor for block, place in model.placement.places.items() if block.layer < 0}
    scaled = {name: g if name in head else SIZES["T"] * g for name, g in gradient.items()}
    assert [m.faults for m in explain(model, scaled)] == [
        ("only_last_step_kept", "summed_over_steps")
    ]


def test_a_bias_that_is_a_sum_where_all_else_is_a_mean():
    model, gradient = made("concatenated", "LSTM", batch="mean", time="sum")
    bias = next(place.tensor for b, place in model.placement.places.items() if b.kind == "b")
    (match,) = explain(model, {**gradient, bias: 4 * gradient[bias]})
    assert (match.faults, match.found[0].facts["over"]) == (("bias_not_averaged",), "sequences")
    (match,) = explain(model, {**gradient, bias: 2 * gradient[bias]})
    assert match.faults == ("tensor_scaled",)
    assert match.found[0].alternatives == ("bias_counted_twice",)


def test_where_the_head_is_not_explained_a_name_that_says_that_it_is_right_comes_later():
    model, gradient = made("concatenated", "LSTM", ["output_gradient_at_last_step_only"])
    head = {place.tensor for block, place in model.placement.places.items() if block.layer < 0}
    rng = np.random.default_rng(0)
    spoilt = {
        name: g * (1 + 1e-4 * rng.standard_normal(g.shape)) if name in head else g
        for name, g in gradient.items()
    }
    first, *others = explain(model, spoilt)
    assert first.faults == ("output_gradient_at_last_step_only",)
    assert {name for match in others for name in match.faults} <= {"dh_overwritten"}


def test_a_mean_over_the_vocabulary_in_the_loss_alone():
    model, gradient = made("concatenated", "RNN", batch="sum")
    mean = model.with_loss(replace(model.loss, outputs="mean"))
    (match,) = explain(mean, gradient)
    assert match.faults == ("averaged_over_outputs",)
