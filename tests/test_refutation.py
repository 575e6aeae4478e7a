"""Names that are refuted before they are given, and what is said where nothing is known."""

from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from helpers import fault_names
from throughtime.diagnosis import FAULTS
from throughtime.diagnosis.cause_search import CauseSearch
from throughtime.diagnosis.example_networks import LSTM, RNN, softmax
from throughtime.diagnosis.experiments import Reduction, Study
from throughtime.diagnosis.factor_meanings import KnownSizes, name_factor
from throughtime.diagnosis.factors import Ratio
from throughtime.diagnosis.faint_part import faint_part
from throughtime.diagnosis.localise import fault_candidate
from throughtime.diagnosis.observed import observe
from throughtime.diagnosis.refutation import Refutation
from throughtime.diagnosis.roles import Roles
from throughtime.diagnosis.what_would_tell import unknown
from throughtime.gradcheck.budget import Budget

pytestmark = pytest.mark.usefixtures("experiments_alone")

EXACT = 1e-9


def target_of(kind, T=5, *, lengths=True, layout=False, batch=False, loss=None, **sizes):
    """A network as a target, at other lengths or not, with a layout or not."""
    made = kind(T, start=0.0, **sizes)
    data = made.x, made.y

    def at(steps, B=made.B):
        def run(what):
            made.T, made.B = steps, B
            made.x, made.y = data[0][:steps, :B], data[1][:steps, :B]
            made.h0, made.c0 = np.zeros((B, 3)), np.zeros((B, 3))
            return what()

        known = {"at_length": at, "steps": steps} if lengths else {}
        if layout:
            known["layout"] = layout_of(kind, data[0][:steps], data[1][:steps])
        if batch:
            known["variants"] = {"at_batch": lambda B: at(steps, B)}
        return tt.Target(
            made.p,
            lambda: run(lambda: made.loss(made.forward())),
            lambda: run(made.gradient),
            **known,
        )

    return at(T)


def layout_of(kind, x, y):
    make = tt.layouts.lstm if issubclass(kind, LSTM) else tt.layouts.rnn
    order = {"order": "ifao"} if issubclass(kind, LSTM) else {}
    return make(
        x, y, W="W", U="U", b="b", head="V", head_bias="d", time="sum", batch="sum", **order
    )


def checked(*arguments, **options):
    return tt.check(target_of(*arguments, **options), progress=False)


def said(report):
    return " ".join([*report.notes, *(words for one in report.causes for words in one.evidence)])


# --- a factor is what predicts it ---


class MeanOfBatch(RNN):
    """The loss is a mean over the sequences; the backward pass sums."""

    def loss(self, outputs):
        return super().loss(outputs) / self.B


class Halved(RNN):
    def output_delta(self, outputs):
        return super().output_delta(outputs) / 2


def test_at_two_sequences_a_sum_over_them_and_a_two_are_given_together():
    report = checked(MeanOfBatch, B=2)
    (cause,) = report.causes
    assert {cause.fault, *cause.alternatives} == {"factor_two", "summed_over_batch"}
    assert cause.confidence <= 0.5
    assert "at_batch" in said(report)


def test_a_single_sequence_tells_a_sum_over_them():
    (cause,) = checked(MeanOfBatch, B=3, batch=True).causes
    assert (cause.fault, cause.alternatives) == ("summed_over_batch", ())
    assert "B = 3" in cause.statement
    assert "With a single sequence it is 1." in cause.evidence


@pytest.mark.parametrize(
    ("ratio", "known", "names"),
    [
        (2.0, {"outputs": 4}, {"factor_two", "summed_over_batch", "summed_over_steps"}),
        (2.0, {"steps": 6, "sequences": 3, "outputs": 4}, {"factor_two"}),
        (2.0, {"steps": 2, "sequences": 2}, {"summed_over_steps", "summed_over_batch"}),
        (0.5, {"steps": 2, "outputs": 3, "kind": "square"}, {"averaged_over_steps"}),
        (0.5, {"steps": 2, "outputs": 3, "kind": "square"}, {"half_squared_error"}),
        (8.0, {}, {"scaled", "summed_over_steps", "summed_over_batch"}),
        (8.0, {"steps": 8}, {"summed_over_steps"}),
        (4.0, {"steps": 4, "sequences": 1}, {"summed_over_steps", "factor_two"}),  # 2 · 2
        (0.25, {"steps": 4, "sequences": 2}, {"averaged_over_steps", "divided_by_batch"}),  # ½ · ½
    ],
)
def test_equal_readings_of_a_number_are_given_together(ratio, known, names):
    found = name_factor(Ratio(ratio, EXACT, True, 9), KnownSizes(**known))
    assert names <= {*found.faults, *found.alternatives}


