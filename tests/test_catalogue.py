"""Faults of strangers' code: hand-written networks with one mistake each, and what a layout says.

Columns and single sequences, a matrix for each gate, as such programs have them. Every mistake is
written down in the program, and not put into our own backward pass.
"""

import numpy as np
import pytest

import throughtime as tt
from throughtime.diagnosis import FAULTS
from throughtime.diagnosis.cause_search import CauseSearch
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants import explain, mutants
from throughtime.diagnosis.one_unit import one_unit
from throughtime.diagnosis.simple_points import SimplePoints
from throughtime.gradcheck import Budget

pytestmark = pytest.mark.usefixtures("experiments_alone")

T, I, H, O = 5, 3, 4, 3  # noqa: E741


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(y):
    e = np.exp(y - y.max())
    return e / e.sum()


class Program:
    """A network on one sequence; `fault` says which line of the backward pass is wrong."""

    gates = ""

    def __init__(self, fault="", layers=1, steps=T):
        self.fault, self.layers, self.T = fault, layers, steps
        rng = np.random.default_rng(1)
        self.x = rng.standard_normal((12, I if layers == 1 else H))
        self.y = rng.integers(0, O, 12)
        self.p = {}
        for layer in range(layers):
            mark = str(layer) if layers > 1 else ""
            for g in self.gates:
                self.p[f"W{g}{mark}"] = 0.7 * rng.standard_normal((H, self.x.shape[1]))
                self.p[f"U{g}{mark}"] = 0.7 * rng.standard_normal((H, H))
                self.p[f"b{g}{mark}"] = 0.7 * rng.standard_normal(H)
        self.p["V"] = 0.7 * rng.standard_normal((O, H))
        self.p["d"] = 0.7 * rng.standard_normal(O)

    def __call__(self, *names):
        """Whether one of these faults was asked for."""
        return self.fault in names

    def forward(self):
        self.tapes, xs = [], self.x[: self.T]
        for layer in range(self.layers):
            mark = str(layer) if self.layers > 1 else ""
            own = {name: self.p[name + mark] for name in self.names()}
            tape, h, c = [], np.zeros(H), np.zeros(H)
            for x in xs:
                step = self.step(own, x, h, c)
                h, c = step["h"], step.get("c", c)
                tape.append(step)
            self.tapes.append((own, tape))
            xs = [step["h"] for step in tape]
        return [self.p["V"] @ h + self.p["d"] for h in xs]

    def names(self):
        return [kind + g for kind in "WUb" for g in self.gates]

    def loss(self):
        return -sum(np.log(softmax(y)[k]) for y, k in zip(self.forward(), self.y, strict=False))

    def output_delta(self, y, k):
        p, one = softmax(y), np.eye(O)[k]
        return -one * (1 - p) if self("diagonal") else p - one

    def gradient(self):
        ys = self.forward()
        d = {name: np.zeros_like(array) for name, array in self.p.items()}
        dys = [self.output_delta(y, k) for y, k in zip(ys, self.y, strict=False)]
        for dy, step in zip(dys, self.tapes[-1][1], strict=True):
            d["V"] += np.outer(dy, step["h"])
            d["d"] += dy
        if self("last dy"):
            dys = [dys[-1]] * self.T
        down = [self.p["V"].T @ dy for dy in dys]
        for layer in reversed(range(self.layers)):
            mark = str(layer) if self.layers > 1 else ""
            names = {name + mark for name in self.names()}
            down = self.walk(
                layer, down, {name[: len(name) - len(mark)]: d[name] for name in names}
            )
        return d

    def walk(self, layer, out, d):
        own, tape = self.tapes[layer]
        dh, dc, dxs = np.zeros(H), np.zeros(H), [None] * self.T
        for t in range(self.T) if self("forwards") else reversed(range(self.T)):
            step = tape[t]
            dz, du, dh, dc = self.back(own, step, out[t] + dh, dc)
            x = self.tapes[0][1][t]["x"] if self("x of layer 0") else step["x"]
            for g in self.gates:
                d["W" + g] += np.outer(dz[g], x)
                d["U" + g] += np.outer(du[g], step["seen"].get(g, step["h_before"]))
                d["b" + g] += dz[g]
            kind = "U" if self("U on the way down") else "W"
            dxs[t] = sum(own[kind + g].T @ dz[g] for g in self.gates)
        return dxs

    def target(self, layout=True):
        def at(steps):
            if steps > 12:
                raise ValueError("no data")
            other = type(self)(self.fault, self.layers, steps)
            other.p = self.p
            return other.target(layout)

        chosen = self.layout() if layout else None
        return tt.Target(
            self.p, self.loss, self.gradient, at_length=at, steps=self.T, layout=chosen
        )

    def layout(self):
        marks = [""] if self.layers == 1 else [str(layer) for layer in range(self.layers)]
        kinds = {k: [k + "{gate}" + mark for mark in marks] for k in "WUb"}
        kinds = {k: names[0] if self.layers == 1 else tuple(names) for k, names in kinds.items()}
        x, y = self.x[: self.T, None], self.y[: self.T, None]
        rest = {"head": "V", "head_bias": "d", "time": "sum", "batch": "sum"}
        return self.described(x, y, order=self.gates, layers=self.layers, **kinds, **rest)


