"""Many mistakes at once hide each other, and are found where only a few of them show."""

from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from benchmarks.diagnose import strangers
from corpus import notebooks
from corpus.notebooks import Habits
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants import explain
from throughtime.diagnosis.mutants.mutations import mutations
from throughtime.diagnosis.mutants.staged_search import StagedSearch
from throughtime.diagnosis.mutants.tested import seen_of
from throughtime.diagnosis.mutants.trial import Trial
from throughtime.diagnosis.stages import stages
from throughtime.gradcheck import Budget

RNN = Habits("RNN", "tanh", I=4, H=4, O=1, T=7, B=2, bias=1.0, seed=3, head="one output")
LSTM = Habits("LSTM", I=3, H=4, O=4, T=6, B=3, bias=1.0, seed=3, head="sum of h", batch="sum")
GRU = Habits("GRU", "after, 1-z", I=2, H=3, T=6, B=2, bias=1.0, seed=3, head="linear")
PEEPHOLES = replace(LSTM, variant="peepholes", biases=False, bias=0.0, B=1, T=3, head="linear")

MANY = {
    "last output": (
        replace(RNN, answers="last step"),
        {
            "output_gradient_at_every_step_to_h": "output_gradient_at_every_step",
            "wrong_sign": "wrong_sign",
            "two_steps_late": "delta_arrives_late",
            "gradient_transposed": "gradient_transposed",
            "wrapped_initial_state": "wrapped_initial_state",
            "recurrent_untransposed": "recurrent_untransposed",
            "only_last_step_of_bias_kept": "only_last_step_kept",
        },
    ),
    "no head": (
        LSTM,
        {
            "clipped_by_norm": "clipped_by_norm",
            "dc_next_missing": "dc_next_missing",
            "gates_swapped_in_dc": "gates_swapped_in_dc",
            "stale_delta_added": "delta_not_cleared",
        },
    ),
    "a step and what it hands back": (
        GRU,
        {
            "term_counted_twice h": "term_counted_twice",
            "update_gate_term_missing": "update_gate_term_missing",
            "targets_shifted": "targets_shifted",
            "states_off_by_one": "states_off_by_one",
            "wrong_operand r": "wrong_operand_in_step",
        },
    ),
}


def laid_out(s, *mistakes):
    return strangers._laid_out(notebooks.target(s, mistakes), s)


@pytest.mark.parametrize("lengths", [True, False], ids=["lengths", "one length"])
@pytest.mark.parametrize("case", MANY)
def test_many_mistakes_are_all_named(case, lengths):
    s, faults = MANY[case]
    target = laid_out(s, *faults)
    target = target if lengths else replace(target, at_length=None)
    causes = tt.check(target, progress=False).causes
    assert {cause.fault for cause in causes} == set(faults.values())


def test_no_set_of_a_few_explains_them():
    """What the stages are for: at the parameters as they stand, nothing is explained in part."""
    s, faults = MANY["no head"]
    target = laid_out(s, *faults)
    assert explain(model_from_target(target).model, target.gradient()) == []


def test_what_is_proved_is_named_though_the_rest_is_unknown():
    mistakes = ("last_cache_at_every_step", "gates_swapped_in_dc", "carried_with_another_steps_f")
    report = tt.check(laid_out(PEEPHOLES, *mistakes), progress=False)
    (cause,) = report.causes
    assert cause.fault == "gates_swapped_in_dc"
    assert "at T = 1" in cause.evidence[0]
    assert "it is unknown why" in " ".join(report.notes)


def test_a_stage_is_left_out_where_the_network_has_another_loss():
    target = laid_out(LSTM, "dc_next_missing")
    values = {name: np.array(array) for name, array in target.parameters.items()}
    model = model_from_target(target).model

    def words(own):
        study = Study(own, values, Budget(1_000))
        return [stage.words for stage in stages(study, model, 1e-9)]

    assert words(target) == [
        "at T = 1",
        "where nothing is handed from step to step",
        "with recurrent weights of 0",
        "at T = 2",
        "at T = 3",
        "with other parameters",
    ]
    odd = replace(target, at_length=lambda T: target.at_length(T + 1))
    assert words(odd) == [
        "where nothing is handed from step to step",
        "with recurrent weights of 0",
        "with other parameters",
    ]


