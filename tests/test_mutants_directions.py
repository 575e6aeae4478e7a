"""Mutants of projected and two-directional networks: their own faults, and everybody's."""

import dataclasses

import numpy as np
import pytest

import throughtime as tt
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants import explain, mutants
from throughtime.diagnosis.mutants.mutations import mutations

ALIKE = 1e-7  # gradients that are one
NETWORKS = {
    "projection": [tt.LSTM(3, 5, projection=4), tt.Dense(4, 3)],
    "square projection": [tt.LSTM(3, 4, projection=4), tt.Dense(4, 3)],
    "two directions": [tt.GRU(3, 4, bidirectional=True), tt.Dense(8, 3)],
    "two directions, two layers": [
        tt.RNN(3, 3, bidirectional=True),
        tt.RNN(6, 3, bidirectional=True),
        tt.Dense(6, 3),
    ],
    "both": [tt.LSTM(3, 4, projection=2, bidirectional=True), tt.Dense(4, 3)],
}
OWN = {
    *("projection_untransposed", "projection_skipped", "wrong_projection_operand"),
    *("directions_swapped", "direction_not_reversed"),
}
SHOWN = {
    "projection": {"projection_untransposed", "projection_skipped", "wrong_projection_operand"},
    "square projection": {
        *("projection_untransposed", "projection_skipped", "wrong_projection_operand"),
    },
    "two directions": {"directions_swapped", "direction_not_reversed"},
    "two directions, two layers": {
        *("directions_swapped", "direction_not_reversed", "lower_layer_overwritten"),
    },
    "both": OWN,
}


def made(name):
    """(the target, its model) of a network with initial states, without a fault."""
    net = tt.Network(NETWORKS[name], tt.SoftmaxCrossEntropy(time="sum"), dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    for array in net.parameters.values():
        array += 0.2 * rng.normal(size=array.shape)
    x, y = rng.normal(size=(5, 2, 3)), rng.integers(0, 3, (5, 2))
    state = {n: 0.5 * rng.normal(size=s.shape) for n, s in net.run(x).state.items()}
    target = tt.target_of(net, x, y, state=state)
    return target, model_from_target(target).model


def apart(one, other):
    return max(np.abs(one[name] - other[name]).max() for name in one)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_has_the_faults_of_its_own(name):
    _, model = made(name)
    right = model.gradient()
    found = {m.faults[0] for m in mutants(model) if apart(m.gradient, right) > ALIKE}
    assert OWN & SHOWN[name] == OWN & found
    assert SHOWN[name] <= found
    assert {"dh_next_missing", "time_reversed", "current_h_for_previous"} <= found


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fault_of_its_own_is_named_wherever_it_is(name):
    _, model = made(name)
    for fault in SHOWN[name]:
        first, *_, last = [*mutants(model, [fault])] * 2
        for mutant in {first.where: first, last.where: last}.values():
            (match,) = explain(model, mutant.gradient)
            assert match.faults == mutant.faults, mutant.where
            assert not match.unexplained
            assert match.after < 1e-9 < match.before
            assert match.found[0].where == mutant.where[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fault_of_one_layer_or_direction_is_named_there(name):
    _, model = made(name)
    for fault in ("dh_next_missing", "time_reversed", "derivative_missing"):
        *_, mutant = mutants(model, [fault])  # the last one is the most particular
        match = explain(model, mutant.gradient)[0]
        assert (match.faults, match.found[0].where) == (mutant.faults, mutant.where[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_right_code_has_no_fault(name):
    target, model = made(name)
    assert explain(model, target.gradient()) == []


def test_gradients_handed_over_for_the_other_direction():
    target, model = made("both")
    gradient = {name: array.copy() for name, array in target.gradient().items()}
    gradient["0.W"], gradient["0.1.W"] = gradient["0.1.W"], gradient["0.W"]
    (match,) = explain(model, gradient)
    assert match.faults == ("directions_swapped",)
    assert match.found[0].where == "0.W, 0.1.W"


def test_a_projections_gradient_is_no_gates():
    """R stands beside the gates: what concerns gate i alone leaves it as it is."""
    target, model = made("projection")
    gradient = {name: array.copy() for name, array in target.gradient().items()}
    for name in ("0.W", "0.U", "0.b"):
        gradient[name][:5] *= 1.5
    (match,) = explain(model, gradient)
    assert (match.faults, match.found[0].where) == (("gate_scaled",), "gate i")
    (match,) = explain(model, {**target.gradient(), "0.R": 3 * target.gradient()["0.R"]})
    assert (match.faults, match.found[0].where) == (("tensor_scaled",), "0.R")


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("both", {"projection_skipped", "direction_not_reversed"}),
        ("two directions", {"directions_swapped", "direct_path_missing"}),
        ("projection", {"wrong_projection_operand", "dc_next_missing"}),
    ],
)
def test_two_at_once(name, faults):
    _, model = made(name)
    chosen = {mutation.fault: mutation for mutation in reversed(mutations(model, faults))}
    gradient = model.gradient(chosen.values())
    assert set(explain(model, gradient)[0].faults) == faults


def test_a_check_says_it_in_words():
    target, model = made("both")
    wrong = next(m for m in mutants(model, ["direction_not_reversed"]))
    tested = dataclasses.replace(target, gradient=lambda: wrong.gradient)
    report = tt.check(tested, effort="quick", progress=False)
    (cause,) = report.causes
    assert cause.fault == "direction_not_reversed"
    assert cause.statement.endswith("is not reversed in time: δh of the outputs.")
    assert cause.page == "direction-not-reversed"
