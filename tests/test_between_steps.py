"""Faults between steps, without a layout: what each predicts where the network is known."""

from types import SimpleNamespace

import numpy as np
import pytest

import throughtime as tt
from throughtime.diagnosis import between_steps
from throughtime.diagnosis.example_networks import GRU, LSTM, RNN, H, O
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.predicted import predicted
from throughtime.diagnosis.simple_network import read
from throughtime.gradcheck.budget import Budget

pytestmark = pytest.mark.usefixtures("experiments_alone")


def with_lengths(network, T=6, parameters=None):
    """A network as a target that can be run at other lengths."""
    p = network.p if parameters is None else parameters
    x, y = network.x, network.y

    def at(steps):
        if steps > T:
            raise ValueError("no data")

        def run(what):
            network.T, network.x, network.y = steps, x[:steps], y[:steps]
            return what()

        def loss():
            return run(lambda: network.loss(network.forward()))

        return tt.Target(p, loss, lambda: run(network.gradient), at_length=at, steps=steps)

    return at(T)


def from_zero(network, T=6, parameters=None):
    """The same, with states that begin at 0."""
    network.h0, network.c0 = 0 * network.h0, 0 * network.c0
    return with_lengths(network, T, parameters)


def first_cause(target):
    report = tt.check(target, progress=False)
    assert report.verdict == "disagree"
    return report.causes[0]


def study_of(target):
    values = {name: np.array(array) for name, array in target.parameters.items()}
    return Study(target, values, Budget())


# --- what T = 1 cannot show ---


class ForgetSlope(LSTM):
    def gate_deltas(self, s, dh, dc):
        di, df, da, do = super().gate_deltas(s, dh, dc)
        return di, df / (1 - s["f"]), da, do


class WithoutForget(LSTM):
    def back(self, t, dh, dc_next):
        dz, dh, dc = super().back(t, dh, dc_next)
        return dz, dh, dc / self.tape[t]["f"]


class InputForForget(LSTM):
    def back(self, t, dh, dc_next):
        dz, dh, dc = super().back(t, dh, dc_next)
        return dz, dh, dc / self.tape[t]["f"] * self.tape[t]["i"]


class ResetSlope(GRU):
    def hand_back(self, t, dz):
        r = self.tape[t]["r"]
        dz[:, :H] /= 1 - r
        return super().hand_back(t, dz)


@pytest.mark.parametrize(
    ("network", "place"),
    [
        (ForgetSlope, "gate f"),
        (WithoutForget, "δc"),
        (InputForForget, "δc"),
        (ResetSlope, "gate r"),
    ],
)
def test_a_fault_whose_operand_is_the_first_state_is_found_in_its_place(network, place):
    cause = first_cause(from_zero(network(6)))
    assert cause.fault not in ("last_cache_at_every_step", "term_counted_twice", "wrong_matrix")
    assert place in " ".join((cause.where, *cause.evidence))


# --- what is right at T = 2 and wrong at T = 3 ---


class Stale(RNN):
    """One pass back from every loss, to which what earlier passes left behind is added."""

    def walk(self, dy, d):
        left = np.zeros((self.T, *self.h0.shape))
        for last in range(self.T):
            dh = np.zeros_like(self.h0)
            for t in reversed(range(last + 1)):
                arrived = dh + left[t]
                left[t] = arrived
                dz = self.delta(self.tape[t], arrived + (dy[t] if t == last else 0))
                self.accumulate(d, t, dz)
                dh = self.hand_back(t, dz)
        return np.zeros_like(self.x)


class OverThreeSteps(RNN):
    """The loss of every step is carried back over three steps, its own among them."""

    def walk(self, dy, d):
        for last in range(self.T):
            dh = dy[last]
            for t in reversed(range(max(0, last - 2), last + 1)):
                dz = self.delta(self.tape[t], dh)
                self.accumulate(d, t, dz)
                dh = self.hand_back(t, dz)
        return np.zeros_like(self.x)


class Windows(RNN):
    def hand_back(self, t, dz):
        return 0 * dz if t % 2 == 0 else super().hand_back(t, dz)


def test_what_is_added_is_not_cut_off():
    cause = first_cause(from_zero(Stale(6)))
    assert cause.fault == "between_steps"
    assert "truncated" not in cause.alternatives
    told = "step 2 says by way of step 1 counts 2 times. Everything else counts once"
    assert told in cause.evidence[-1]


@pytest.mark.parametrize(("network", "k"), [(OverThreeSteps, 3), (Windows, 2)])
def test_a_truncation_predicts_what_is_cut_off(network, k):
    cause = first_cause(from_zero(network(6)))
    assert cause.fault == "truncated"
    assert f"stops after {k} steps" in cause.statement
    assert "predicts" in cause.evidence[-1]


# --- what is added beside it ---