class RNN(Program):
    gates = "h"
    described = staticmethod(tt.layouts.rnn)

    def step(self, p, x, h, c):
        return {
            "x": x,
            "h_before": h,
            "h": np.tanh(p["Wh"] @ x + p["Uh"] @ h + p["bh"]),
            "seen": {},
        }

    def back(self, p, s, dh, dc):
        h = s["h"]
        slope = 1 - h**2
        if self("slope at h_before"):
            slope = 1 - s["h_before"] ** 2
        if self("tanh for its slope"):
            slope = np.tanh(h)
        if self("1 + h²"):
            slope = 1 + h**2
        dz = dh * slope
        back = dh if self("back without slope") else dz
        return {"h": dz}, {"h": dz}, p["Uh"].T @ back, dc


class LSTM(Program):
    gates = "fiog"
    described = staticmethod(tt.layouts.lstm)

    def step(self, p, x, h, c):
        z = {g: p["W" + g] @ x + p["U" + g] @ h + p["b" + g] for g in self.gates}
        s = {g: np.tanh(z[g]) if g == "g" else sigmoid(z[g]) for g in self.gates}
        s |= {"x": x, "h_before": h, "c_before": c, "c": s["f"] * c + s["i"] * s["g"], "seen": {}}
        return s | {"h": s["o"] * np.tanh(s["c"])}

    def back(self, p, s, dh, dc):
        i, f, o, g, c, before = (s[name] for name in ("i", "f", "o", "g", "c", "c_before"))
        m = np.tanh(c)
        bend = 1 - np.tanh(before) ** 2 if self("slope at c_before") else 1 - m**2
        dc = dc + dh * (f if self("f for o in dc") else o) * bend
        d = {"f": dc * before, "i": dc * g, "o": dh * m, "g": dc * i}
        if self("df with i"):
            d["f"] = dc * i
        if self("di with c_before"):
            d["i"] = dc * before
        if self("do with c"):
            d["o"] = dh * c
        if self("do of dc"):
            d["o"] = dc * m
        if self("di negative"):
            d["i"] = -d["i"]
        slopes = {gate: s[gate] * (1 - s[gate]) for gate in "fio"} | {"g": 1 - g**2}
        if self("σ for its slope"):
            slopes |= {gate: s[gate] for gate in "fio"}
        if self("σ of σ for its slope"):
            slopes |= {gate: sigmoid(s[gate]) for gate in "fio"}
        if self("tanh' for σ'"):
            slopes["f"] = 1 - f**2
        dz = {gate: d[gate] * slopes[gate] for gate in self.gates}
        handed = {gate: p["U" + gate].T @ dz[gate] for gate in self.gates}
        if self("o not handed back"):
            handed["o"] = 0
        if self("o handed back twice"):
            handed["o"] = 2 * handed["o"]
        carried = {"dc carried alone": 1, "dc carried with i": i}.get(self.fault, f)
        return dz, dz, sum(handed.values()), dc * carried


