"""The diagnosis: small implementations with mistakes, named by signatures and experiments."""

import dataclasses
import re

import numpy as np
import pytest

import corpus as implementations
import throughtime as tt
from helpers import fault_names
from throughtime.diagnosis import FAULTS, between_steps, single_step
from throughtime.diagnosis.cause_search import CauseSearch
from throughtime.diagnosis.example_networks import GRU
from throughtime.diagnosis.experiments import Study, reduction_of
from throughtime.diagnosis.factor_meanings import KnownSizes, name_factor
from throughtime.diagnosis.factors import Ratio, in_gates, number, ratio_of
from throughtime.diagnosis.observed import Observed, Sampled, spread
from throughtime.gradcheck.budget import Budget, Spent

pytestmark = pytest.mark.usefixtures("experiments_alone")


def diagnosed(style, cell, faults, **sizes):
    return tt.check(implementations.make(style, cell, faults, **sizes), progress=False)


BY_SIGNATURE = [
    ("concatenated", "LSTM", "averaged_over_steps"),
    ("gate_by_gate", "RNN", "summed_over_steps"),
    ("concatenated", "GRU", "divided_by_batch"),
    ("concatenated", "RNN", "divided_by_classes"),
    ("gate_by_gate", "LSTM", "factor_two"),
    ("concatenated", "RNN", "wrong_sign"),
    ("concatenated", "RNN", "averaged_over_outputs"),
    ("concatenated", "RNN", "half_squared_error"),
    ("concatenated", "RNN", "root_taken"),
    ("gate_by_gate", "LSTM", "bias_averaged"),
    ("concatenated", "LSTM", "tensor_scaled"),
    ("concatenated", "LSTM", "gate_scaled"),
    ("gate_by_gate", "RNN", "zero_gradient"),
    ("concatenated", "LSTM", "gates_permuted"),
    ("gate_by_gate", "GRU", "bias_of_gate_copied"),
    ("concatenated", "LSTM", "bias_of_gate_copied"),
    ("concatenated", "RNN", "gradient_transposed"),
    ("concatenated", "RNN", "weight_decay_missing"),
    ("gate_by_gate", "RNN", "weight_decay_doubled"),
    ("concatenated", "RNN", "clipped_by_value"),
    ("concatenated", "RNN", "clipped_by_norm"),
]

BY_EXPERIMENT = [
    ("concatenated", "RNN", "truncated"),
    ("concatenated", "RNN", "current_h_for_previous"),
    ("concatenated", "LSTM", "wrapped_initial_state"),
    ("gate_by_gate", "GRU", "wrapped_initial_state"),
    ("concatenated", "LSTM", "current_c_for_previous"),
    ("concatenated", "RNN", "states_off_by_one"),
    ("concatenated", "RNN", "time_reversed"),
    ("concatenated", "RNN", "sequences_swapped"),
    ("concatenated", "LSTM", "derivative_missing"),
    ("concatenated", "RNN", "derivative_of_activated_value"),
    ("concatenated", "LSTM", "gates_swapped_in_dc"),
    ("concatenated", "LSTM", "dc_next_missing"),
    ("concatenated", "LSTM", "dh_next_missing"),
    ("concatenated", "RNN", "softmax_derivative_twice"),
    ("concatenated", "GRU", "update_gate_term_missing"),
    ("concatenated", "LSTM", "projection_untransposed"),
    ("concatenated", "LSTM", "projection_skipped"),
    ("concatenated", "LSTM", "wrong_projection_operand"),
    ("concatenated", "RNN", "directions_swapped"),
    ("concatenated", "GRU", "direction_not_reversed"),
    ("concatenated", "RNN", "lower_layer_overwritten"),
]


@pytest.mark.parametrize(("style", "cell", "fault"), BY_SIGNATURE + BY_EXPERIMENT)
def test_a_fault_is_named(style, cell, fault):
    report = diagnosed(style, cell, fault)
    assert fault_names(report) == [fault]
    (cause,) = report.causes
    assert cause.evidence
    assert cause.page == fault.replace("_", "-")
    if (style, cell, fault) in BY_SIGNATURE:
        assert cause.discrepancy_after < 1e-6 < cause.discrepancy_before


class StateForgotten(GRU):
    def update_delta(self, s, dh):
        return -dh * s["n"]


class LastCacheInTheRecursion(GRU):
    def back(self, t, dh, dc_next):
        return super().back(self.T - 1, dh, dc_next)


