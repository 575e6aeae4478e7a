"""Products in bfloat16: what is rounded and what is not, and where they are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from derived_cells import CELLS
from engine_examples import OPTIONS, assert_same_bits, example
from helpers import relative_error
from throughtime import _engine
from throughtime.cells import engine_cell
from throughtime.network import RecurrentLayer
from throughtime.network.bfloat16 import RecurrentInBfloat16, in_bfloat16, nearest_bfloat16
from throughtime.training import RunLimits, Trainer
from training_examples import text, trainer

# T, B, I, H that no tile, vector, panel or pair divides; several chunks; few rows.
SHAPES = [(3, 17, 9, 65), (2, 5, 33, 129), (40, 19, 5, 17), (5, 1, 16, 200), (4, 2, 64, 32)]
ONE_STEP = [(1, 40, 17, 33), (1, 300, 5, 66), (1, 9, 40, 130)]


def run(layer, case, engine="compiled"):
    """Forward and backward of a recurrent layer, by name."""
    p, state = case.p, case.state
    with tt.engine(engine):
        y, final, tape = layer.forward(p, case.inputs, state, case.lengths, None)
        gradient = {n: np.zeros_like(a) for n, a in p.items()}
        g = layer.backward(p, tape, case.doutputs, case.dstate, True, True, gradient)
    found = {"outputs": y} | {f"d{n}": a for n, a in g.parameters.items()}
    found |= {f"final {n}": a for n, a in final.items()}
    found |= {f"dstate {n}": a for n, a in g.state.items()}
    found |= {f"delta {n}": a for n, a in g.deltas.items()}
    return found if g.inputs is None else found | {"dinputs": g.inputs}


# --- what is rounded, and how ---


def test_the_nearest_number_and_of_two_as_near_the_even_one():
    one, half = np.float32(1), np.float32(2.0**-8)
    given = [1 + half, 1 + half * 1.01, 1 + 3 * half, 1 - half / 2, -(1 + 3 * half), 0, -0.0]
    nearest = [one, 1 + 2 * half, 1 + 4 * half, one, -(1 + 4 * half), 0, -0.0]
    found = nearest_bfloat16(np.array(given, np.float32))
    assert found.tobytes() == np.array(nearest, np.float32).tobytes()
    edges = nearest_bfloat16(np.array([np.inf, -np.inf, np.nan, 3.4e38, 1e-40], np.float32))
    assert edges[:2].tolist() == [np.inf, -np.inf]
    assert np.isnan(edges[2])
    assert edges[3:].tolist() == [np.inf, 0]


def test_rounds_as_torch_does():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(9999).astype("f") * (10.0 ** rng.integers(-20, 20, 9999)).astype(
        "f"
    )
    theirs = torch.from_numpy(numbers).bfloat16().float().numpy()
    assert nearest_bfloat16(numbers).tobytes() == theirs.tobytes()


def test_a_product_is_of_rounded_factors_and_its_sum_in_float32(products):
    """To the bit: pair after pair, the later number of each first, every sum rounded once."""
    rng = np.random.default_rng(1)
    W, x = rng.standard_normal((70, 33)).astype("f"), rng.standard_normal((1, 9, 33)).astype("f")
    ours = np.zeros((1, 9, 70), np.float32)
    _engine.dense_forward(1, 9, W, None, x, None, ours, bfloat16=True)
    left, right = nearest_bfloat16(x[0]), nearest_bfloat16(W)
    total = np.zeros((9, 70), np.float32)
    for k in [n for pair in range(0, 34, 2) for n in (pair + 1, pair) if n < 33]:
        total = (total.astype("d") + np.outer(left[:, k], right[:, k]).astype("d")).astype("f")
    assert ours[0].tobytes() == total.tobytes()


@pytest.mark.parametrize("shape", ONE_STEP + SHAPES, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_engine_computes_what_the_readable_form_says(products, name, shape):
    """They differ by the order of sums, and where that moves a number across a rounding.

    In one step that is little beside what rounding does to the result. Where further steps round
    what such a number has moved, it grows.
    """
    share = 1 / 20 if shape in ONE_STEP else 1 / 2
    for ragged, indices in [(True, False), (False, True)]:
        case = example(name, shape, ragged=ragged, indices=indices).astype("float32")
        truth = run(RecurrentInBfloat16(case.cell), case, "readable")
        ours, plain = (
            run(RecurrentInBfloat16(case.cell), case),
            run(RecurrentLayer(case.cell), case),
        )
        assert {a.dtype for a in ours.values()} == {np.dtype("float32")}
        assert {type(a) for a in truth.values()} == {np.ndarray}
        for what, array in truth.items():
            gap, effect = relative_error(ours[what], array), relative_error(plain[what], array)
            assert gap <= 2e-6 + effect * share, f"{what}: {gap:.1e}, of {effect:.1e}"


@pytest.mark.parametrize("name", OPTIONS)
def test_all_products_are_rounded(products, name):
    """Given numbers that bfloat16 holds, one step differs only where h, δz or R's m is rounded."""
    case = example(name, (1, 12, 20, 33)).astype("float32")
    exact = {n: nearest_bfloat16(a) for n, a in case.p.items()}
    moved = {n: (a * (1 + 2.0**-12)).astype("f") for n, a in exact.items() if a.ndim == 2}
    layer = RecurrentInBfloat16(case.cell)
    still = run(layer, replace(case, p=exact))
    for what in moved:  # so little is rounded away
        again = run(layer, replace(case, p=exact | {what: moved[what]}))
        assert_same_bits(again, still)
    plain = run(RecurrentLayer(case.cell), replace(case, p=exact))
    assert relative_error(still["outputs"], plain["outputs"]) > 1e-5  # h is rounded


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_bits_on_any_number_of_threads(products, name, threads):
    case = example(name, (9, 37, 20, 129), ragged=True).astype("float32")
    layer, before = RecurrentInBfloat16(case.cell), _engine.threads()
    try:
        tt.set_threads(1)
        alone = run(layer, case)
        tt.set_threads(threads)
        assert_same_bits(run(layer, case), alone)
    finally:
        tt.set_threads(before)