def test_a_factor_that_changes_with_the_parameters_is_no_factor():
    """With one output at the last step alone, another loss has a factor, which varies."""
    s = replace(GRU, head="sigmoid, cross-entropy", O=1, B=1, answers="last step", T=8)
    cause = tt.check(laid_out(s, "sigmoid_derivative_twice"), progress=False).causes[0]
    assert cause.fault == "different_loss"


def test_a_gradient_that_is_the_networks_own_tells_of_the_loss():
    """Torch differentiates the loss that is given, here with an output that it takes for fixed."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.GRU(3, 4).double()
    x = torch.randn(5, 1, 3, dtype=torch.float64)

    def loss(out):
        return (out[0] * out[0].detach()).sum()

    notes = tt.check(tt.target_of(net, x, loss=loss), progress=False).notes
    assert any("that one is not the loss's" in note for note in notes), notes


@pytest.mark.parametrize("mistakes", [
    ("clipped_by_norm", "averaged_over_outputs", "derivative_missing h"),
    ("factor_half", "targets_shifted", "derivative_missing h"),
])  # fmt: skip
def test_an_l2_term_that_is_scaled_with_all_the_rest_is_neither_missing_nor_halved(mistakes):
    sizes = {"T": 2, "I": 2, "H": 2, "O": 8, "biases": False, "stored": "gate by gate, [h, x]"}
    reduced = {"time": "mean", "batch": "sum", "outputs": "mean", "decay": 0.05}
    s = Habits("RNN", "tanh", head="linear", seed=0, **sizes, **reduced)
    causes = tt.check(notebooks.target(s, mistakes, lengths=False), progress=False).causes
    assert not any("decay" in cause.fault for cause in causes)


def test_an_l2_term_beside_a_factor_of_all_and_one_of_the_rest():
    s = replace(GRU, decay=0.05, outputs="mean", O=3, B=1)
    mistakes = ("factor_two", "averaged_over_outputs", "weight_decay_doubled", "dh_next_missing")
    causes = tt.check(laid_out(s, *mistakes), progress=False).causes
    assert {cause.fault for cause in causes} == set(mistakes)


def test_a_common_factor_is_common_to_all_its_digits():
    """A clip by norm hides nothing of what a part of the blocks proves."""
    own = notebooks.target(LSTM)
    model = strangers.layout_of(LSTM).model(own.parameters)
    seen = seen_of(model, {n: 0.0123456789 * g for n, g in own.gradient().items()}, 1e-9)
    trial = Trial(model, seen, Budget(1))
    assert trial.strictly(trial()).wrong == 0


def test_what_a_stage_proves_is_contradicted_where_more_is_explained_without_it():
    """Faults with one gradient where nothing is handed on have several elsewhere."""
    model = strangers.layout_of(GRU).model(notebooks.target(GRU).parameters)
    true, other = (
        next(one for one in mutations(model, [fault]) if one.everywhere)
        for fault in ("dh_next_missing", "only_last_step_kept")
    )
    search = StagedSearch(model, seen_of(model, model.gradient((true,)), 1e-9), None, Budget(50))
    found = [search.trial(true)]
    assert found[0].complete
    assert search.contradicts(found, other.key)
    assert not search.contradicts(found, true.key)
    assert not search.contradicts([search.trial()], other.key)  # which explains nothing itself


def test_below_an_output_layer_that_starts_from_another_delta_a_part_proves_nothing():
    """One δ at every step is that of the last step, handed back by the share of h that is wrong."""
    s = replace(GRU, variant="after, z", head="softmax", answers="last step", layers=2, bias=0.0)
    s = replace(s, T=5, B=3, I=2, H=3, O=3, decay=0.05, scale=1.0, batch="mean", seed=700007)
    mistakes = ("bias_not_averaged", "current_h_for_previous", "states_for_inputs n")
    mistakes += ("last_cache_at_every_step", "output_gradient_at_every_step")
    causes = tt.check(laid_out(s, *mistakes), progress=False).causes
    assert {cause.fault for cause in causes} & set(mistakes)
    assert "update_gate_exchanged" not in {cause.fault for cause in causes}