def test_what_stays_the_same_with_T_is_not_T():
    eight = Ratio(8.0, EXACT, True, 9)
    found = name_factor(eight, KnownSizes(8, others={1: eight, 2: eight}))
    assert "summed_over_steps" not in (*found.faults, *found.alternatives)
    assert found.alternatives == ("summed_over_batch", "averaged_over_outputs")


def test_what_is_left_of_a_product_may_be_a_size_that_is_not_known():
    lengths = {T: Ratio(5.0 * T, EXACT, True, 9) for T in (1, 2)}
    found = name_factor(Ratio(30.0, EXACT, True, 9), KnownSizes(6, None, 3, others=lengths))
    assert found.faults == ("summed_over_steps", "scaled")
    assert found.of_one == {"scaled": ("summed_over_batch",)}


def test_a_loss_that_sums_over_the_sequences_is_no_mean_of_them():
    known = KnownSizes(6, 2, 3, "classes", total=12.0)
    found = name_factor(Ratio(2.0, EXACT, True, 9), known)
    assert (found.faults, found.alternatives) == (("factor_two",), ())


def test_a_mean_over_the_vocabulary_shows_in_the_weights_of_the_loss():
    known = KnownSizes(14, None, 4, "classes", total=14 / 4)
    found = name_factor(Ratio(4.0, EXACT, True, 9), known)
    assert (found.faults, found.alternatives) == (("averaged_over_outputs",), ())
    known = KnownSizes(14, None, 4, "classes", total=14.0)
    found = name_factor(Ratio(4.0, EXACT, True, 9), known)
    assert (found.faults, found.alternatives) == (("summed_over_batch",), ("scaled",))


@pytest.mark.parametrize(
    ("total", "steps", "sequences"),
    [(16.0, 4, 4), (12.0, 4, 3), (3.0, 4, 3), (4.0, 4, None), (1.0, 4, None)],
)
def test_the_sequences_that_a_loss_sums_over(total, steps, sequences):
    assert Reduction("classes", total).sequences(steps) == sequences


def test_terms_of_every_step_and_sequence_tell_how_many_there_are():
    target = target_of(MeanOfBatch, B=3)
    terms = replace(target, loss=lambda: np.full((5, 3), target.loss() / 15))
    (cause,) = tt.check(replace(terms, at_length=None), progress=False).causes
    assert (cause.fault, cause.alternatives) == ("summed_over_batch", ())


def test_of_equals_none_is_surer_than_its_share():
    (cause,) = checked(Halved, lengths=False).causes
    assert cause.alternatives
    assert cause.confidence <= 1 / (1 + len(cause.alternatives))


# --- the larger part first ---


class Epsilon(RNN):
    """The loss has an ε in its logarithm, of which the gradient knows nothing."""

    def loss(self, outputs):
        return float(-np.log((self.y * softmax(outputs)).sum(axis=-1) + 1e-6).sum())


class EpsilonAndMean(Epsilon):
    def output_delta(self, outputs):
        return super().output_delta(outputs) / self.T


class EpsilonAndNothingBack(Epsilon):
    def hand_back(self, t, dz):
        return np.zeros_like(self.h0)


def test_a_factor_comes_before_an_epsilon():
    causes = checked(EpsilonAndMean).causes
    assert causes[0].fault == "averaged_over_steps"
    assert causes[0].discrepancy_after < 1e-4 < causes[0].discrepancy_before


def test_what_does_not_come_back_is_seen_beside_an_epsilon():
    report = checked(EpsilonAndNothingBack)
    assert report.causes[0].fault != "output_layer"
    assert "different_loss" not in fault_names(report)
    assert "look for an ε in a logarithm" in said(report)


def test_a_factor_that_rounds_to_one_is_none():
    assert Ratio(1 + 1e-8, 0.0, True, 9).rounds_to_one
    assert Ratio(1.0004, 0.01, True, 9).rounds_to_one
    assert not Ratio(1.001, 1e-6, True, 9).rounds_to_one
    assert "scaled" not in fault_names(checked(Epsilon))