def test_a_sequence_is_the_same_alone_and_in_a_batch(products):
    case = example("LSTM", (9, 21, 7, 40), ragged=True).astype("float32")
    net = tt.Network([tt.LSTM(7, 40), tt.Dense(40, 3)], products="bfloat16", seed=1)
    lengths = np.maximum(case.lengths, 1)
    together, _, _ = net.forward(case.inputs, lengths=lengths)
    for b in range(21):
        alone, _, _ = net.forward(np.ascontiguousarray(case.inputs[: lengths[b], b : b + 1]))
        assert alone[:, 0].tobytes() == together[: lengths[b], b].tobytes()


# --- networks ---


def character_network(**options):
    layers = [
        tt.Embedding(7, 5),
        tt.GRU(5, 12),
        tt.Dropout(0.2),
        tt.LSTM(12, 9, projection=4),
        tt.Dense(4, 7),
    ]
    return tt.Network(layers, tt.SoftmaxCrossEntropy(time="mean"), seed=2, **options)


CODES = np.random.default_rng(4).integers(0, 7, (700, 3))


def test_a_memory_limit_gives_the_same_bits(products):
    net = character_network(products="bfloat16")
    loss, gradient = net.loss_and_gradient(CODES, CODES)
    assert net.loss_and_gradient(CODES, CODES, memory_limit="320KB") == (loss, gradient)


def test_a_network_against_its_readable_form_and_float32(products, each_engine):
    x, y = CODES[:20], CODES[1:21]
    net, plain = character_network(products="bfloat16"), character_network()
    with tt.engine("readable"):
        loss, truth = net.loss_and_gradient(x, y, dropout_seed=3)
    ours_loss, ours = net.loss_and_gradient(x, y, dropout_seed=3)
    _, exact = plain.loss_and_gradient(x, y, dropout_seed=3)
    assert abs(ours_loss - loss) < 1e-4
    for name in truth:
        effect = relative_error(exact[name], truth[name])
        assert effect > 3e-5, name
        assert relative_error(ours[name], truth[name]) <= 2e-6 + effect / 2, name