class PenalisedToo(RNN):
    """Something happens to δ on its way, and the gradient has an L2 term, the loss none."""

    decay = 0.1

    def hand_back(self, t, dz):
        return 0.9 * super().hand_back(t, dz)

    def finished(self, d):
        return d | {name: d[name] + self.decay * self.p[name] for name in "WUV"}


@pytest.mark.parametrize("decay", [1e-4, 0.1])
def test_a_penalty_is_found_beside_another_fault(decay):
    network = PenalisedToo(5)
    network.decay = decay
    report = tt.check(from_zero(network, 5), progress=False)
    found = {cause.fault: cause for cause in report.causes}
    assert set(found) == {"weight_decay_only_in_gradient", "between_steps"}
    assert found["weight_decay_only_in_gradient"].where == "W, U, V"
    assert "The output layer, V, d, agrees." in found["between_steps"].evidence


class StabilisedGradient(RNN):
    """The gradient is that of a loss with a penalty of the states, which is not returned."""

    def walk(self, dy, d):
        return super().walk(dy + 0.1 * np.stack(self.h[1 : self.T + 1]), d)


def test_a_penalty_of_the_states_is_no_fault_of_a_step():
    report = tt.check(from_zero(StabilisedGradient(5), 5), progress=False)
    assert report.causes == ()
    (told,) = [note for note in report.notes if "a term that your loss does not have" in note]
    assert told.startswith("With V at 0, your loss does not react to what lies below")
    assert "in W, U, b." in told


def test_a_wrong_output_layer_is_named_beside_it():
    class WrongToo(StabilisedGradient):
        def finished(self, d):
            return super().finished(d | {"V": d["V"] + 0.1 * self.p["V"] ** 2, "d": d["d"] + 0.3})

    report = tt.check(from_zero(WrongToo(5), 5), progress=False)
    assert any("a term that your loss does not have" in note for note in report.notes)
    assert report.causes[0].fault == "output_layer"


# --- the error of the outputs ---


class AtTheEnd(RNN):
    def loss(self, outputs):
        return float(((outputs[-1] - self.y[-1]) ** 2).sum())

    def output_delta(self, outputs):
        dy = np.zeros_like(outputs)
        dy[-1] = 2 * (outputs[-1] - self.y[-1])
        return dy


class SentInEverywhere(AtTheEnd):
    """The output layer has a line of its own, and is right."""

    def see_backward(self, dseen):
        return np.broadcast_to(dseen[-1], dseen.shape)


class NothingBackAtTheEnd(AtTheEnd):
    def hand_back(self, t, dz):
        return 0 * dz


def test_the_error_of_the_last_step_is_sent_in_at_every_step_with_the_head_right():
    cause = first_cause(from_zero(SentInEverywhere(6)))
    assert cause.fault == "output_gradient_at_every_step"
    assert "The output layer, V, d, agrees." in cause.evidence


def test_faults_that_predict_the_same_are_given_together():
    """Where the loss looks at the last step alone, that step is all that is left."""
    cause = first_cause(from_zero(NothingBackAtTheEnd(6)))
    assert cause.fault == "dh_next_missing"
    assert "only_last_step_kept" in cause.alternatives
    assert cause.confidence < 0.6


# --- faults of the way back ---


class InputWeightsBack(RNN):
    def hand_back(self, t, dz):
        return dz @ self.p["W"]


class NothingBack(RNN):
    def hand_back(self, t, dz):
        return 0 * dz


@pytest.mark.parametrize(
    ("network", "fault"),
    [(InputWeightsBack, "wrong_matrix"), (NothingBack, "dh_next_missing")],
)
def test_other_weights_tell_a_wrong_matrix_from_none(network, fault):
    """W is square; at points where it is 0 both lose all that comes back."""
    square = network(6, features=H)
    square.x = np.random.default_rng(2).standard_normal((6, 2, H))
    cause = first_cause(from_zero(square))
    assert (cause.fault, cause.alternatives) == (fault, ())


class Cut(RNN):
    def hand_back(self, t, dz):
        return np.clip(super().hand_back(t, dz), -0.05, 0.05)


def test_what_no_fault_predicts_is_a_place_without_the_faults_that_were_tried():
    cause = first_cause(from_zero(Cut(6)))
    assert cause.fault == "between_steps"
    assert not cause.alternatives
    assert "δh as a step hands it to the one before has other values" in cause.evidence[-1]


# --- heads and biases ---


