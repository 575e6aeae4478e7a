"""Names that small numbers suggest, in programs with strangers' habits, are not given."""

from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from benchmarks.diagnose.strangers import Stranger, stranger
from corpus.notebooks import Habits
from throughtime.diagnosis.between_steps import by_steps
from throughtime.diagnosis.clipping_and_decay import decayed_at_a_single_step
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutant_match import known_roles
from throughtime.diagnosis.mutants.model import HEAD, Block
from throughtime.diagnosis.roles import Roles
from throughtime.gradcheck import Budget

RNN = {"cell": "RNN", "variant": "tanh", "columns": False}
LSTM = {"cell": "LSTM", "columns": False}
GRU = {"cell": "GRU", "variant": "before, 1-z"}


def causes(*mistakes, known="at_length", **habits):
    """What is said of a program with these mistakes."""
    target = Stranger(habits.get("seed", 0), Habits(**habits), mistakes, known).target()
    return tt.check(target, progress=False).causes


def names(*mistakes, **habits):
    return [cause.fault for cause in causes(*mistakes, **habits)]


# --- with a layout: factors of one entry, and factors that are equal ---

ONE = {"head": "one output", "O": 1, "scale": 0.01, "root": True, "one_hot": True}


def test_with_one_output_a_root_is_seen_in_its_bias_too():
    own = RNN | ONE | {"T": 2, "I": 1, "H": 8, "time": "mean", "batch": "sum", "outputs": "mean"}
    own |= {"stored": "[h, x]", "layers": 2, "seed": 1643}
    assert names("root_taken", known="layout", **own)[0] == "root_taken"


def test_where_a_penalty_is_all_that_other_tensors_have():
    own = RNN | ONE | {"variant": "relu", "T": 6, "I": 2, "H": 2, "answers": "last step"}
    own |= {"batch": "sum", "half": True, "decay": 0.05, "bias": 1.0, "seed": 1616}
    own |= {"stored": "gate by gate, [x, h]", "head_first": True}
    assert names("root_taken", known="layout", **own) == ["root_taken"]


SIGMOID = RNN | {"head": "sigmoid, cross-entropy", "T": 2, "B": 4, "H": 2, "O": 1, "scale": 0.1}


def test_the_derivative_of_a_sigmoid_beside_a_cross_entropy_is_known():
    (cause,) = causes("sigmoid_derivative_twice", known="layout", time="mean", **SIGMOID)
    assert cause.fault == "different_loss"
    assert "σ′(ŷ)" in cause.where


def test_sums_and_means_over_as_many_outputs_as_sequences_are_given_together():
    own = RNN | {"head": "linear", "T": 7, "B": 2, "O": 2, "half": True, "time": "mean"}
    first, second = causes("summed_over_steps", "factor_two_of_square", known="layout", **own)
    assert first.fault == "summed_over_steps"
    said = {second.fault, *second.alternatives}
    assert said == {"averaged_over_outputs", "summed_over_batch", "factor_two"}
    assert second.confidence <= 1 / 3


def test_the_output_layer_is_the_one_that_the_layout_says():
    target = Stranger(0, Habits(**RNN, head="linear"), ("wrong_sign",), "layout").target()
    model = model_from_target(target).model
    found = known_roles(Roles("b", "Wh", ("V",), matrices=("c", "Wx")), model)
    assert found.head == model.placement.places[Block(HEAD, "V", 0)].tensor
    assert found.head_bias == model.placement.places[Block(HEAD, "d", 0)].tensor
    assert found.lower == ()
    assert {*found.output, *found.hidden} == set(target.parameters)
    assert known_roles(found, model) is found


# --- without one ---

alone = pytest.mark.usefixtures("experiments_alone")


@alone
def test_a_slope_that_is_a_quarter_here_is_no_factor():
    said = causes("sigmoid_derivative_twice", time="mean", **SIGMOID)
    assert [cause.fault for cause in said] == ["output_layer"]


@alone
def test_a_tensor_that_has_a_penalty_alone_says_nothing_of_delta():
    own = RNN | ONE | {"variant": "relu", "T": 6, "I": 2, "H": 2, "answers": "last step"}
    own |= {"batch": "sum", "half": True, "decay": 0.05, "bias": 1.0, "seed": 1616}
    own |= {"stored": "gate by gate, [x, h]", "head_first": True}
    assert "operand_of_one_tensor" not in names("root_taken", known="plain", **own)


