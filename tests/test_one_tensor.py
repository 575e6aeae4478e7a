"""One tensor is wrong and all others agree: δ is right, and the fault is in that tensor's line."""

import numpy as np
import pytest

import throughtime as tt
from corpus import notebooks
from corpus.notebooks import Habits
from small_networks import Small
from throughtime.diagnosis.clipping_and_decay import decayed_below, from_elsewhere
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.one_tensor import _counted_once, of_one_tensor
from throughtime.gradcheck import Budget

pytestmark = pytest.mark.usefixtures("experiments_alone")

PLACE = "operand_of_one_tensor"


def causes(mistake, *, lengths=True, T=6, **options):
    network = Small(mistake=mistake, **options)
    return tt.check(network.target(T, lengths), progress=False).causes


HEADS = [("squares", 1, True), ("squares", 3, False), ("none", 1, True), ("two layers", 2, True)]


@pytest.mark.parametrize(("head", "outputs", "bias"), HEADS)
@pytest.mark.parametrize(
    ("mistake", "where", "faults"),
    [
        ("one input late", "W", (PLACE,)),
        ("reversed", "W", ("time_reversed",)),
        ("current h", "U", ("current_h_for_previous",)),
    ],
)
def test_the_place_is_the_tensors_own_line(head, outputs, bias, mistake, where, faults):
    found = causes(mistake, head=head, outputs=outputs, bias=bias)
    assert tuple(cause.fault for cause in found) == faults
    (cause,) = found
    assert cause.where == where
    assert "δ is right" in cause.evidence[0]
    assert {"W", "U"} - {where} <= set(cause.evidence[0].replace(",", "").split())


def test_where_no_other_length_can_be_run_the_place_is_said():
    (cause,) = causes("one input late", lengths=False)
    assert cause.fault == PLACE
    assert "time_reversed" in cause.alternatives


def test_a_sum_of_which_one_step_is_left():
    (cause,) = causes("U overwritten", start=0.5)
    assert cause.fault == "only_last_step_kept"
    assert "U has 1 of 4 directions, as at T = 1" in cause.evidence[-1]


def test_with_a_zero_initial_state_what_is_left_is_zero():
    (cause,) = causes("U overwritten")
    assert cause.fault == "zero_gradient"
    assert cause.alternatives == ("only_last_step_kept",)


def test_rows_of_words_that_come_several_times():
    (cause,) = causes("rows", words=True, T=6)  # of the words 0 1 0 2 1 0
    assert cause.fault == "embedding_rows_counted_once"
    assert "E[0] of 3, E[1] of 2 steps" in cause.evidence[-1]


def test_rows_that_are_wrong_in_another_way_are_a_place():
    class Halved(Small):
        def gradient(self, T):
            found = super().gradient(T)
            found["E"][1] += 0.3 * found["E"][1][::-1]
            return found

    (cause,) = tt.check(Halved(words=True).target(6), progress=False).causes
    assert cause.fault == PLACE
    assert cause.alternatives[0] == "embedding_rows_counted_once"


def test_what_a_row_is_given_has_to_be_one_steps_share():
    n = np.array([[1.0], [1.0], [3.0]])  # shares 1, 0 and 2
    bars = np.full(1, 1e-9)
    for g, counted in ((1.0, {0: 2}), (2.0, {0: 2}), (1.5, {}), (3.0 + 1e-3, {})):
        seen = [(n[0], n[0], bars), (n[1], n[1], bars), (np.full(1, g), n[2], bars)]
        assert _counted_once(seen, np.ones(3), np.zeros(1, int)) == counted


@pytest.mark.parametrize("biases", [True, False])
def test_without_a_bias_nothing_tells_that_the_first_steps_delta_is_right(biases):
    habits = Habits("RNN", "tanh", "linear", "two", T=2, I=3, H=3, O=2, biases=biases)
    target = notebooks.target(habits, ("recurrent_untransposed",), lengths=True)
    values = {name: np.array(array) for name, array in target.parameters.items()}
    study = Study(target, values, Budget(20_000))
    observed = study.look()
    assert len(observed.wrong()) == (2 if biases else 1)
    assert of_one_tensor(observed, study, study.at(1)) is None
    named = {cause.fault for cause in tt.check(target, progress=False).causes}
    assert not named & {PLACE, "time_reversed", "sequences_swapped"}


@pytest.mark.parametrize("T", [1, 2])
def test_at_a_single_step_the_tensors_of_other_gates_do_not_see_a_gates_delta(T):
    own = {"stored": "gate by gate, [h, x]", "biases": False, "T": T, "I": 3, "H": 4, "O": 2}
    target = notebooks.target(Habits("LSTM", head="linear", **own), ("derivative_missing o",))
    bare = tt.Target(target.parameters, target.loss, target.gradient)  # T is not said
    report = tt.check(bare, progress=False)
    assert report.verdict == "disagree"
    assert report.causes == ()


def test_what_an_upper_layer_has_of_its_initial_state_alone_is_no_witness_below():
    own = {"stored": "[h, x]", "biases": False, "layers": 2, "states": True, "T": 2, "B": 2}
    own |= {"I": 4, "H": 4, "O": 5, "seed": 510051}
    habits = Habits("GRU", "before, z", "two layers", **own)
    target = notebooks.target(habits, ("lower_layer_overwritten",), lengths=False)
    report = tt.check(target, progress=False)
    assert report.verdict == "disagree"
    assert PLACE not in {cause.fault for cause in report.causes}


@pytest.mark.parametrize(
    ("mistake", "fault"),
    [
        ("reset_left_out_of_product", "wrong_operand_in_step"),
        ("states_for_inputs n", "another_layers_input"),
    ],
)
def test_what_one_gates_weights_are_multiplied_by_may_belong_elsewhere(mistake, fault):
    own = {"stored": "gate by gate", "T": 4, "I": 3, "H": 3, "O": 2, "B": 2}
    target = notebooks.target(Habits("GRU", "before, z", "linear", **own), (mistake,))
    bare = tt.Target(target.parameters, target.loss, target.gradient, steps=4)
    (cause,) = tt.check(bare, progress=False).causes
    assert cause.fault == PLACE
    assert fault in cause.alternatives


def test_an_l2_term_is_looked_for_in_tensors_that_disagree_alone(monkeypatch):
    """Each entry that is looked at takes losses, of which the place needs some too."""
    own = {"stored": "gate by gate", "T": 4, "I": 3, "H": 3, "O": 2, "decay": 0.05}
    target = notebooks.target(Habits("GRU", "before, z", "linear", **own), ("states_for_inputs n",))
    values = {name: np.array(array) for name, array in target.parameters.items()}
    study = Study(target, values, Budget(20_000))
    observed, looked = study.look(), []
    (wrong,) = observed.wrong()

    def look(self, values=None, parameters=None, places=None):
        looked.append(set(places or ()))

    monkeypatch.setattr(Study, "look", look)
    assert list(decayed_below(observed, study)) == []
    assert not from_elsewhere(observed, study)
    assert looked == [{wrong, *study.roles.output}, {wrong}]
