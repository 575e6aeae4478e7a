"""Strangers' networks: that the right ones are right, that all kinds are drawn, what is counted."""

import json
import pickle
from collections import Counter
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest

import corpus as implementations
import throughtime as tt
from benchmarks import cli
from benchmarks.check import command as bench_check
from benchmarks.check import tables, trust
from benchmarks.strangers import case, cases, losses, networks, run, tape, wrong
from benchmarks.strangers.losses import Sum
from benchmarks.strangers.networks import Network, Rounding
from benchmarks.strangers.wrong import Wrong
from benchmarks.strangers.wrong import _drawn as wrong_drawn
from benchmarks.tables import table
from helpers import Said
from throughtime.derivatives.values import significant_bits

LONG = np.longdouble
STEPS = (1e-2, 1e-3, 1e-4, 1e-5)
PLAIN = Network("tanh", 1, False, False, False, "linear", False)


def slope(function, array, along):
    """Central differences of order 4 in extended precision, one for each step."""
    kept = array.copy()

    def at(distance):
        array[...] = kept + distance * along
        value = function()
        array[...] = kept
        return value

    for h in map(LONG, STEPS):
        yield (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def differs_by(function, parameters, gradient):
    """The worst relative error of a gradient, tensor by tensor, each along a random direction."""
    rng, worst = np.random.default_rng(0), 0.0
    for name, array in parameters.items():
        along = rng.standard_normal(array.shape).astype(LONG)
        size = max(float(np.linalg.norm(gradient[name])), 1e-12)
        wanted = (gradient[name] * along).sum()
        worst = max(
            worst, min(float(abs(s - wanted)) for s in slope(function, array, along)) / size
        )
    return worst


# --- the tape ---

DRAW = np.random.default_rng(5)
A, B, C = (DRAW.uniform(0.3, 0.9, shape).astype(LONG) for shape in ((2, 3, 4), (3, 4), (4, 5)))
INPUTS = {
    "add": (A, B),
    "sub": (A, B),
    "mul": (A, B[:, :1]),
    "div": (A, B),
    "matmul": (A, C),
    "index": (A, (slice(None), [0, 2], 1)),
    "clip": (A, 0.4, 0.8),
    "total": (A, 1),
    "stack": (B, 2 * B),
    "join": (A, 2 * A),
    "stored": (A, lambda a: a),
    "log_softmax": (A,),
}
ONE_INPUT = ("tanh", "sigmoid", "relu", "exp", "log", "sqrt", "square")


def test_every_operation_is_tried():
    assert {*INPUTS, *ONE_INPUT} == set(tape.OPS)


@pytest.mark.parametrize("op", tape.OPS)
def test_an_operation_has_its_own_derivative(op):
    inputs = INPUTS.get(op, (A - LONG(0.6) * (op == "relu"),))
    arrays = {f"{k}": a.copy() for k, a in enumerate(inputs) if isinstance(a, np.ndarray)}
    upstream = DRAW.standard_normal(np.shape(tape.apply(op, *inputs)))

    def function(p):
        given = [p.get(f"{k}", one) for k, one in enumerate(inputs)]
        return tape.apply("total", tape.apply(op, *given) * upstream, None)

    found = tape.gradient(function, arrays)
    assert differs_by(lambda: function(arrays), arrays, found) < 1e-11


def test_an_array_used_twice_has_the_sum_of_both_and_an_unused_one_none():
    p = {"w": np.array([1.0, 2.0]), "unused": np.ones(3)}
    found = tape.gradient(lambda p: tape.apply("total", p["w"] * p["w"] + p["w"], None), p)
    assert found["w"].tolist() == [3, 5]
    assert found["unused"].tolist() == [0, 0, 0]


def test_rows_that_repeat_add_up():
    table = {"E": np.zeros((3, 2))}
    rows = np.array([[0, 2], [2, 2]])
    found = tape.gradient(lambda p: tape.apply("total", p["E"][rows], None), table)
    assert found["E"].tolist() == [[1, 1], [0, 0], [3, 3]]


def test_a_derivative_has_the_precision_of_what_it_belongs_to_or_float64():
    p = {"w": np.float32([0.1, 0.7])}

    def function(p):
        return tape.apply("total", tape.apply("tanh", p["w"] * np.float64([3, 5])), None)

    short, wide = tape.gradient(function, p), tape.gradient(function, p, wide=True)
    assert (short["w"].dtype, wide["w"].dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(short["w"], wide["w"].astype(np.float32))
    assert significant_bits(wide["w"]) > 24


def test_a_wide_backward_pass_computes_in_float64_with_what_was_kept():
    x = {"x": np.float32([0.3, 0.9])}
    found = tape.gradient(
        lambda p: tape.apply("total", tape.apply("tanh", p["x"]), None), x, wide=True
    )
    kept = np.tanh(x["x"]).astype(np.float64)
    np.testing.assert_array_equal(found["x"], 1 - kept**2)


# --- the networks are right ---


@pytest.mark.parametrize("seed", range(60))
def test_a_right_gradient_is_the_derivative_of_its_loss(seed):
    """In extended precision with nothing rounded, whatever the network, at T = 6 and below."""
    drawn = case(seed)
    own = replace(drawn, T=min(drawn.T, 6), weights=max(drawn.weights, 0.3))
    target = own.target("longdouble")
    assert differs_by(target.loss, target.parameters, target.gradient()) < 1e-9


@pytest.mark.parametrize("seed", range(60))
def test_what_is_rounded_changes_the_gradient_no_more_than_it_may(seed):
    """The gradient as it is handed over, beside that of no rounding."""
    drawn = case(seed)
    own = replace(drawn, T=min(drawn.T, 6), weights=min(max(drawn.weights, 0.3), 0.6))
    coarse = {"float64": 1e-12, "float32": 1e-3, "six digits": 1e-3, "micro-units": 1e-3}
    known = replace(own, loss=replace(own.loss, sum=Sum("", "np.sum", ""))).coarsest
    assert run.off(own) < coarse.get(known, 0.5)


@pytest.mark.parametrize("seed", range(60))
def test_the_loss_that_is_returned_is_the_one_that_is_differentiated(seed):
    drawn = case(seed)
    sums = replace(drawn.loss.sum, format="", shown="")
    own = replace(drawn, inside=Rounding(), T=min(drawn.T, 6), loss=replace(drawn.loss, sum=sums))
    computed = float(np.sum(own.target().loss(), dtype=np.float64))
    near = 1e-5 if sums.added == "micro-units" or drawn.dtype == "float32" else 1e-12
    assert computed == pytest.approx(float(own.target("float64").loss()), rel=near, abs=near)


@pytest.mark.parametrize("cell", ["RNN", "ReLU", "LSTM", "GRU"])
def test_the_classical_cells_are_torchs(cell):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    T, B, I, H = 5, 2, 3, 4  # noqa: E741
    rng = np.random.default_rng(1)
    name = {"RNN": "tanh", "ReLU": "relu"}.get(cell, cell)
    network = replace(PLAIN, cell=name, both_ways=True, head="none")
    p = {n: rng.standard_normal(s) * 0.5 for n, s in network.shapes(I, H, 2 * H, 1).items()}
    x, h0, c0 = (rng.standard_normal(s) for s in ((T, B, I), (B, H), (B, H)))

    def loss(p):
        ys = network.answers(p, x, lambda s: h0 if s[0] == "h" else c0, Rounding())
        return tape.apply("total", tape.apply("square", ys), None)

    options = {"bidirectional": True, "dtype": torch.float64}
    if cell in ("RNN", "ReLU"):
        module = torch.nn.RNN(I, H, nonlinearity=name, **options)
    else:
        module = getattr(torch.nn, cell)(I, H, **options)
    blocks = {"LSTM": (1, 2, 0, 3), "GRU": (0, 1, 2)}.get(cell, (0,))  # torch's order in ours

    def ordered(array):
        return np.concatenate([array[..., k * H : (k + 1) * H] for k in blocks], axis=-1)

    ours = {}
    for way, suffix in (("1", "l0"), ("1r", "l0_reverse")):
        ours |= {f"weight_ih_{suffix}": (f"W{way}", True), f"weight_hh_{suffix}": (f"U{way}", True)}
        ours |= {f"bias_ih_{suffix}": (f"b{way}", False)}
    own = dict(module.named_parameters())
    with torch.no_grad():
        for theirs, parameter in own.items():
            parameter.zero_()
            if theirs in ours:
                array = ordered(p[ours[theirs][0]])
                parameter += torch.tensor(array.T if ours[theirs][1] else array)
            elif cell == "GRU":  # the candidate's bias inside the reset gate's product
                parameter[2 * H :] += torch.tensor(p["c1r" if "reverse" in theirs else "c1"])
    start = torch.tensor(np.stack([h0, h0])), torch.tensor(np.stack([c0, c0]))
    answers, _ = module(torch.tensor(x), start if cell == "LSTM" else start[0])
    (answers**2).sum().backward()
    assert loss(p) == pytest.approx(float((answers**2).sum().detach()), rel=1e-12)
    found = tape.gradient(loss, p)
    for theirs, (name, transposed) in ours.items():
        wanted = own[theirs].grad.numpy()
        array = ordered(found[name])
        np.testing.assert_allclose(array.T if transposed else array, wanted, rtol=1e-11, atol=1e-13)


# --- what is drawn ---


def test_every_kind_is_drawn():
    drawn = [cases._drawn(seed, 0) for seed in range(3000)]
    assert {c.network.cell for c in drawn} == set(networks.CELLS)
    assert {c.network.head for c in drawn} == set(networks.HEADS)
    for feature in ("both_ways", "embedding", "attention", "last"):
        assert {getattr(c.network, feature) for c in drawn} == {True, False}
    assert {c.network.layers for c in drawn} == {1, 2}
    assert {(c.inside.format, c.inside.place) for c in drawn} == {("", "states"), *cases.ROUNDED}
    assert {c.inside.bits for c in drawn if c.inside.format == "grid"} == set(cases.GRIDS)
    assert {c.backward for c in drawn} == {"own", "float64", "unrounded"}
    assert {(c.dtype, c.data) for c in drawn} == {
        (one, other) for one in ("float32", "float64") for other in ("float32", "float64")
    }
    assert {c.loss.error for c in drawn} == set(losses.ERRORS)
    assert {(c.loss.time, c.loss.batch) for c in drawn} == {
        (one, other) for one in ("mean", "sum") for other in ("mean", "sum")
    }
    assert {c.loss.halved for c in drawn} == {c.loss.early for c in drawn} == {True, False}
    sums = [c.loss.sum for c in drawn]
    assert {s.format for s in sums} == {"", *networks.FORMATS}
    assert {s.added for s in sums} == {*losses.ADDED, *losses.TERMS}
    assert {s.shown for s in sums} == {"", *losses.SHOWN}
    assert {s.as_float for s in sums} == {True, False}
    assert {c.coarsest for c in drawn} == set(run.GROUPS)
    assert 0.4 < np.mean([c.lengths for c in drawn]) < 0.6


def test_sizes_reach_as_far_as_they_should():
    drawn = [cases._drawn(seed, 0) for seed in range(3000)]
    for name, low, high in (("T", 1, 500), ("B", 1, 8), ("I", 1, 64), ("H", 1, 64)):
        sizes = [getattr(c, name) for c in drawn]
        assert min(sizes) == low
        assert 0.9 * high <= max(sizes) <= high
    assert np.median([c.T for c in drawn]) < 10
    weights = np.array([c.weights for c in drawn])
    assert 1e-4 <= weights.min() < 2e-4 < 1 < weights.max() <= 2
    assert np.median(weights) == pytest.approx(np.sqrt(1e-4 * 2), rel=0.3)  # log-uniform
    for name in ("biases", "states"):
        assert 0.4 < np.mean([getattr(c, name) == 0 for c in drawn]) < 0.6


@pytest.mark.parametrize("make", [case, wrong])
def test_a_number_decides_everything(make):
    first, second = make(11), make(11)
    assert first == second != make(12)
    assert pickle.loads(pickle.dumps(first)) == first
    one, other = first.target(), second.target()
    assert np.array_equal(one.loss(), other.loss())
    for name, array in one.gradient().items():
        np.testing.assert_array_equal(array, other.gradient()[name])
    assert "\n" not in str(first)
    assert str(first).startswith("11: ")
    assert json.loads(json.dumps(first.to_dict())) == first.to_dict()


def test_what_is_not_finite_is_drawn_again():
    bad = next(
        seed for seed in range(3000) if not cases.finite(cases._drawn(seed, 0).target("float64"))
    )
    drawn = case(bad)
    assert drawn.attempt > 0
    assert cases.finite(drawn.target())
    assert cases.finite(drawn.target("float64"))


def test_longer_and_shorter_targets_share_the_parameters_and_begin_alike():
    sums = Sum("", "terms per step", "")
    chosen = next(
        drawn
        for drawn in map(case, range(100))
        if drawn.lengths and drawn.T > 3 and not (drawn.network.last or drawn.network.attention)
        if not drawn.network.both_ways and not drawn.loss.root
    )
    drawn = replace(chosen, loss=replace(chosen.loss, time="sum", sum=sums))
    target = drawn.target("")
    for steps in (1, 2, 2 * drawn.T):
        other = target.at_length(steps)
        assert other.parameters is target.parameters
        assert len(other.loss()) == other.steps == steps
    np.testing.assert_allclose(target.at_length(2).loss(), target.loss()[:2], rtol=1e-2)
    with pytest.raises(ValueError, match=f"at most {2 * drawn.T}"):
        target.at_length(2 * drawn.T + 1)
    assert replace(drawn, lengths=False).target().at_length is None


# --- what is rounded ---


@pytest.mark.parametrize(
    ("name", "bits"), [("float32", 24), ("float16", 11), ("bfloat16", 8), ("grid", 7)]
)
@pytest.mark.parametrize("place", ["states", "products", "branch"])
def test_a_place_is_rounded_and_its_derivative_is_that_of_no_rounding(name, bits, place):
    x = {"x": np.random.default_rng(0).uniform(0.5, 1, 50)}
    to = Rounding(name, place, 7)
    stored = to.at(place, x["x"])
    assert significant_bits(stored) == bits
    assert np.abs(stored - x["x"]).max() <= 2.0**-bits
    for other in networks.PLACES:
        if other not in (place, "everything"):
            assert to.at(other, x["x"]) is x["x"]
            assert Rounding(name, "everything", 7).at(other, x["x"]) is not x["x"]
    found = tape.gradient(lambda p: tape.apply("total", to.at(place, p["x"]) * 3.0, None), x)
    assert (found["x"] == 3).all()


@pytest.mark.parametrize("cell", networks.CELLS)
@pytest.mark.parametrize("place", ["states", "products", "branch", "weights", "everything"])
def test_every_cell_rounds_at_every_place(cell, place):
    if cell == "layer norm" and place == "branch":
        pytest.skip("it has a single branch")
    network = replace(PLAIN, cell=cell)
    rng = np.random.default_rng(2)
    p = {n: rng.standard_normal(s) for n, s in network.shapes(2, 3, 2, 1).items()}
    x, start = rng.standard_normal((4, 2, 2)), np.full((2, 3), 0.3)
    own = partial(network.answers, p, x, lambda name: start[:, : network.per_lane(3)])
    if cell == "projection LSTM":
        own = partial(network.answers, p, x, lambda name: start if name[0] == "c" else start[:, :2])
    to = Rounding("bfloat16", place)
    if place == "weights":
        rounded = {n: to.at("weights", a) for n, a in p.items()}
        assert max(map(significant_bits, rounded.values())) <= 8
        return
    away = np.abs(own(to) - own(Rounding())).max()
    assert 1e-5 < away < 0.1


@pytest.mark.parametrize("cell", ["LSTM", "peephole LSTM", "projection LSTM"])
def test_the_cell_state_is_rounded_too(cell):
    rng = np.random.default_rng(4)
    shapes = replace(PLAIN, cell=cell).shapes(2, 3, 2, 1)
    p = {n[0]: rng.standard_normal(s) for n, s in shapes.items() if n.endswith("1")}
    h, c = rng.standard_normal((2, len(p["U"]))), rng.standard_normal((2, 3))
    step = partial(networks.STEPS[cell], p, rng.standard_normal((2, 12)), h, c)
    assert significant_bits(step(Rounding("bfloat16", "states"))[1]) <= 8
    assert significant_bits(step(Rounding())[1]) > 24


def test_whole_weights_are_multiples_of_a_unit_that_stays():
    drawn = replace(case(0), network=PLAIN, inside=Rounding("int8", "weights"), dtype="float64")
    model = cases._Model(replace(drawn, biases=0.1))
    kept = {n: drawn.inside.at("weights", a, model.units[n]) for n, a in model.p.items()}
    for name, array in kept.items():
        steps = array / model.units[name]
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
        assert np.abs(steps).max() == pytest.approx(127)


def test_a_gradient_with_kept_values_and_one_without_rounding():
    drawn = replace(case(0), network=PLAIN, T=5, B=2, H=4, I=3, O=3, weights=0.5, dtype="float32")
    drawn = replace(
        drawn, data="float32", inside=Rounding("bfloat16", "states"), loss=plain_loss("log p")
    )
    found = {
        way: replace(drawn, backward=way).target().gradient()
        for way in ("own", "float64", "unrounded")
    }
    bare = replace(drawn, inside=Rounding(), backward="own").target().gradient()
    for name, array in found["unrounded"].items():
        np.testing.assert_array_equal(array, bare[name])
    assert found["own"]["U1"].dtype == np.float32
    assert found["float64"]["U1"].dtype == np.float64
    np.testing.assert_allclose(found["own"]["U1"], found["float64"]["U1"], rtol=1e-3, atol=1e-6)
    assert np.abs(found["own"]["U1"] - bare["U1"]).max() > 1e-4 * np.abs(bare["U1"]).max()


# --- how a loss is added up ---


def plain_loss(error="squared error", **sums):
    own = {"format": "", "added": "np.sum", "shown": ""} | sums
    return losses.Loss(error, 1e-8, "sum", "sum", False, False, Sum(**own))


TERMS = np.random.default_rng(3).uniform(0.5, 2, (30, 4))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shown", ["", *losses.SHOWN])
@pytest.mark.parametrize("format", ["", *networks.FORMATS])
@pytest.mark.parametrize("added", [*losses.ADDED, *losses.TERMS])
def test_every_way_adds_up_to_the_sum_but_for_its_rounding(added, format, shown, dtype):
    way, terms = Sum(format, added, shown), TERMS.astype(dtype)
    found = way.show(way.add(terms))
    exact = float(terms.astype(LONG).sum())
    u = way.roundoff(exact, terms.size, dtype)
    total = float(np.sum(found, dtype=np.float64))
    assert abs(total - exact) <= terms.size * u * exact
    if shown or losses.U.get(format, 0) > losses.U[dtype]:
        assert total != exact
    if shown:
        assert isinstance(found, float)
    elif added in losses.TERMS:
        assert found.shape == ((30,) if added == "terms per step" else (30, 4))


def test_an_infinite_term_makes_an_infinite_sum_of_millionths():
    terms = np.array([[0.25, np.inf]])
    assert Sum("", "micro-units", "").add(terms, whole=True) == np.inf
    assert Sum("", "micro-units", "").add(terms[:, :1], whole=True) == 0.25


def test_the_coarsest_rounding_decides():
    exact = 1234.5678
    assert Sum("", "np.sum", "").roundoff(exact, 9, "float32") == 2.0**-24
    assert Sum("bfloat16", "np.sum", "six digits").roundoff(exact, 9, "float64") == 2.0**-8
    assert Sum("", "np.sum", "six digits").roundoff(exact, 9, "float64") * exact == pytest.approx(
        0.005
    )
    assert Sum("", "np.sum", "printed as %e").roundoff(0.02, 9, "float64") * 0.02 == (
        pytest.approx(0.5e-8)
    )
    assert Sum("", "micro-units", "").roundoff(2.0, 9, "float64") == pytest.approx(9 * 0.25e-6)
    assert Sum("", "np.sum", "printed as %.6f").roundoff(0.02, 9, "float64") == pytest.approx(
        0.25e-4
    )


def test_one_scalar_is_added_up_in_its_own_precision():
    terms = np.full((2**12, 1), 0.1, np.float32)
    by_step = Sum("", "scalar step by step", "").add(terms)
    total = np.float32(0)
    for term in terms.ravel():
        total += term
    assert by_step == total != np.float32(409.6)
    assert by_step.dtype == np.float32


def test_floats_tell_nothing_of_the_precision():
    terms = np.float32([[0.1], [0.7]])
    for added, kind in (("np.sum", float), ("all terms", np.ndarray)):
        way = Sum("", added, "", as_float=True)
        found = way.show(way.add(terms))
        assert isinstance(found, kind)
        assert significant_bits(np.atleast_1d(found)) == 24
    assert found.dtype == np.float64


@pytest.mark.parametrize("early", [False, True])
def test_means_and_halves(early):
    loss = replace(plain_loss(), time="mean", batch="mean", halved=True, early=early)
    y, wanted = np.ones((5, 2, 3)), np.zeros((5, 2, 3))
    assert loss.as_computed(loss.errors(y, wanted)) == pytest.approx(1.5)
    assert loss.of(loss.errors(y, wanted)) == pytest.approx(1.5)
    root = replace(loss, error="RMSE", halved=False)
    assert root.as_computed(root.errors(2 * y, wanted)) == pytest.approx(2)


# --- wrong ones ---


def test_every_mistake_is_drawn_in_every_style():
    drawn = [wrong_drawn(seed, 0).case for seed in range(2500)]
    assert {c.fault for c in drawn} == {f for _, _, f in implementations.catalogue()}
    assert {c.style for c in drawn} == set(implementations.styles())
    assert {c.variant.get("layers", 1) for c in drawn} == {1, 2}
    for feature in ("states", "ragged", "bidirectional", "projection"):
        assert any(c.variant.get(feature) for c in drawn)
    assert {(c.variant.get("time"), c.variant.get("batch")) for c in drawn} >= {
        ("mean", "sum"),
        ("sum", "mean"),
    }
    assert all(c.sizes["B"] == 1 for c in drawn if c.style == "gate_by_gate")
    assert max(c.sizes["T"] for c in drawn) > 400


def a_mistake(**sums):
    sizes = {"T": 6, "B": 2, "I": 2, "H": 3, "O": 3}
    own = trust.Case(
        "concatenated", "LSTM", "dh_next_missing", sizes, 0, "float64", 0.5, {"terms": True}
    )
    return Wrong(0, own, Sum(**{"format": "", "added": "np.sum", "shown": ""} | sums), True)


def test_a_wrong_network_is_its_style_with_another_sum():
    made = a_mistake(shown="six digits")
    terms = made.case.target().loss()
    assert made.target().loss() == float(f"{terms.sum():.6g}")
    longer = made.target().at_length(12)
    assert longer.steps == 12
    assert longer.loss() == float(f"{longer.loss():.6g}")
    assert replace(made, lengths=False).target().at_length is None
    off = made.target().gradient()["W1"] - made.target(plain=True).gradient()["W1"]
    assert np.abs(off).max() > 0


def test_a_coarser_loss_hides_more():
    assert a_mistake().effect().resolvable
    assert a_mistake(shown="six digits").effect().resolvable
    assert not a_mistake(format="bfloat16").effect().resolvable
    assert not a_mistake(shown="float16 at last").effect().resolvable
    assert a_mistake().effect().by_tensor == a_mistake(format="bfloat16").effect().by_tensor


# --- what the check says of them ---


def small(seed):
    drawn = case(seed)
    size = sum(array.size for array in drawn.target().parameters.values())
    return drawn.T <= 12 and size <= 300


def sample(count):
    seeds = (seed for seed in range(10**6) if small(seed))
    return [next(seeds) for _ in range(count)]


@pytest.mark.parametrize("place", range(60))
def test_a_small_right_network_is_not_called_wrong(place, small_ones):
    drawn = case(small_ones[place])
    try:
        report = tt.check(drawn.target(), diagnose=False)
    except tt.CheckError as problem:
        pytest.fail(f"refused: {drawn}: {problem}")
    assert report.verdict != "disagree", str(drawn)


@pytest.fixture(scope="module")
def small_ones():
    return sample(60)


@pytest.mark.parametrize("seed", range(8))
def test_one_float32_scalar_added_up_over_39_steps_at_weights_of_a_hundredth(seed):
    drawn = replace(
        case(seed),
        network=PLAIN,
        T=39,
        B=1,
        I=5,
        H=5,
        O=5,
        dtype="float32",
        data="float32",
        inside=Rounding(),
        backward="own",
        weights=0.01,
        biases=0.0,
        states=0.0,
        lengths=True,
        loss=plain_loss("log p", added="scalar step by step", as_float=True),
    )
    assert tt.check(drawn.target(), diagnose=False).verdict != "disagree"


@pytest.mark.parametrize("seed", range(4))
def test_a_hidden_state_kept_in_float32_by_a_network_in_float64(seed):
    rng = np.random.default_rng(seed)
    p = {"W": rng.standard_normal((3, 4)) / 2, "V": rng.standard_normal((4, 2))}
    x, wanted = rng.standard_normal((7, 3)), rng.standard_normal((7, 2))

    def loss(p, to):
        h = to.at("states", tape.apply("tanh", x @ p["W"]))
        return tape.apply("total", tape.apply("square", h @ p["V"] - wanted), None)

    stored = Rounding("float32", "states")
    for kept in (stored, Rounding()):
        target = tt.Target(
            p,
            lambda: loss(p, stored),
            lambda kept=kept: tape.gradient(lambda p: loss(p, kept), p),
            steps=7,
        )
        assert tt.check(target, diagnose=False).verdict != "disagree"


# --- rows, tables, command ---


def says(monkeypatch, verdict):
    monkeypatch.setattr(trust, "check", lambda target, **_: Said(verdict, tuple(target.parameters)))


def test_rows(monkeypatch):
    says(monkeypatch, "agree")
    right, not_right = run.right_row(3), run.wrong_row(3)
    for row in (right, not_right):
        assert row["ours"] == "agree"
        assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert right["off"] < 1
    assert right["case"] == str(case(3))
    assert not_right["effect"] > 0
    assert not_right["case"] == str(wrong(3))


def test_two_processes_find_the_same():
    rows = [[row | {"seconds": 0} for row in run.strangers([4, 5], [3], n)] for n in (1, 2)]
    assert rows[0] == rows[1]
    assert [row["right"] for row in rows[0]].count(True) == 2


def a_row(**own):
    base = {"part": "strangers", "right": True, "group": "float64", "ours": "agree", "off": 1e-12}
    base |= {"dtype": "float64", "inside": "", "case": "1: a network", "message": None}
    base |= {"loss": {"sum": asdict(Sum("", "np.sum", ""))}, "overclaimed": False}
    return base | own


def test_what_the_rows_come_to():
    right = [a_row(), a_row(ours="unresolved"), a_row(ours="disagree"), a_row(ours="refused")]
    right += [a_row(group="bfloat16", ours="disagree", off=0.5, dtype="float32")]
    wrongs = [
        a_row(right=False, resolvable=True, ours=verdict, effect=0.1)
        for verdict in ("disagree", "refused", "unresolved", "agree")
    ]
    wrongs += [a_row(right=False, resolvable=False, ours="agree", effect=0.1, overclaimed=True)]
    fine, coarse, everything = run.right_summary([*right, *wrongs])
    assert [fine["group"], coarse["group"], everything["group"]] == ["float64", "bfloat16", "all"]
    assert (fine["count"], fine["accepted"], fine["unresolved"]) == (4, 0.25, 0.25)
    assert (fine["accused"], fine["refused"], fine["blurred"]) == (1, 1, 0)
    assert (coarse["accused"], coarse["blurred"], coarse["at_most"]) == (1, 1, 1.0)
    assert everything["at_most"] == trust.at_most(2, 5)
    names = [row["group"] for row in run.right_summary(right, run.inside)]
    assert names[:2] == ["float32, nothing rounded inside", "float64, nothing rounded inside"]
    assert run.added(a_row()) == "float64, np.sum"
    assert run.added(a_row(loss={"sum": asdict(Sum("float16", "fsum", ""))})) == (
        "float64, float16 terms"
    )
    assert run.added(a_row(loss={"sum": asdict(Sum("float16", "fsum", "six digits"))})) == (
        "float64, six digits"
    )
    (found,) = run.wrong_summary(wrongs)
    assert (found["resolvable"], found["found"], found["unresolved"]) == (4, 0.5, 0.25)
    assert (found["accepted"], found["faint"], found["faint_accepted"]) == (1, 1, 1)
    assert found["overclaimed"] == 1


def test_the_groups_are_from_fine_to_coarse():
    assert run.GROUPS[:2] == ("float64", "float32")
    assert run.GROUPS[-1] == "int8 weights"
    drawn = replace(case(0), dtype="float64", data="float64", inside=Rounding(), loss=plain_loss())
    assert drawn.coarsest == "float64"
    assert replace(drawn, dtype="float32").coarsest == "float32"
    assert replace(drawn, inside=Rounding("bfloat16", "branch")).coarsest == "bfloat16"
    assert replace(drawn, loss=plain_loss(format="float16")).coarsest == "float16"
    assert replace(drawn, loss=plain_loss(added="micro-units")).coarsest == "micro-units"


def test_the_command(monkeypatch, capsys, tmp_path):
    says(monkeypatch, "disagree")
    file = tmp_path / "rows.json"
    options = ["check", "--only", "strangers", "--first-seed", "5"]
    assert cli.main([*options, "--strangers", "3", "2", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "right, but accused: 3:" in printed
    for seed in (5, 6, 7):
        assert f"  {case(seed)} | off by" in printed
    rows = json.loads(file.read_text("utf-8"))
    assert Counter((row["right"], row["seed"]) for row in rows) == Counter(
        [(True, 5), (True, 6), (True, 7), (False, 5), (False, 6)]
    )
    assert cli.main(["check", "--rows", str(file)]) == 0
    assert capsys.readouterr().out.strip() in printed
    says(monkeypatch, "agree")
    assert cli.main([*options, "--strangers", "2"]) == 0
    assert "resolvable, but accepted: 2:" in capsys.readouterr().out
    assert cli.main(["check", "--strangers", "1", "2", "3"]) == 3
    assert "--strangers: expected one number or two, got 3" in capsys.readouterr().err


def test_how_many_are_asked_for(monkeypatch):
    seen = []
    monkeypatch.setattr(
        bench_check, "strangers", lambda right, wrong, workers: seen.append((right, wrong)) or []
    )
    command = ["check", "--only", "strangers"]
    for numbers in ([], ["--strangers", "8"], ["--strangers", "8", "3"], ["--quick"]):
        assert cli.main([*command, *numbers]) == 0
    assert [(len(r), len(w)) for r, w in seen] == [(300, 300), (8, 8), (8, 3), (8, 8)]


def test_the_tables_fit_the_page():
    shares = dict.fromkeys((c.key for c in tables.STRANGERS_RIGHT), 1.0)
    counts = dict.fromkeys(("count", "refused", "accused", "blurred"), 10000)
    longest = max(
        (run.inside(a_row(inside=str(Rounding(f, p, 20)))) for f, p in cases.ROUNDED), key=len
    )
    rows = [shares | counts | {"group": longest}]
    assert max(map(len, table(rows, tables.STRANGERS_RIGHT).splitlines())) <= 100
    counts = {c.key: 10000 for c in tables.STRANGERS_WRONG}
    rows = [counts | {"group": "int8 weights", "found": 1.0, "unresolved": 1.0}]
    assert max(map(len, table(rows, tables.STRANGERS_WRONG).splitlines())) <= 100