@alone
def test_an_epsilon_that_is_a_factor_here_is_none():
    own = LSTM | {"head": "sigmoid, cross-entropy", "T": 2, "B": 2, "I": 2, "H": 2, "O": 2}
    own |= {"epsilon": 0.01, "scale": 0.01, "dtype": "float32", "time": "mean", "batch": "sum"}
    assert not {"scaled", "tensor_scaled"} & set(names("epsilon_in_log", **own))


@alone
def test_a_gradient_that_is_0_at_every_length_meets_no_other_state():
    own = {"cell": "GRU", "variant": "after, 1-z", "head": "outside", "stored": "[h, x]"}
    own |= {"biases": False, "T": 3, "I": 1, "H": 1, "O": 7, "batch": "sum", "layers": 2}
    own |= {"names": 1, "columns": False, "half": True, "seed": 1035}
    found = names("zero_gradient", "last_cache_at_every_step", **own)
    assert found[0] == "zero_gradient"
    assert "states_off_by_one" not in found


@alone
def test_without_an_output_layer_a_factor_of_most_tensors_is_a_common_one():
    own = {"cell": "LSTM", "head": "squared h", "stored": "two", "names": 2, "T": 4, "B": 3}
    own |= {"I": 1, "H": 1, "O": 1, "answers": "last step", "one_hot": True, "scale": 1.0}
    first, *_ = names("states_for_inputs o", "wrong_sign", outputs="mean", seed=5026, **own)
    assert first == "wrong_sign"


@alone
def test_where_biases_alone_are_wrong_delta_is_right():
    own = GRU | {"head": "outside", "T": 3, "B": 2, "H": 3, "O": 3, "time": "mean", "names": 1}
    found = names("bias_of_first_sequence", "bias_of_gate_copied", half=True, states=True, **own)
    assert found == ["operand_of_one_tensor"]


@alone
def test_gates_of_one_layer_are_no_lower_layer():
    own = LSTM | {
        "variant": "peepholes",
        "head": "sum of h",
        "T": 2,
        "H": 2,
        "O": 2,
        "I": 2,
        "scale": 0.01,
    }
    own |= {"stored": "gate by gate, [x, h]", "bias": 1.0, "one_hot": True}
    assert "lower_layer_overwritten" not in names("carried_without_f", **own)


# --- without a layout: what one tensor, one length or one sign suggests ---

TWO_LAYERS = {"layers": 2, "biases": False, "answers": "last step"}


def test_weights_that_agree_in_an_upper_layer_do_not_show_that_delta_is_right_below():
    own = RNN | TWO_LAYERS | {"head": "two layers", "stored": "gate by gate, [h, x]", "names": 2}
    own |= {"T": 3, "I": 1, "H": 5, "O": 6, "seed": 6839}
    assert names("down_through_U", known="plain", **own) == []


def test_one_tensor_that_is_wrong_where_all_is_small_is_not_alone_elsewhere():
    own = TWO_LAYERS | {"cell": "GRU", "variant": "after, 1-z", "head": "outside", "T": 2, "B": 4}
    own |= {"stored": "gate by gate, [x, h]", "head_first": True, "I": 6, "H": 7, "O": 3}
    own |= {"half": True, "outputs": "mean", "decay": 0.05, "scale": 0.01, "dtype": "float32"}
    assert names("backward_loop_forwards", known="plain", **own, seed=6200) == []


@alone
def test_a_factor_at_a_single_step_is_no_fault_within_a_step():
    own = RNN | {"head": "outside", "T": 2, "I": 3, "H": 3, "O": 2, "scale": 0.3, "seed": 6584}
    found = names("factor_two", "last_cache_at_every_step", stored="gate by gate", **own)
    assert found[0] == "factor_two"
    assert "inside_a_step" not in found


@pytest.mark.parametrize("head", ["linear", "sum of h"])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_l2_term_that_the_loss_does_not_have_is_not_missing_in_the_gradient(head, sign):
    own = Habits(**RNN, head=head, stored="two", T=2, I=2, H=2, O=2)
    target = Stranger(0, own, (), "functions").target()

    def gradient():
        terms = {name: sign * 0.05 * w * (w.ndim > 1) for name, w in target.parameters.items()}
        return {name: g + terms[name] for name, g in target.gradient().items()}

    (cause,) = tt.check(replace(target, gradient=gradient), progress=False).causes
    assert cause.fault == "weight_decay_only_in_gradient"