class LastCache(LastCacheInTheRecursion):
    def accumulate(self, d, t, dz):
        own = self.tape[t] | {"r": self.tape[self.T - 1]["r"]}
        self.tape[t], kept = own, self.tape[t]
        super().accumulate(d, t, dz)
        self.tape[t] = kept


@pytest.mark.parametrize(
    ("kind", "start", "fault"),
    [
        (StateForgotten, 0.5, "update_gate_term_missing"),
        (StateForgotten, 0.0, "update_gate_term_missing"),
        (LastCache, 0.0, "last_cache_at_every_step"),  # of which the same gate's bias would tell
        (LastCacheInTheRecursion, 0.0, "between_steps"),  # no fault that is known
    ],
)
def test_an_update_gate_without_the_state_before(kind, start, fault):
    def target(T, p=None):
        network = kind(start=start)
        network.p = network.p if p is None else p
        network.T, network.x, network.y = T, network.x[:T], network.y[:T]
        own = network.target()
        return dataclasses.replace(own, at_length=lambda steps: target(steps, network.p))

    assert fault_names(tt.check(target(5), progress=False)) == [fault]


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("LSTM", "dh_overwritten"),
        ("RNN", "dh_overwritten"),
        ("LSTM", "only_last_step_kept"),
        ("RNN", "output_gradient_at_last_step_only"),
    ],
)
def test_two_steps_with_one_and_the_same_part_take_a_third(cell, fault):
    """Their targets are the same: at T = 2 nothing tells one from the other."""
    sizes = {"T": 6, "B": 2, "I": 3, "H": 4, "O": 3, "seed": 50}
    setting = implementations.setting.Setting(cell, **sizes)
    np.testing.assert_array_equal(*np.sort(setting.labels()[:2], axis=1))
    (cause,) = diagnosed("concatenated", cell, fault, **sizes).causes
    assert cause.fault == fault
    # An RNN's units that do not see each other have another state at each step.
    assert ("T = 2" if (cell, fault) == ("RNN", "dh_overwritten") else "T = 3") in cause.evidence[
        -1
    ]


def test_what_shows_late_in_the_output_layer_is_not_between_steps():
    """Shifted targets agree as long as all are the same."""
    sizes = {"T": 12, "B": 1, "I": 4, "H": 8, "O": 5, "seed": 74}
    (cause,) = diagnosed("gate_by_gate", "LSTM", "targets_shifted", **sizes).causes
    assert "It agrees up to T =" in cause.evidence[0]
    assert cause.fault == "output_layer"
    assert "targets_shifted" in cause.alternatives


def test_error_bars_of_both_lengths_count():
    """The first step's part, measured at T = 1, has an error bar of its own."""
    sizes = {"T": 12, "B": 1, "I": 4, "H": 8, "O": 5}
    assert fault_names(diagnosed("gate_by_gate", "GRU", "dh_next_missing", **sizes)) == [
        "dh_next_missing"
    ]


@pytest.mark.parametrize(
    ("fault", "experiment", "place"),
    [
        ("recurrent_untransposed", (between_steps, "predicted"), "between_steps"),
        ("derivative_missing", (single_step, "one_unit"), "inside_a_step"),
        ("softmax_derivative_twice", (single_step, "wrong_output"), "output_layer"),
    ],
)
def test_where_the_budget_ends_the_place_is_named(monkeypatch, fault, experiment, place):
    def spent(*_):
        raise Spent

    monkeypatch.setattr(*experiment, spent)
    (cause,) = diagnosed("concatenated", "RNN", fault).causes
    assert cause.fault == place
    assert "budget" in cause.evidence[-1]


@pytest.mark.parametrize("fault", ["factor_two", "tensor_scaled", "clipped_by_norm", "truncated"])
def test_in_float32_no_wrong_name_is_given(fault):
    report = diagnosed("concatenated", "RNN", fault, dtype="float32")
    assert all(
        fault in (cause.fault, *cause.alternatives) or FAULTS[cause.fault].family
        for cause in report.causes
    )


def test_of_two_faults_both_are_named():
    report = diagnosed("concatenated", "LSTM", ("averaged_over_steps", "bias_averaged"))
    assert set(fault_names(report)) == {"averaged_over_steps", "bias_averaged"}
    assert report.causes[-1].discrepancy_after < 1e-6


def test_a_factor_and_what_is_left_behind_it():
    report = diagnosed("concatenated", "LSTM", ("factor_two", "dc_next_missing"))
    assert fault_names(report) == ["factor_two", "dc_next_missing"]