def series(outputs, *, biased=True, head=True, T=6):
    """An RNN on a single sequence with nothing handed back, written with columns."""
    rng = np.random.default_rng(0)
    p = {"W": rng.standard_normal((4, 3)), "U": 0.5 * rng.standard_normal((4, 4))}
    p |= {"b": rng.standard_normal((4, 1))} if biased else {}
    p |= {"V": rng.standard_normal((outputs, 4))} if head else {}
    x, y = rng.standard_normal((12, 3, 1)), rng.standard_normal((12, outputs, 1))
    weights = rng.standard_normal((12, 4, 1))

    def states(steps):
        h = [np.zeros((4, 1))]
        for t in range(steps):
            h.append(np.tanh(p["W"] @ x[t] + p["U"] @ h[-1] + p.get("b", 0)))
        return h

    def loss(steps):
        h = states(steps)[1:]
        if not head:
            return sum(float((weights[t] * h[t]).sum()) for t in range(steps))
        return sum(float(((p["V"] @ h[t] - y[t]) ** 2).sum()) / 2 for t in range(steps))

    def gradient(steps):
        h, d = states(steps), {name: np.zeros_like(array) for name, array in p.items()}
        for t in range(steps):
            dh = weights[t]
            if head:
                error = p["V"] @ h[t + 1] - y[t]
                d["V"] += error @ h[t + 1].T
                dh = p["V"].T @ error
            dz = dh * (1 - h[t + 1] ** 2)
            d["W"] += dz @ x[t].T
            d["U"] += dz @ h[t].T
            if biased:
                d["b"] += dz
        return d

    def at(steps):
        if steps > T:
            raise ValueError("no data")
        return tt.Target(p, lambda: loss(steps), lambda: gradient(steps), at_length=at, steps=steps)

    return at(T)


@pytest.mark.parametrize(
    "setting",
    [
        {"outputs": 3, "biased": False},
        {"outputs": 1},
        {"outputs": 1, "biased": False},
        {"outputs": 1, "head": False},
    ],
    ids=str,
)
def test_one_output_no_biases_or_no_head_hide_nothing(setting):
    assert first_cause(series(**setting)).fault == "dh_next_missing"


# --- how a target is read ---


def by_unit(p):
    """The rows of every gated tensor sorted by unit first, and then by gate."""
    order = np.arange(4 * H).reshape(4, H).T.reshape(-1)
    return {name: array[order] if name in "WUb" else array for name, array in p.items()}, order


class ByUnit(LSTM):
    def __init__(self, T):
        super().__init__(T)
        self.own, self.order = by_unit(self.p)

    def forward(self):
        for name in "WUb":
            self.p[name][self.order] = self.own[name]
        return super().forward()

    def gradient(self):
        d = super().gradient()
        return {name: array[self.order] if name in "WUb" else array for name, array in d.items()}


@pytest.mark.parametrize(
    ("network", "cell", "letters"),
    [(RNN, "RNN", "s"), (LSTM, "LSTM", "ifao"), (GRU, "GRU", "rzn")],
)
def test_a_target_is_read_as_the_cell_that_it_is(network, cell, letters):
    (found,) = read(study_of(from_zero(network(4), 4)))
    kind = found.reading.kind
    assert (type(kind.cell).__name__, kind.letters) == (cell, letters)
    assert found.reading.order == tuple(range(len(letters)))
    assert found.at(3).model.forward().y.shape == (3, 1, min(O, 2))


def test_gates_may_lie_in_turn_for_every_unit():
    network = ByUnit(4)
    (found,) = read(study_of(from_zero(network, 4, network.own)))
    assert found.reading.wires.by_unit
    assert found.reading.order == (0, 1, 2, 3)


def test_a_state_that_does_not_begin_at_zero_is_not_read():
    assert not list(read(study_of(with_lengths(LSTM(4), 4))))


def test_right_code_is_wrong_nowhere():
    told = predicted(study_of(from_zero(LSTM(5), 5)), 1)
    assert not told.wrong
    assert not told.found


class AddedUp(LSTM):
    """The forward pass adds every step's recurrent product to those before; backward does not."""

    def step(self, x):
        total = sum(self.h)
        before, self.h[-1] = self.h[-1], total
        super().step(x)
        self.h[-2] = before
        self.tape[-1]["h_before"] = before


def test_a_forward_pass_that_accumulates_is_no_truncation():
    cause = first_cause(from_zero(AddedUp(6)))
    assert (cause.fault, cause.alternatives) == ("between_steps", ())
    assert "that of an LSTM up to T = 2, and not at T = 3" in cause.evidence[-1]


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        (("E", "W", "b"), set()),  # the last layer is right: what was taken for another is none
        (("V", "W"), {"V", "W"}),
        (("d",), {"d"}),
        (("U",), set()),
    ],
)
def test_the_output_layer_is_wrong_where_its_last_one_is(wrong, wanted):
    roles = SimpleNamespace(output=("V", "d", "W", "b"), head="V", head_bias="d")
    observed = SimpleNamespace(wrong=lambda: wrong)
    assert between_steps._wrong_output(observed, SimpleNamespace(roles=roles)) == wanted