class SmallBias(RNN):
    """δh does not go back; and one bias, which is small beside the rest, is doubled."""

    def hand_back(self, t, dz):
        return 0.1 * super().hand_back(t, dz)

    def finished(self, d):
        return super().finished({**d, "d": 1.001 * d["d"]})


def test_a_cause_that_leaves_d_as_it_is_does_not_come_first():
    report = checked(SmallBias)
    assert fault_names(report)[-1] == "tensor_scaled"
    assert len(report.causes) == 2


def test_an_epsilon_that_one_error_bar_hides_is_left_alone_meanwhile():
    target = target_of(EpsilonAndNothingBack)
    study = Study(target, dict(target.parameters), Budget(2_000))
    seen = study.look()
    assert faint_part(seen, study) > 0
    hidden = replace(seen.sampled["d"], errors=seen.sampled["d"].errors + 1.0)
    beside = replace(seen, sampled={**seen.sampled, "d": hidden})
    assert "d" not in beside.wrong()
    assert faint_part(beside, study) == faint_part(seen, study)


# --- its own mutant ---


class Leaky(LSTM):
    """What comes back is a tenth too small, for which there is no name."""

    def back(self, t, dh, dc_next):
        dz, before, dc = super().back(t, dh, dc_next)
        return dz, 0.9 * before, dc


@pytest.fixture
def few_passes(monkeypatch):
    """Single mutants, and no more of their pairs than a few."""
    monkeypatch.setattr("throughtime.diagnosis.mutants.search.MOST_PASSES", 1)
    monkeypatch.setattr("throughtime.diagnosis.mutants.search.LEAST_PASSES", 100)


def test_a_name_whose_own_mutant_gives_another_gradient_is_not_given(few_passes):
    target = target_of(Leaky, layout=True)
    report = tt.check(target, progress=False)
    assert fault_names(report) == ["between_steps"]
    study = Study(target, dict(target.parameters), Budget(2_000))
    search = CauseSearch(study)
    search.run()
    seen = observe(target, budget=Budget())
    assert search.refutation.model is not None
    assert search.refutation.denies("dh_next_missing", seen)
    assert not Refutation(study).denies("dh_next_missing", seen)  # nothing to try it on


class NothingBack(LSTM):
    def hand_back(self, t, dz):
        return np.zeros_like(self.h0)


def test_a_name_whose_own_mutant_gives_the_gradient_stays(few_passes):
    target = target_of(NothingBack, layout=True)
    study = Study(target, dict(target.parameters), Budget(2_000))
    search = CauseSearch(study)
    search.run()
    assert [cause.fault for cause in search.causes] == ["dh_next_missing"]
    assert not search.refutation.denies("dh_next_missing", observe(target, budget=Budget()))


def test_of_a_refuted_name_the_place_is_left(few_passes, monkeypatch):
    def wrong_name(*_):
        return fault_candidate("dh_overwritten", "", 0.9, "At T = 1 it agrees.")

    monkeypatch.setattr("throughtime.diagnosis.cause_search.by_steps", wrong_name)
    assert fault_names(checked(Leaky)) == ["dh_overwritten"]
    (cause,) = checked(Leaky, layout=True).causes
    assert cause.fault == "between_steps"
    assert "dh_overwritten" not in cause.alternatives
    assert "It is not dh_overwritten" in cause.evidence[-1]


def test_what_is_read_off_small_numbers_is_refuted_too(few_passes, monkeypatch):
    def wrong_names(*_):
        return fault_candidate("gate_scaled", "gate f", 0.9, "At T = 1 it agrees.")

    monkeypatch.setattr("throughtime.diagnosis.cause_search.by_steps", wrong_names)
    assert fault_names(checked(Leaky)) == ["gate_scaled"]
    (cause,) = checked(Leaky, layout=True).causes
    assert (cause.fault, cause.where) == ("inside_a_step", "gate f")


# --- masks ---


class DeadGate(LSTM):
    """The forget gate has no gradient at all, and the loop's δc is doubled."""

    def back(self, t, dh, dc_next):
        dz, before, dc = super().back(t, dh, dc_next)
        dz = dz.copy()
        dz[:, :3] = 0
        return dz, before, dc