def test_a_single_entry_at_a_round_limit_is_clipped():
    def target(limit):
        p = {"W": np.array([[3.0, 1.5], [0.5, -2.0]]), "b": np.array([1.0, 5.5])}

        def gradient():
            return {name: np.clip(array, -limit, limit) for name, array in p.items()}

        return tt.Target(p, lambda: sum(0.5 * (a**2).sum() for a in p.values()), gradient, steps=3)

    (cause,) = tt.check(target(5.0), progress=False).causes
    assert cause.fault == "clipped_by_value"
    assert "1 of the entries looked at stands at ±5" in cause.evidence[0]
    other = tt.check(target(5.0123456), progress=False).causes
    assert all(cause.fault != "clipped_by_value" for cause in other)


# --- factors and small networks ---


def test_a_factor_whose_gradient_has_a_round_norm_is_no_clip():
    own = LSTM | {"stored": "gate by gate, [x, h]", "names": 1, "head_first": True, "T": 4}
    own |= {"columns": True, "I": 1, "H": 1, "O": 8, "layers": 2, "scale": 0.01, "seed": 60161}
    found = names("factor_half", known="layout", time="mean", dtype="float32", **own)
    assert found == ["factor_half"]


def test_a_factor_of_everything_is_no_l2_term_that_is_counted_twice():
    own = LSTM | {"head": "sigmoid, cross-entropy", "T": 2, "I": 2, "H": 3, "O": 1}
    wrong = ("slope_at_previous c", "wrong_operand i")
    for factor, expected in ((), True), (("factor_two",), False):
        mistakes = ("weight_decay_doubled",) if expected else factor
        found = names(*wrong, *mistakes, known="functions", decay=0.05, **own)
        assert ("weight_decay_doubled" in found) == expected


@alone
def test_a_bias_that_is_not_used_tells_nothing_of_delta():
    own = {"cell": "GRU", "variant": "after, 1-z", "head": "sigmoid, squared", "names": 3}
    own |= {"stored": "gate by gate, [h, x]", "biases": False, "T": 2, "O": 2, "unused": True}
    own |= {"scale": 0.3, "head_first": True, "answers": "last step"}
    assert names("output_gradient_at_every_step_to_h", **own) == ["between_steps"]


@alone
def test_with_one_unit_biases_alone_show_that_delta_is_right_at_other_parameters():
    own = LSTM | {"variant": "h = o c", "head": "sigmoid, squared", "names": 3, "T": 4, "O": 2}
    own |= {"stored": "gate by gate, [h, x]", "head_first": True, "I": 3, "H": 1, "scale": 0.01}
    found = causes("bias_counted_twice", time="mean", dtype="float32", states=True, **own)
    assert [cause.fault for cause in found] == ["operand_of_one_tensor"]
    assert "bias_counted_twice" in found[0].alternatives


def test_a_slope_that_is_a_number_where_weights_are_small_is_no_factor():
    own = {"cell": "GRU", "variant": "after, z", "stored": "gate by gate, [x, h]", "layers": 2}
    own |= {"names": 2, "columns": False, "T": 2, "H": 2, "O": 2, "scale": 0.01, "one_hot": True}
    (cause,) = causes("activation_again r", known="layout", seed=60556, **own)
    assert cause.fault == "activation_for_derivative"


def test_a_gate_is_scaled_though_its_peephole_is_not():
    own = LSTM | {"variant": "peepholes", "head": "one output", "O": 1, "stored": "two", "T": 3}
    assert names("gate_scaled", known="layout", **own) == ["gate_scaled"]


def test_a_tensor_whose_gradient_is_0_does_not_lack_an_l2_term_alone():
    own = LSTM | {"variant": "coupled", "head": "linear", "stored": "gate by gate, [h, x]"}
    own |= {"T": 3, "B": 3, "O": 2, "decay": 0.05, "scale": 1.0}
    found = names("dh_next_missing", "gate_scaled", "zero_gradient", known="plain", **own)
    assert "weight_decay_missing" not in found