class GRU(Program):
    gates = "zrn"

    def described(self, *data, **names):
        return tt.layouts.gru(*data, reset_after=False, keep="1-z", **names)

    def step(self, p, x, h, c):
        z, r = (sigmoid(p["W" + g] @ x + p["U" + g] @ h + p["b" + g]) for g in "zr")
        n = np.tanh(p["Wn"] @ x + p["Un"] @ (r * h) + p["bn"])
        seen = {} if self("r missing in δU") else {"n": r * h}
        return {
            "x": x,
            "h_before": h,
            "z": z,
            "r": r,
            "n": n,
            "h": (1 - z) * h + z * n,
            "seen": seen,
        }

    def back(self, p, s, dh, dc):
        z, r, n, h = (s[name] for name in ("z", "r", "n", "h_before"))
        dn = dh * ((1 - z) if self("1 − z for z") else z) * (1 - n**2)
        dz = dh * ((h - n) if self("sign of δz") else (n - h)) * z * (1 - z)
        if self("δz without n"):
            dz = dh * -h * z * (1 - z)
        dreset = p["Un"].T @ dn
        dr = dreset * (n if self("δr with n") else h) * r * (1 - r)
        kept = z if self("z for 1 − z") else 1 - z
        through = dreset * (z if self("z for r") else r)
        back = dh * kept + through + p["Uz"].T @ dz + p["Ur"].T @ dr
        d = {"z": dz, "r": dr, "n": dn}
        return d, d, back, dc


NAMED = [
    (RNN, 1, "forwards", "backward_in_forward_order"),
    (LSTM, 1, "forwards", "backward_in_forward_order"),
    (RNN, 1, "last dy", "last_output_gradient_at_every_step"),
    (RNN, 1, "diagonal", "softmax_jacobian_diagonal"),
    (RNN, 1, "slope at h_before", "slope_of_previous_state"),
    (RNN, 1, "tanh for its slope", "activation_for_derivative"),
    (RNN, 1, "1 + h²", "wrong_operand_in_step"),
    (RNN, 1, "back without slope", "wrong_operand_in_step"),
    (RNN, 2, "x of layer 0", "another_layers_input"),
    (RNN, 2, "U on the way down", "another_layers_matrix"),
    (LSTM, 1, "slope at c_before", "slope_of_previous_state"),
    (LSTM, 1, "σ for its slope", "activation_for_derivative"),
    (LSTM, 1, "σ of σ for its slope", "activation_for_derivative"),
    (LSTM, 1, "tanh' for σ'", "wrong_operand_in_step"),
    (LSTM, 1, "f for o in dc", "wrong_operand_in_step"),
    (LSTM, 1, "df with i", "wrong_operand_in_step"),
    (LSTM, 1, "di with c_before", "wrong_operand_in_step"),
    (LSTM, 1, "do with c", "wrong_operand_in_step"),
    (LSTM, 1, "do of dc", "wrong_operand_in_step"),
    (LSTM, 1, "dc carried alone", "wrong_operand_in_step"),
    (LSTM, 1, "dc carried with i", "wrong_operand_in_step"),
    (LSTM, 1, "di negative", "wrong_term_in_step"),
    (LSTM, 1, "o not handed back", "wrong_term_in_step"),
    (LSTM, 1, "o handed back twice", "wrong_term_in_step"),
    (GRU, 1, "sign of δz", "update_gate_exchanged"),
    (GRU, 1, "1 − z for z", "update_gate_exchanged"),
    (GRU, 1, "z for 1 − z", "update_gate_exchanged"),
    (GRU, 1, "δz without n", "wrong_operand_in_step"),
    (GRU, 1, "δr with n", "wrong_operand_in_step"),
    (GRU, 1, "z for r", "wrong_operand_in_step"),
    (GRU, 1, "r missing in δU", "wrong_operand_in_step"),
]