def test_a_gate_without_a_gradient_is_no_mask():
    assert "dropout_mask_redrawn" not in fault_names(checked(DeadGate))


class Redrawn(RNN):
    """One half of the units is dropped on the way there, the other half on the way back."""

    def see(self, h):
        return h * [1, 1, 0]

    def see_backward(self, ds):
        return np.asarray(ds * [0, 1, 1])


def test_units_that_show_both_symptoms_have_another_mask():
    assert "dropout_mask_redrawn" in fault_names(checked(Redrawn))


def test_what_a_layout_or_a_variant_says_of_masks_is_believed():
    target = target_of(Redrawn)
    same = replace(target, variants={"without_dropout": lambda: target})
    laid_out = replace(target, layout=target_of(RNN, layout=True).layout)
    for one in (same, laid_out):
        names = fault_names(tt.check(one, progress=False))
        assert names
        assert "dropout_mask_redrawn" not in names


# --- what would tell ---


def test_what_was_not_looked_for_is_said():
    plain = said(checked(Leaky, lengths=False))
    assert "at_length=" in plain
    assert "layout=" in plain
    assert "no known fault explains it" not in plain
    placed = checked(Leaky)
    assert FAULTS[placed.causes[0].fault].family
    assert "layout=" in said(placed)
    assert "`h0=`" in said(placed)
    assert "did not tell which network it is" in said(placed)
    assert "at_length=" not in said(placed)


def test_where_no_output_layer_is_known_it_is_asked_for():
    study = Study(target_of(Leaky), {}, Budget(9))
    for head, asked in (("V", False), (None, True)):
        vars(study)["roles"] = Roles(head)
        notes = unknown(["U"], study, beside=False, modelled=False)
        assert ("with `head=` where the output layer is no parameter" in " ".join(notes)) == asked


def test_no_known_fault_is_said_only_where_all_was_tried():
    target = target_of(Leaky, layout=True)
    study = Study(target, dict(target.parameters), Budget(100))
    (note,) = unknown(["U"], study, beside=False, modelled=True)
    assert note == "It is unknown why U differs: no known fault explains it."
    study.budget.count(100)
    assert "budget" in " ".join(unknown(["U"], study, beside=False, modelled=True))
    library = replace(target, at_length=None, layout=None)
    notes = unknown(["U"], Study(library, {}, Budget(9)), beside=True, modelled=False)
    start = "Besides what is named below, it is unknown why U differs: "
    assert notes[0] == start + "nothing tried explains it."
    assert "give `at_length=`" in notes[1]


def test_what_would_tell_can_be_pasted_in_one_line():
    own = replace(target_of(Leaky), at_length=None, steps=None)
    notes = unknown(["U"], Study(own, {}, Budget(9)), beside=False, modelled=False)
    line = notes[-1].split("`")[3]
    known = {"tt": tt, "T": 4, "inputs": np.ones((5, 2)), "targets": np.zeros(5, int)}
    known |= {"make_target": lambda inputs, targets: len(inputs)}
    pasted = eval(f"dict({line})", known)
    assert set(pasted) == {"steps", "at_length", "layout"}
    assert (pasted["steps"], pasted["at_length"](3)) == (4, 3)
    told = unknown(["U"], Study(replace(own, steps=4), {}, Budget(9)), beside=False, modelled=True)
    assert "steps=T" not in told[-1]
    assert "layout=" not in told[-1]


def test_numbers_alone_do_not_ask_for_what_they_cannot_have():
    g = {"U": np.arange(1.0, 9.0), "W": np.arange(5.0, 9.0)}
    n = {"U": np.arange(1.0, 9.0) ** 2, "W": np.cos(np.arange(4))}
    notes = " ".join(tt.compare(g, n).notes)
    assert "tt.check" in notes
    assert "at_length=" not in notes


def test_with_a_layout_the_loss_itself_refutes_readings_of_a_factor():
    """At T = B = 2: of the loss, a sum, it would be untrue that it is a mean over anything."""

    class Twice(RNN):
        def output_delta(self, outputs):
            return 2 * super().output_delta(outputs)

    (cause,) = checked(Twice, 2, B=2, layout=True).causes
    assert (cause.fault, cause.alternatives) == ("factor_two", ())