def test_both_directions_and_the_batch_first(products):
    net = tt.Network(
        [tt.LSTM(4, 6, bidirectional=True), tt.Dense(12, 2)],
        tt.MeanSquaredError(),
        batch_first=True,
        products="bfloat16",
    )
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((3, 8, 4)).astype("f"), rng.standard_normal((3, 8, 2)).astype("f")
    lengths = np.array([8, 3, 5])
    with tt.engine("readable"):
        truth = net.gradients(x, y, lengths=lengths)
    ours = net.gradients(x, y, lengths=lengths)
    assert relative_error(ours.inputs, truth.inputs) < 1e-3
    assert relative_error(ours.parameters.flat, truth.parameters.flat) < 1e-3
    assert net.viewed(batch_first=False).products == "bfloat16"


def test_terms_of_a_step_are_in_bfloat16_too(products):
    net = character_network(products="bfloat16")
    found = tt.contributions(net, CODES[:6], CODES[:6], step=5)
    outputs, _, tape = net.forward(CODES[:6])
    loss = net.loss_of(outputs, CODES[:6])
    alone = np.zeros_like(outputs)
    alone[5] = loss.doutputs[5]
    whole = net.backward(tape, alone).parameters
    assert relative_error(found.gradient.flat, whole.flat) < 2e-3