def test_a_bias_divided_by_a_size_that_is_not_known():
    known = implementations.make("gate_by_gate", "RNN", "bias_averaged", B=1)
    target = tt.Target(known.parameters, known.loss, known.gradient)
    (cause,) = tt.check(target, progress=False).causes
    assert (cause.fault, cause.alternatives) == ("tensor_scaled", ("bias_averaged",))
    assert f"see whether T, B or T·B is {known.steps}" in " ".join(cause.evidence)


def test_a_size_that_is_not_known_is_simpler_than_two_faults():
    sixth = Ratio(1 / 6, 1e-9, True, 9)
    found = name_factor(sixth, KnownSizes(outputs=3, kind="classes"))  # 1/6 = ½ · 1/3
    assert found.faults == ("scaled",)
    assert "averaged_over_steps" in found.alternatives
    assert found.evidence[-1] == "0.166667 = 1/6: see whether T, B or another size is 6."
    assert name_factor(sixth, KnownSizes(6, outputs=3, kind="classes")).faults == (
        "averaged_over_steps",
    )
    third = name_factor(Ratio(1 / 3, 1e-9, True, 9), KnownSizes(outputs=3, kind="classes"))
    assert third.faults == ("divided_by_classes",)
    assert third.alternatives == ("averaged_over_steps", "divided_by_batch")


def test_a_copied_bias_of_which_not_all_entries_are_seen_is_no_wrong_cell_state():
    """At T = 1 the loss does not react to the forget gate's bias; nor to its weights, if these
    were wrong."""
    sizes = {"T": 6, "B": 2, "I": 3, "H": 4, "O": 3}
    target = implementations.make("concatenated", "LSTM", "bias_of_gate_copied", **sizes)
    study = Study(target, dict(target.parameters), Budget(2_000))
    search = CauseSearch(study)
    search.run()
    assert [cause.fault for cause in search.causes] == ["bias_of_gate_copied"]


def test_entries_are_shared_out():
    sizes = {"W": 100, "b": 16, "c": 3}
    parameters = {name: np.zeros(size) for name, size in sizes.items()}
    counts = lambda most: {n: len(p) for n, p in spread(parameters, most, 0).items()}  # noqa: E731
    assert counts(200) == sizes
    assert counts(60) == {"W": 41, "b": 16, "c": 3}
    assert counts(0) == {"W": 4, "b": 4, "c": 3}


def test_right_code_has_no_cause():
    report = diagnosed("concatenated", "LSTM", ())
    assert report.verdict == "agree"
    assert report.causes == ()


@pytest.mark.parametrize(("beside", "named"), [(0.0, ["softmax_derivative_twice"]), (0.1, [])])
def test_a_log_softmax_that_is_in_the_gradient_alone_is_named(beside, named):
    rng = np.random.default_rng(0)
    u, a = rng.standard_normal((4, 1, 3)), rng.random((4, 1, 3))
    z = {"log_probs": u - np.log(np.exp(u).sum(axis=2, keepdims=True))}

    def gradient():  # of −log Σ a p in every step, by the logits; or something near that
        p = np.exp(z["log_probs"])
        n = -a * p / (a * p).sum(axis=2, keepdims=True)
        return {"log_probs": n - p * n.sum(axis=2, keepdims=True) + beside * p**2}

    def loss():
        return -np.log((a * np.exp(z["log_probs"])).sum(axis=2)).sum()

    report = tt.check(tt.Target(z, loss, gradient), progress=False)
    assert [cause.fault for cause in report.causes] == named
    assert report.verdict == "disagree"


def test_raw_outputs_given_to_a_loss_of_log_probabilities_are_told():
    rng = np.random.default_rng(0)
    a, outputs = rng.random((4, 1, 3)), {"outputs": rng.standard_normal((4, 1, 3))}

    def gradient():  # of −log Σ a p, right where p adds up to 1, which nothing sees to here
        p = np.exp(outputs["outputs"])
        return {"outputs": p - a * p / (a * p).sum(axis=2, keepdims=True)}

    def loss():
        return -np.log((a * np.exp(outputs["outputs"])).sum(axis=2)).sum()

    report = tt.check(tt.Target(outputs, loss, gradient), progress=False)
    assert [cause.fault for cause in report.causes] == ["softmax_derivative_twice"]
    assert "Give the loss the log-softmax" in report.causes[0].evidence[0]