@pytest.mark.parametrize(("program", "layers", "mistake", "fault"), NAMED)
def test_a_mistake_is_named_with_a_layout(program, layers, mistake, fault):
    target = program(mistake, layers).target()
    model = model_from_target(target).model
    first = explain(model, target.gradient())[0]
    assert (first.faults, first.unexplained) == ((fault,), ())


@pytest.mark.parametrize("program", [RNN, LSTM, GRU])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_programs_are_right_without_a_mistake(program, layers):
    target = program("", layers).target()
    assert explain(model_from_target(target).model, target.gradient()) == []


# --- without a layout: units that do not see each other ---


def study_of(target):
    values = {name: np.array(array) for name, array in target.parameters.items()}
    return SimplePoints(Study(target, values, Budget(10**6)))


UNSEEN = {"diagonal", "r missing in δU"}  # of the outputs; of a matrix that only δU shows


@pytest.mark.parametrize(
    ("program", "mistake", "fault"),
    [(p, m, f) for p, layers, m, f in NAMED if layers == 1 and m not in UNSEEN][::2],
)
def test_a_mistake_is_named_by_the_biases_of_units_that_do_not_see_each_other(
    program, mistake, fault
):
    unit = one_unit(study_of(program(mistake).target(layout=False)))
    assert unit.name.endswith(program.__name__)
    assert fault in [mutation.fault for mutation in unit.fitting]
    first = unit.fitting[0].fault
    assert {m.fault for m in unit.fitting if not FAULTS[m.fault].systematic} <= {first}


@pytest.mark.parametrize("program", [RNN, LSTM, GRU])
def test_right_units_are_wrong_nowhere(program):
    unit = one_unit(study_of(program().target(layout=False)))
    assert (unit.name.endswith(program.__name__), any(unit.off), unit.fitting) == (True, False, ())


def test_of_two_layers_the_upper_one_is_seen():
    unit = one_unit(study_of(LSTM("df with i", 2).target(layout=False)))
    assert (unit.fitting[0].fault, unit.alone) == ("wrong_operand_in_step", False)
    right = one_unit(study_of(LSTM("", 2).target(layout=False)))
    assert not any(right.off)


def test_initial_states_other_than_0_are_not_known():
    class Started(LSTM):
        def step(self, p, x, h, c):
            return super().step(p, x, h if h.any() else h + 0.5, c if c.any() else c + 0.5)

    assert one_unit(study_of(Started().target(layout=False))) is None


def test_a_check_says_which_quantity_stands_where():
    report = tt.check(LSTM("df with i").target(layout=False), progress=False)
    (cause,) = report.causes
    assert cause.fault == "wrong_operand_in_step"
    assert cause.statement == "Within a step, δf is computed with i, where c_{t−1} belongs."
    assert "are those of an LSTM" in cause.evidence[-1]


def test_what_no_known_fault_explains_is_a_place_with_its_gate():
    class Strange(LSTM):
        def back(self, p, s, dh, dc):
            dz, _, dh, dc = super().back(p, s, dh, dc)
            dz["f"] = np.abs(dz["f"]) + 0.3 * dz["i"] ** 2
            return dz, dz, dh, dc

    report = tt.check(Strange().target(layout=False), progress=False)
    (cause,) = report.causes
    assert (cause.fault, cause.where) == ("inside_a_step", "gate f (bf)")
    assert "derivative_missing" not in cause.alternatives


# --- what is added, and what is copied ---


def decayed(of_loss, of_gradient):
    """The causes where the loss has λ/2 Σ W² and the gradient μ W, of the recurrent layer."""

    class Decayed(RNN):
        def loss(self):
            squares = sum((self.p[name] ** 2).sum() for name in ("Wh", "Uh"))
            return super().loss() + of_loss / 2 * squares

        def gradient(self):
            d = super().gradient()
            return d | {name: d[name] + of_gradient * self.p[name] for name in ("Wh", "Uh")}

    target = Decayed().target(layout=False)
    search = CauseSearch(Study(target, dict(target.parameters), Budget(10**5)))
    search.run()
    return [(cause.fault, cause.alternatives) for cause in search.causes]