@pytest.mark.parametrize("kind", [tt.RNN, tt.LSTM, tt.GRU])
def test_nearer_to_float64_than_twice_torch_s_autocast(products, kind):
    torch = pytest.importorskip("torch")
    net = tt.Network([kind(24, 48)], tt.MeanSquaredError(), seed=3)
    rng = np.random.default_rng(7)
    x, y = (
        rng.standard_normal((30, 8, 24)).astype("f"),
        rng.standard_normal((30, 8, 48)).astype("f"),
    )
    exact = net.astype("float64").loss_and_gradient(x.astype("d"), y.astype("d"))[1]
    ours = net.astype("float32", products="bfloat16").loss_and_gradient(x, y)[1]
    module = getattr(torch.nn, kind.__name__)(24, 48)
    tt.to_torch(net, module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = module(torch.from_numpy(x))[0]
    ((outputs.float() - torch.from_numpy(y)) ** 2).mean().backward()
    theirs = {"0.W": module.weight_ih_l0.grad, "0.U": module.weight_hh_l0.grad}
    for name, array in theirs.items():
        error = relative_error(array.numpy(), exact[name])
        assert error < 0.1, "of the same loss"
        assert relative_error(ours[name], exact[name]) <= 2 * error, name


# --- what it costs ---


def test_the_cost_of_precision_is_noise_and_bias(products):
    net = character_network(products="bfloat16")
    before = net.parameters.flat.copy()
    rough = tt.precision_cost(net, CODES[:20], CODES[1:21], steps=[20, 5])
    fine = tt.precision_cost(character_network(), CODES[:20], CODES[1:21], draws=3)
    assert rough.steps == (20, 5)
    assert fine.steps == (20, 5, 1)
    assert np.array_equal(net.parameters.flat, before)
    for name in net.parameters:
        assert fine.noise[name].max() < 1e-5, name
    for name in ("1.U", "3.W", "3.R", "4.W"):
        assert 5e-4 < rough.noise[name].min() <= rough.noise[name].max() < 2e-2, name
        assert rough.bias[name].max() < rough.noise[name].max(), name
    lines = str(rough).splitlines()
    assert lines[0].split() == ["T", "=", "20", "T", "=", "5"]
    assert len(lines) == 2 + len(net.parameters)


def test_an_error_that_is_the_same_everywhere_is_bias(monkeypatch):
    plain = tt.Network.loss_and_gradient

    def off(self, *given, **options):
        loss, gradient = plain(self, *given, **options)
        return loss, gradient * (1.01 if self.dtype == np.float32 else 1.0)

    monkeypatch.setattr(tt.Network, "loss_and_gradient", off)
    found = tt.precision_cost(character_network(), CODES[:9], CODES[1:10], steps=[9])
    for name, bias in found.bias.items():
        assert abs(bias[0] - 0.01) < 1e-3, name
        assert found.noise[name][0] < 2e-4, name


def test_the_cost_refuses():
    with pytest.raises(ValueError, match="network: expected one in float32, got float64"):
        tt.precision_cost(character_network(dtype="float64"), CODES, CODES)
    with pytest.raises(ValueError, match="draws: expected an integer of at least 2"):
        tt.precision_cost(character_network(), CODES, CODES, draws=1)
    with pytest.raises(ValueError, match="steps: expected 1 to T = 700, got 701"):
        tt.precision_cost(character_network(), CODES, CODES, steps=[701])


# --- files, copies, refusals ---


def test_files_and_copies_keep_it(products, tmp_path):
    net = character_network(products="bfloat16")
    net.save(tmp_path / "net.safetensors")
    again = tt.Network.load(tmp_path / "net.safetensors")
    assert again.products == net.copy().products == net.astype("float32").products == "bfloat16"
    assert again.loss_and_gradient(CODES[:9], CODES[:9]) == net.loss_and_gradient(
        CODES[:9], CODES[:9]
    )
    assert repr(net).endswith("dtype='float32', products='bfloat16')")
    assert net.astype("float64").products == "float32"
    plain = tt.Network.load(tmp_path / "net.safetensors", products="float32")
    assert plain.products == "float32"
    assert plain.describe() == character_network().describe()
    assert "products" not in json.loads(plain.describe())


def test_a_training_run_goes_on_with_the_same_bits(products, tmp_path):
    options = {"cell": "gru", "products": "bfloat16", "optimiser": "adam"}
    whole, first = trainer(**options), trainer(**options)
    whole.fit(updates=9)
    first.plan = RunLimits(9)
    first.fit(updates=9, out=tmp_path / "c", stop=lambda: first.updates == 4)
    resumed = Trainer.resume(tmp_path / "c", text())
    assert resumed.network.products == "bfloat16"
    resumed.fit(updates=9)
    assert resumed.network.parameters == whole.network.parameters
    plain = trainer(cell="gru", optimiser="adam")
    plain.fit(updates=9)
    assert abs(plain.history[-1].held_out - whole.history[-1].held_out) < 0.01  # bits


def without_products(words, call):
    """The call is refused with these words where the instruction set has no such products."""
    before = _engine.isa()
    _engine.choose_isa(_engine.available_isas()[-1])
    try:
        with pytest.raises(ValueError, match=words):
            call()
    finally:
        _engine.choose_isa(before)


def test_another_processor_refuses():
    expected = (
        "products: expected a processor with AVX512_BF16, or AArch64 with BF16, for bfloat16, "
        "got the instruction"
    )
    without_products(expected, lambda: character_network(products="bfloat16"))
    case = example("LSTM", (2, 2, 3, 4)).astype("float32")
    without_products("AVX512_BF16", lambda: run(RecurrentInBfloat16(case.cell), case))


def test_a_network_that_was_made_before_refuses_too(products):
    net = character_network(products="bfloat16")
    without_products("AVX512_BF16", lambda: net.forward(CODES))
    without_products(
        "AVX512_BF16",
        lambda: net.layers[-1].forward(
            net.of_layer(4), np.zeros((1, 1, 4), np.float32), None, None, None
        ),
    )


def test_the_readable_form_runs_on_any_processor():
    with tt.engine("readable"):
        before = _engine.isa()
        _engine.choose_isa(_engine.available_isas()[-1])
        try:
            assert np.isfinite(
                character_network(products="bfloat16").loss_and_gradient(CODES[:5], CODES[:5])[0]
            )
        finally:
            _engine.choose_isa(before)


def test_refuses_what_has_no_such_products():
    with pytest.raises(
        ValueError, match="products: expected a network in float32, for bfloat16, got float64"
    ):
        character_network(dtype="float64", products="bfloat16")
    with pytest.raises(
        ValueError, match="products: expected 'float32' or 'bfloat16', got 'float16'"
    ):
        character_network(products="float16")

    cell = CELLS["mlstm"](3, 4)
    expected = "layer 0: expected a cell in which a product of matrices is one of a parameter with"
    with pytest.raises(TypeError, match=expected):
        in_bfloat16(0, RecurrentLayer(cell))


def test_the_engine_refuses_float64(products):
    case = example("RNN tanh", (2, 2, 3, 4))
    given = {"W": case.p["W"], "U": case.p["U"], "b": case.p["b"], "inputs": case.inputs}
    with pytest.raises(ValueError, match="products: expected float32 arrays"):
        _engine.forward(
            engine_cell(case.cell, True), **given, h=np.zeros((3, 2, 4)), kept=np.zeros((2, 2, 4))
        )
