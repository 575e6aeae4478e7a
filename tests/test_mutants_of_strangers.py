"""What strangers' programs get wrong, read off their gradients with a layout that is believed.

The programs are those of `corpus.notebooks`, whose mistakes are written down in them. A name may
only be given where our own backward pass, with that fault put in, has the very gradient.
"""

from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from benchmarks.diagnose import strangers
from benchmarks.diagnose.strangers_layouts import layout_of
from corpus import notebooks
from corpus.notebooks import Habits
from throughtime.diagnosis import layouts
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants import explain
from throughtime.diagnosis.mutants.tested import seen_of

LSTM = Habits("LSTM", I=4, H=3, T=5, states=True, bias=1.0, seed=3)
GRU = Habits("GRU", "before, z", I=4, H=3, T=5, states=True, bias=1.0, seed=3)
RNN = Habits("RNN", "tanh", I=4, H=3, T=5, states=True, bias=1.0, seed=3)
PEEPHOLES = replace(LSTM, variant="peepholes")


def explained(s, *mistakes):
    """The matches of a program with these mistakes."""
    own = notebooks.target(s, mistakes)
    return explain(layout_of(s).model(own.parameters), own.gradient())


NAMED = [
    (RNN, "stale_delta_added", "delta_not_cleared"),
    (LSTM, "stale_dc_added", "delta_not_cleared"),
    (GRU, "output_delta_accumulates", "delta_not_cleared"),
    (GRU, "two_steps_late", "delta_arrives_late"),
    (replace(RNN, B=3), "bias_of_first_sequence", "only_one_sequence_counts"),
    (replace(RNN, embedding=True, T=9), "embedding_averaged", "embedding_averaged"),
    (PEEPHOLES, "current_c_of_peepholes", "current_c_for_previous"),
    (LSTM, "current_h_of_one_gate i", "current_h_for_previous"),
    (replace(LSTM, I=3), "states_for_inputs f", "another_layers_input"),
    (LSTM, "carried_with_another_steps_f", "wrong_operand_in_step"),
    (LSTM, "tensor_copied", "another_tensors_gradient"),
    (GRU, "states_off_by_one", "states_off_by_one"),
    (GRU, "wrapped_initial_state", "wrapped_initial_state"),
    (replace(LSTM, layers=2, B=2), "states_off_by_one", "states_off_by_one"),
    (replace(LSTM, layers=2), "wrong_matrix", "wrong_matrix"),
    (replace(RNN, layers=2, T=8), "truncated", "truncated"),
    (replace(RNN, layers=2, T=4), "only_last_step_kept", "only_last_step_kept"),
]


@pytest.mark.parametrize(("s", "mistake", "fault"), NAMED, ids=[one[1] for one in NAMED])
def test_a_mistake_is_named(s, mistake, fault):
    first, *others = explained(s, mistake)
    assert first.unexplained == ()
    assert fault in {first.faults[0], *(name for match in others for name in match.faults)}
    assert len(first.faults) == 1


def test_a_term_that_counts_twice_is_told_where_all_gradients_below_are_tiny():
    """Small weights leave blocks of 1e-8 of the largest entry, which must not fit just anything."""
    small = replace(LSTM, layers=2, scale=0.01, answers="last step", states=False, bias=0.0)
    first = explained(small, "doubled_term")[0]
    assert (first.faults, first.unexplained) == (("wrong_term_in_step",), ())


# --- several at once ---


def test_a_list_of_cell_states_that_is_read_one_place_early_is_named():
    s = replace(LSTM, T=4, H=3)
    for mistakes in (("cells_read_early", "head_takes_previous_h"), ("cells_read_early",)):
        first, *_ = explained(s, *mistakes)
        assert first.faults == ("states_off_by_one",)
        assert not first.unexplained


def test_a_penalty_of_the_gradient_alone_hides_nothing():
    mistakes = ("penalty_in_gradient_only", "dh_next_missing", "gradient_transposed", "factor_two")
    first = explained(RNN, *mistakes)[0]
    assert first.unexplained == ()
    named = {"weight_decay_only_in_gradient", "gradient_transposed", "factor_two"}
    assert named < set(first.faults)
    penalty = next(f for f in first.found if f.fault == "weight_decay_only_in_gradient")
    assert float(penalty.facts["factor"]) == notebooks.program.LAMBDA


def test_gates_that_are_exchanged_are_no_copy_where_one_has_no_gradient():
    """With c_0 = 0 the forget gate has none in what step 0 contributes."""
    s = replace(LSTM, states=False)
    first = explained(s, "only_last_step_kept", "gates_permuted")[0]
    assert set(first.faults) == {"only_last_step_kept", "gates_permuted"}


def test_two_mistakes_in_what_comes_back_beside_a_tensor_without_gradient():
    s = replace(GRU, variant="after, z", head="sum of h", stored="two", answers="last step", T=6)
    first = explained(s, "term_counted_twice h", "direct_path_missing", "zero_gradient")[0]
    allowed = {"direct_path_missing", "wrong_term_in_step"}
    assert first.unexplained == ()
    assert {"term_counted_twice", "zero_gradient"} < set(first.faults)
    assert set(first.faults) & allowed


# --- what gives the same gradient is given together ---


def test_where_only_the_last_step_has_a_gradient_every_way_to_it_is_given():
    s = replace(RNN, head="squared h", answers="last step")
    sets = {match.faults for match in explained(s, "backward_loop_forwards")}
    together = {"backward_in_forward_order", "dh_next_missing", "only_last_step_kept", "truncated"}
    assert sets == {(name,) for name in together}