@pytest.mark.parametrize(
    ("of_loss", "of_gradient", "fault"),
    [
        (0.0, 0.1, "weight_decay_only_in_gradient"),
        (0.1, 0.2, "weight_decay_doubled"),
        (0.1, 0.05, "weight_decay_halved"),
        (0.1, 0.0, "weight_decay_missing"),
    ],
)
def test_the_losss_own_term_tells_which_part_of_it_the_gradient_has(of_loss, of_gradient, fault):
    assert decayed(of_loss, of_gradient) == [(fault, ())]


def test_a_matrix_that_is_a_copy_of_another_is_no_gates_bias():
    class Reused(RNN):
        def gradient(self):
            d = super().gradient()
            return d | {"Uh0": d["Wh0"]}

    target = Reused("", 2).target(layout=False)
    search = CauseSearch(Study(target, dict(target.parameters), Budget(10**5)))
    search.run()
    (cause,) = search.causes
    assert (cause.fault, cause.where) == ("another_tensors_gradient", "Uh0")
    assert cause.statement == "Your gradient of Uh0 is, bit for bit, the gradient of Wh0."


# --- δ of the outputs ---


def test_the_diagonal_of_the_softmaxs_derivative_is_named_without_a_layout():
    report = tt.check(RNN("diagonal").target(layout=False), progress=False)
    (cause,) = report.causes
    assert cause.fault == "softmax_jacobian_diagonal"
    assert "−y (1 − p)" in cause.evidence[-1]


class Guarded(RNN):
    epsilon = 1e-4

    def loss(self):
        rows = zip(self.forward(), self.y, strict=False)
        return -sum(np.log(softmax(y)[k] + self.epsilon) for y, k in rows)


class RightlyGuarded(Guarded):
    def output_delta(self, y, k):
        p = softmax(y)
        return (p - np.eye(O)[k]) * p[k] / (p[k] + self.epsilon)


def test_an_epsilon_in_the_logarithm_is_named_with_its_size():
    report = tt.check(Guarded().target(layout=False), progress=False)
    assert report.verdict == "disagree"
    (cause,) = report.causes
    assert cause.fault == "epsilon_in_log"
    assert "ε = 0.0001" in cause.evidence[-1]
    assert tt.check(RightlyGuarded().target(layout=False), progress=False).verdict == "agree"


def test_an_epsilon_does_not_hide_what_is_wrong_by_more():
    report = tt.check(Guarded("diagonal").target(layout=False), progress=False)
    assert "epsilon_in_log" not in [cause.fault for cause in report.causes]


def test_an_epsilon_with_a_layout():
    for program, explained in ((Guarded, [("epsilon_in_log",)]), (RightlyGuarded, [])):
        target = program().target(layout=False)
        names = {"W": "Wh", "U": "Uh", "b": "bh", "head": "V", "head_bias": "d"}
        sums = {"time": "sum", "batch": "sum"}
        x, y = program().x[:T, None], program().y[:T, None]
        layout = tt.layouts.rnn(x, y, **names, **sums, epsilon=program.epsilon)
        matches = explain(layout.model(target.parameters), target.gradient())
        assert [match.faults for match in matches] == explained


# --- peepholes ---


def test_each_peephole_that_nothing_comes_back_through_is_named():
    """The program is our own network, with p_i, p_f and p_o."""
    layers = [tt.LSTM(3, 4, peepholes=True), tt.Dense(4, 3)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(), dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    for array in net.parameters.values():
        array += 0.4 * rng.normal(size=array.shape)
    target = tt.target_of(net, rng.normal(size=(4, 2, 3)), rng.integers(0, 3, (4, 2)))
    model = model_from_target(target).model
    found = [m.where[0] for m in mutants(model, ["peephole_path_missing"])]
    assert found == ["p_i and p_f and p_o", "p_i and p_f", "p_o", "p_i", "p_f"]
    for mutant in mutants(model, ["peephole_path_missing"]):
        first = explain(model, mutant.gradient)[0]
        assert (first.faults, first.found[0].where) == (mutant.faults, mutant.where[0])