def test_what_no_fault_explains_is_unknown():
    w = np.linspace(-1, 1, 12).reshape(3, 4)
    target = tt.Target({"w": w}, lambda: np.sum(np.sin(w)), lambda: {"w": np.cos(w) + w**2})
    report = tt.check(target)
    assert report.verdict == "disagree"
    assert report.causes == ()
    assert any("unknown" in note for note in report.notes)


def test_without_a_diagnosis_none_is_made():
    target = implementations.make("concatenated", "RNN", "factor_two")
    assert tt.check(target, diagnose=False).causes == ()


def test_a_budget_holds_for_both_together():
    target = implementations.make("concatenated", "RNN", "dh_next_missing")
    alone = tt.check(target, diagnose=False).evaluations
    calls = []
    loss = target.loss
    counted = tt.Target(target.parameters, lambda: calls.append(1) or loss(), target.gradient)
    tt.check(counted, evaluations=alone + 50)
    assert len(calls) <= alone + 50 + 20  # losses of the preflight, and those before gradients


def test_parameters_are_left_bit_for_bit():
    target = implementations.make("concatenated", "GRU", "dh_next_missing")
    before = {name: array.copy() for name, array in target.parameters.items()}
    tt.check(target)
    for name, array in target.parameters.items():
        np.testing.assert_array_equal(array.view("u8"), before[name].view("u8"))


def test_code_that_breaks_at_other_points_spoils_no_report():
    target = implementations.make("concatenated", "RNN", "dh_next_missing")
    loss = target.loss

    def touchy():
        if not target.parameters["Wy"].any():
            raise RuntimeError("no weights")
        return loss()

    report = tt.check(tt.Target(target.parameters, touchy, target.gradient))
    assert report.verdict == "disagree"
    assert report.causes == ()


def test_roles_are_read_off_the_loss():
    target = implementations.make("concatenated", "LSTM", T=5, I=2, H=3, O=4)
    roles = Study(target, dict(target.parameters), Budget()).roles
    assert (roles.head, roles.head_bias) == ("Wy", "by")
    assert (roles.matrices, roles.vectors, roles.units) == (("W1",), ("b1",), 3)
    np.testing.assert_array_equal(roles.recurrent["W1"], np.arange(5)[:, None] < [3] * 12)


def test_a_projection_is_no_output_layer_and_no_input_weights():
    target = implementations.make("concatenated", "LSTM", T=5, I=2, H=3, O=4, projection=True)
    roles = Study(target, dict(target.parameters), Budget()).roles
    assert (roles.head, roles.projection, roles.seen, roles.units) == ("Wy", "R1", 2, 3)


def test_two_directions_are_seen_through_a_half_each():
    one = implementations.make("concatenated", "GRU", bidirectional=True)
    sides = Study(one, dict(one.parameters), Budget()).sides
    assert sides is not None
    assert {*sides.one, *sides.other} == set(one.parameters) - {"Wy", "by"}
    other = implementations.make("concatenated", "GRU", layers=2)
    assert Study(other, dict(other.parameters), Budget()).sides is None


def test_an_output_bias_is_found_where_all_classes_are_equally_frequent():
    target = implementations.make("concatenated", "RNN", T=6, B=2, O=3, seed=52)
    counts = np.bincount(
        implementations.setting.Setting("RNN", T=6, B=2, O=3, seed=52).labels().ravel()
    )
    assert set(counts) == {4}
    assert Study(target, dict(target.parameters), Budget()).roles.head_bias == "by"


@pytest.mark.parametrize(
    ("setting", "kind", "total"),
    [
        ({"time": "sum", "batch": "sum"}, "classes", 12),
        ({"time": "mean", "batch": "mean"}, "classes", 1),
        ({"time": "mean", "batch": "sum"}, "classes", 2),
        ({"task": "regression"}, "square", None),
        ({"task": "regression", "root": True}, "root", None),
    ],
)
def test_the_reduction_is_read_off_the_loss(setting, kind, total):
    target = implementations.make("concatenated", "RNN", T=6, B=2, **setting)
    study = Study(target, dict(target.parameters), Budget())
    found = reduction_of(study, study.roles)
    assert found.kind == kind
    assert total is None or found.total == pytest.approx(total, rel=1e-6)


def test_causes_are_in_the_table_the_json_and_the_page(tmp_path):
    report = diagnosed("concatenated", "RNN", "averaged_over_steps", T=7)
    assert "Your backward pass divides by T = 7; your loss does not." in str(report)
    assert report.as_dict()["causes"][0]["fault"] == "averaged_over_steps"
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    report.to_html(tmp_path / "report.html")
    assert "averaged_over_steps" in (tmp_path / "report.html").read_text("utf-8")