def test_equals_of_one_mistake_are_not_said_to_be_equals_of_another():
    s = replace(RNN, head="squared h", answers="last step")
    report = tt.check(laid_out(s, "backward_loop_forwards", "tensor_scaled"), progress=False)
    beside = {cause.fault: set(cause.alternatives) for cause in report.causes}
    assert not beside["tensor_scaled"]
    assert "truncated" in beside["dh_next_missing"]


def laid_out(s, *mistakes):
    return strangers._laid_out(notebooks.target(s, mistakes), s)


def test_another_number_of_steps_tells_a_half_from_one_over_t():
    """At T = 2 they are one; the target can be run at other lengths."""
    s = replace(RNN, T=2, head="linear", B=1)
    causes = tt.check(laid_out(s, "factor_half"), progress=False).causes
    said = {causes[0].fault, *causes[0].alternatives}
    assert said == {"factor_half", "half_squared_error"}
    alone = replace(laid_out(s, "factor_half"), at_length=None)
    causes = tt.check(alone, progress=False).causes
    assert "averaged_over_steps" in {causes[0].fault, *causes[0].alternatives}


def test_the_gradient_of_u_in_the_place_of_w_is_rather_a_wrong_operand():
    first = explained(replace(LSTM, I=3), "states_for_inputs o")[0]
    assert first.found[0].alternatives == ("another_tensors_gradient",)


# --- what is not proved is not named ---


def test_factors_that_differ_from_tensor_to_tensor_are_no_explanation_of_a_part():
    s = replace(RNN, layers=2)
    own = notebooks.target(s)
    rng = np.random.default_rng(0)
    wrong = {name: rng.uniform(0.3, 3) * array for name, array in own.gradient().items()}
    name = next(iter(wrong))
    wrong[name] = rng.normal(size=wrong[name].shape)
    assert explain(layout_of(s).model(own.parameters), wrong) == []


def test_a_block_is_idle_only_below_what_rounding_does():
    own = notebooks.target(RNN)
    model = layout_of(RNN).model(own.parameters)
    for tolerance, ratio, idle in ((1e-9, 1e-11, False), (1e-9, 1e-13, True), (3e-5, 1e-7, True)):
        seen = seen_of(model, own.gradient(), tolerance)
        block = next(iter(seen.beside))
        assert seen.idle(block, np.full(3, ratio * seen.beside[block])) is idle


def test_what_rounding_hides_proves_no_name():
    """In float32 all below an output layer with weights of 0.01 is tiny, and keeps its digits."""
    s = replace(LSTM, T=6, B=3, H=2, O=2, states=False, bias=0.0, time="mean", seed=91117)
    s = replace(s, scale=0.01, dtype="float32", head="softmax")
    assert explained(s, "dc_next_missing", "dh_overwritten", "term_counted_twice h") == []
    first = explained(s, "dc_next_missing", "term_counted_twice h")[0]
    assert set(first.faults) == {"dc_next_missing", "term_counted_twice"}
    assert not first.unexplained


def test_entries_of_one_size_are_no_clip_where_none_would_be_larger():
    """With one word at every step, a column of W has the gradient of b."""
    s = replace(RNN, variant="sigmoid", stored="[h, x]", columns=False, head_first=True, I=1, H=8)
    s = replace(s, T=3, O=7, one_hot=True, scale=1.0, time="sum", batch="mean", seed=200096)
    first = explained(s, "recurrent_untransposed", "carried_before_the_slope")[0]
    assert set(first.faults) == {"recurrent_untransposed", "wrong_operand_in_step"}
    first = explained(s, "clipped_by_value")[0]
    assert first.faults == ("clipped_by_value",)


def test_a_penalty_shows_in_small_matrices_together():
    s = replace(GRU, variant="after, 1-z", I=1, H=2, O=2, stored="[x, h]", columns=False)
    s = replace(s, head="squared h", half=True, time="sum", batch="sum", states=False)
    first = explained(s, "penalty_in_gradient_only", "output_gradient_at_last_step_only")[0]
    expected = {"weight_decay_only_in_gradient", "output_gradient_at_last_step_only"}
    assert set(first.faults) == expected
    assert not first.unexplained


# --- layouts ---


def test_peepholes_of_each_gate_are_guessed_beside_matrices_of_all_gates():
    s = replace(PEEPHOLES, stored="[x, h]", head="linear")
    own = notebooks.target(s)
    guess = layouts.guess(
        s.inputs()[: s.T, 0], s.targets()[: s.T, 0], h0=s.start(0, "h"), c0=s.start(0, "c")
    )
    model = model_from_target(replace(own, layout=guess)).model
    assert model is not None
    assert model.cell.peepholes


def test_a_large_epsilon_of_a_binary_cross_entropy_is_guessed_and_named():
    s = replace(RNN, head="sigmoid, cross-entropy", O=1, epsilon=1e-2, states=False)
    own = notebooks.target(s, ("epsilon_in_log",))
    guess = layouts.guess(s.inputs()[: s.T, 0], s.targets()[: s.T, 0])
    report = tt.check(replace(own, layout=guess), progress=False)
    assert [cause.fault for cause in report.causes] == ["epsilon_in_log"]


# --- the benchmark ---


def test_programs_of_one_amount_of_knowledge_are_chosen_by_their_seeds():
    seeds = strangers.seeds_with(["plain", "functions"], 50, 6)
    assert seeds == sorted(seeds)
    assert seeds[0] >= 50
    assert strangers.seeds_with([], 0, 6) == []
    assert {strangers.stranger(seed).known for seed in seeds[:3]} <= {"plain", "functions"}