@alone
def test_without_an_output_layer_what_the_loss_hands_down_may_be_wrong():
    own = RNN | {"head": "outside", "stored": "two", "T": 2, "H": 2, "outputs": "mean"}
    (cause,) = causes("output_gradient_at_every_step", answers="last step", **own)
    assert cause.fault == "between_steps"
    assert "output_gradient_at_every_step" in cause.alternatives
    assert "δ of the outputs may be wrong" in cause.evidence[-1]


@alone
def test_biases_with_a_factor_of_their_own_hide_no_common_factor_of_a_single_step():
    own = {"cell": "GRU", "variant": "before, z", "head": "sum of h", "stored": "[x, h]"}
    own |= {"T": 4, "B": 4, "I": 4, "H": 2, "O": 2, "batch": "mean", "embedding": True}
    first, *_ = names("wrong_sign", "bias_not_averaged", "time_reversed", **own)
    assert first == "wrong_sign"


def test_gates_that_exchange_their_l2_terms_too_lack_none():
    own = {"cell": "GRU", "variant": "before, 1-z", "head": "linear", "names": 0, "columns": False}
    own |= {"stored": "gate by gate, [h, x]", "biases": False, "T": 3, "I": 8, "H": 8, "O": 5}
    own |= {"half": True, "one_hot": True, "decay": 0.05, "scale": 0.01, "dtype": "float32"}
    found = names("gates_permuted", known="layout", time="mean", bias=1.0, seed=61040, **own)
    assert "weight_decay_missing" not in found


def test_a_penalty_that_is_all_there_is_at_one_step_is_undone_at_all_lengths():
    own = GRU | {"T": 6, "I": 1, "H": 2, "O": 2, "head": "squared h", "half": True}
    own |= {"variant": "after, z", "stored": "[x, h]", "scale": 0.5, "seed": 200066}
    mistakes = "penalty_in_gradient_only", "output_gradient_at_last_step_only"
    target = Stranger(0, Habits(**own), mistakes, "at_length").target()
    values = {name: np.array(array) for name, array in target.parameters.items()}
    study = Study(target, values, Budget(10_000))
    seen = study.look()
    found = decayed_at_a_single_step(seen, study)
    assert found.faults == ("weight_decay_only_in_gradient",)
    assert found.where == "W"
    alone = Stranger(0, Habits(**own), mistakes[1:], "at_length").target().gradient()
    for name, array in found.undone.items():
        assert np.abs(array - alone[name]).max() < 1e-8 * np.abs(alone[name]).max()


def test_the_factor_of_a_loss_stays_where_its_activation_is_forgotten():
    """2 (a − y) / T is (a − y) / 2 at T = 4."""
    own = RNN | {"head": "sigmoid, squared", "T": 4, "O": 3, "I": 5, "H": 2, "scale": 0.5}
    mistakes = "sigmoid_derivative_missing", "averaged_over_steps"
    loss, factor = causes(*mistakes, known="guessed", **own)
    assert loss.where.startswith("2 (a(ŷ) − y)")
    assert factor.fault == "averaged_over_steps"
    assert names(mistakes[0], known="guessed", **own) == ["different_loss"]


def test_an_output_layer_of_one_output_is_no_bias_that_sees_the_delta_of_every_gate():
    own = LSTM | ONE | {"head": "sigmoid, cross-entropy", "root": False, "biases": False}
    own |= {"T": 4, "I": 2, "H": 2, "scale": 0.5, "embedding": True, "states": True}
    own |= {"stored": "gate by gate, [x, h]", "answers": "last step", "seed": 200016}
    own |= {"time": "sum", "batch": "sum", "dtype": "float32"}
    target = Stranger(0, Habits(**own), ("gates_swapped_in_dc",), "at_length").target()
    values = {name: np.array(array) for name, array in target.parameters.items()}
    study = Study(target, values, Budget(10_000))
    assert by_steps(study.look(), study).faults == ("inside_a_step",)


@alone
def test_a_root_is_known_without_an_output_layer_by_a_factor_that_grows_with_the_loss():
    own = GRU | {"head": "squared h", "root": True, "half": True, "T": 3, "B": 2, "I": 2, "H": 3}
    own |= {"O": 3, "scale": 0.01, "stored": "gate by gate", "variant": "after, z", "seed": 540015}
    first, *_ = names("root_taken", **own)
    assert first == "root_taken"