def test_every_fault_reads_as_a_sentence_without_facts():
    for name, fault in FAULTS.items():
        assert fault.name == name
        for sentence in fault.said():
            assert sentence.endswith(".")
            assert not re.search(r"\{\w+\}", sentence)


def test_every_mistake_of_the_implementations_has_a_name():
    assert set(implementations.FAULTS) <= set(FAULTS)


def test_a_ratio_fits_only_where_all_entries_do():
    n = np.array([1.0, -2.0, 3.0])
    bars = np.full(3, 1e-6)
    assert ratio_of(n / 39, n, bars).is_near(1 / 39)
    assert not ratio_of(np.array([1.0, -2.0, 3.1]), n, bars).fits
    assert number(39.0002, 0.4) == "39.0 ± 0.4"


# --- what is left once a fault is undone ---


def looked_at(z, bar=1e-3):
    """An observation of one tensor whose entries differ by so many error bars."""
    z = np.asarray(z, float)
    n = np.ones(z.size)
    sampled = Sampled(np.arange(z.size), n, np.full(z.size, bar), np.zeros(z.size))
    return Observed({"W": n + z * bar}, {"W": sampled}, {"W": n})


def test_few_entries_that_differ_by_little_are_doubted():
    assert list(looked_at([1, 5, -6, 0]).doubtful()["W"]) == [1, 2]
    assert not looked_at([1, 2, 3]).doubtful()
    assert not looked_at([5, 50]).doubtful()  # one of them is clear
    assert not looked_at([5] * 9).doubtful()


@pytest.mark.parametrize(
    ("second", "bar", "wrong"),
    [
        (0.0, 1e-3, True),  # measures the same
        (5.0, 1e-3, False),  # agrees with the gradient
        (1.0, 1.0, False),  # tells nothing
        (0.0, np.inf, False),
        (-1.0, 1e-4, True),  # is the better of the two
    ],
)
def test_what_is_left_takes_two_witnesses(second, bar, wrong):
    first = looked_at([1, 5, 0])
    numerical = np.array([1 + second * 1e-3])
    again = Sampled(np.array([1]), numerical, np.array([bar]), np.zeros(1))
    both = first.with_second(dataclasses.replace(first, sampled={"W": again}))
    assert bool(both.wrong()) == wrong
    np.testing.assert_allclose(both.z("W")[[0, 2]], first.z("W")[[0, 2]])


def test_a_block_that_was_not_looked_at_may_be_wrong_too():
    g = np.ones((8, 2))
    g[:2] = 1.5
    n = np.ones(16)
    places = np.array([0, 1, 2, 3])  # of the first block of four
    bars = np.full(4, 1e-6)
    some = Observed({"W": g}, {"W": Sampled(places, n[:4], bars, 0 * bars)}, {"W": g})
    assert list(in_gates(some, None)) == []
    places, bars = np.arange(16), np.full(16, 1e-6)
    whole = Observed({"W": g}, {"W": Sampled(places, n, bars, 0 * bars)}, {"W": g})
    (found,) = in_gates(whole, None)
    assert found.where == "block 1 of 4 of W"


@pytest.mark.parametrize("left_out", [(3,), (0, 4)])
def test_rows_that_are_left_out_are_named(left_out):
    """As by `padding_idx`, or by `if word:`; all else is right."""
    rng = np.random.default_rng(1)
    words, targets = rng.integers(5, size=(12, 2)), rng.standard_normal((12, 2, 3))
    layers = [tt.Embedding(5, 4), tt.GRU(4, 3)]
    net = tt.Network(layers, tt.MeanSquaredError(), dtype="float64", seed=0)

    def gradient():
        found = {name: np.array(g) for name, g in net.loss_and_gradient(words, targets)[1].items()}
        found["0.E"][list(left_out)] = 0
        return found

    target = tt.Target(net.parameters, lambda: net.evaluate(words, targets).value, gradient)
    report = tt.check(target)
    (cause,) = report.causes
    rows = "row 3" if left_out == (3,) else "rows 0, 4"
    assert cause.fault == "zero_gradient"
    assert cause.statement == (
        f"Your gradient of {rows} of 0.E is exactly 0; the loss depends on it."
    )
    assert any(
        "`padding_idx` of an embedding, where −1 means the last row" in e for e in cause.evidence
    )