# --- with a layout: mistakes that our own backward pass could not make ---


@pytest.mark.parametrize("kind", ["sum of h", "squared h"])
def test_targets_of_another_step_are_known_where_a_loss_is_linear_too(kind):
    own = GRU | {"head": kind, "T": 3, "B": 2, "I": 3, "H": 4, "O": 4, "time": "mean", "seed": 3}
    assert names("targets_shifted", known="layout", **own) == ["targets_shifted"]


def test_gates_are_swapped_though_one_of_them_is_the_forget_gate_too():
    own = LSTM | {"variant": "coupled", "head": "sum of h", "T": 1, "I": 4, "H": 4, "O": 4}
    own |= {"stored": "gate by gate, [x, h]", "scale": 0.3, "seed": 520113}
    found = names("gates_swapped_in_dc", "wrong_sign", known="layout", **own)
    assert set(found) == {"gates_swapped_in_dc", "wrong_sign"}


def test_a_factor_is_no_other_loss_where_a_network_answers_once_with_one_number():
    own = GRU | {"head": "one output", "O": 1, "answers": "last step", "T": 4, "I": 4, "H": 2}
    found = names("wrong_sign", "factor_two", known="layout", **own, seed=530192)
    assert set(found) == {"wrong_sign", "factor_two"}


def test_a_factor_of_one_over_t_is_none_at_another_length():
    own = GRU | {"variant": "after, 1-z", "head": "squared h", "T": 8, "B": 4, "I": 5, "H": 3}
    own |= {"O": 3, "time": "sum", "batch": "sum", "longest": 12, "seed": 530133}
    found = names("half_squared_error", "divided_by_batch", known="layout", **own)
    assert "averaged_over_steps" not in found
    assert "divided_by_batch" in found


# --- places: what no length is needed for, and what recovered data do not tell ---


def test_without_other_lengths_an_output_layer_that_is_wrong_is_a_place():
    own = GRU | {"head": "softmax", "T": 3, "B": 2, "I": 4, "H": 3, "O": 3, "epsilon": 0.01}
    mistakes = ("softmax_derivative_twice", "output_delta_accumulates")
    (cause,) = causes(*mistakes, known="plain", **own, stored="[h, x]", scale=0.01, seed=560092)
    assert cause.fault == "output_layer"
    assert "own gradient is wrong" in cause.evidence[0]


def test_the_upper_of_two_layers_is_no_output_layer():
    own = GRU | {"head": "sum of h", "T": 9, "I": 2, "H": 2, "O": 2, "layers": 2, "scale": 0.01}
    own |= {"stored": "[x, h]", "head_first": True, "one_hot": True, "seed": 560118}
    assert "output_layer" not in names("truncated", "last_dy_at_every_step", known="plain", **own)


def test_an_output_layer_that_agrees_is_said_to():
    own = LSTM | {"head": "linear", "T": 4, "I": 3, "H": 3, "O": 2, "stored": "[x, h]"}
    target = Stranger(0, Habits(**own), ("gate_left_out f", "dc_next_missing"), "plain").target()
    notes = " ".join(tt.check(target, progress=False).notes)
    assert "The output layer is right, since Wy and by agree" in notes


@pytest.mark.parametrize(
    ("seed", "fault"), [(530010, "targets_shifted"), (530043, "time_reversed")]
)
def test_data_of_sequences_that_begin_alike_refute_nothing_of_other_steps(seed, fault):
    """Of their targets at that step only the sum is recovered."""
    (cause,) = tt.check(stranger(seed).target(), progress=False).causes
    assert fault in (cause.fault, *cause.alternatives)


def test_with_recovered_data_no_fault_is_named_that_no_number_shows():
    """Where weights are 0.01, δr is smaller than the rounding of what was recovered."""
    own = GRU | {"variant": "after, z", "head": "sigmoid, squared", "stored": "gate by gate"}
    own |= {"T": 4, "I": 6, "H": 2, "O": 1, "scale": 0.01, "dtype": "float32", "one_hot": True}
    own |= {"time": "mean", "batch": "sum", "seed": 700121, "longest": 12}
    found = names("penalty_in_gradient_only", "gate_scaled", **own)
    assert set(found) == {"weight_decay_only_in_gradient", "gate_scaled"}
