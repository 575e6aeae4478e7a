"""Figures of a flow, its page, and the histograms of its gates."""

import re
from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from flow_examples import at_rest, gru_at_rest, lstm_at_rest, rnn_at_rest
from report_examples import full_report
from test_report import Reader
from throughtime.report.flow_figures import HEATMAP_CELLS, shown_norms

pytest.importorskip("matplotlib")

ALL = {
    "lag_heatmap": tt.plots.lag_heatmap,
    "lag_profile": tt.plots.lag_profile,
    "truncation_bias": tt.plots.truncation_bias,
    "carousel": tt.plots.carousel,
    "time_constants": tt.plots.time_constants,
    "singular_values": tt.plots.singular_values,
    "lyapunov": tt.plots.lyapunov,
}


def network(*layers, T=24, B=3, dtype="float64", scale=1.0, **options):
    rng = np.random.default_rng(0)
    net = tt.Network(list(layers), tt.MeanSquaredError(), dtype=dtype, seed=0)
    net.parameters.flat[...] *= scale
    x = rng.standard_normal((T, B, net.inputs)).astype(dtype)
    y = rng.standard_normal((T, B, net.outputs)).astype(dtype)
    return tt.flow(net, x, y, **options)


@pytest.fixture(scope="module")
def flow():
    return network(tt.GRU(2, 4), tt.LSTM(4, 5), memory=7)


def texts(ax):
    return [text.get_text() for text in ax.texts]


# --- what every figure does ---


@pytest.mark.parametrize("name", [*ALL, "gate_histogram"])
def test_it_is_drawn_where_it_is_wanted_and_its_axes_say_what_they_count(flow, name):
    from matplotlib.figure import Figure

    figure = Figure()
    given = figure.subplots()
    if name == "gate_histogram":
        assert tt.plots.gate_histogram(flow, "f", given) is given
    else:
        assert ALL[name](flow, given) is given
    assert given.get_xlabel()
    assert given.get_ylabel()
    figure.savefig("/dev/null", format="png")


EDGES = {
    "one step": lambda: network(tt.LSTM(2, 3), T=1),
    "two steps, one unit, one sequence": lambda: network(tt.GRU(1, 1), T=2, B=1),
    "a gradient of 0": lambda: flow_without_a_loss(),
    "an explosion": lambda: network(tt.RNN(2, 4, "relu"), T=60, scale=4.0, dtype="float32"),
    "dead": lambda: network(tt.RNN(2, 4, "relu"), scale=0.0),
    "sampled": lambda: network(tt.LSTM(2, 3), T=400, max_lag=12, sample=30),
    "ragged": lambda: network(tt.LSTM(2, 3), lengths=np.array([24, 3, 1])),
}


def flow_without_a_loss():
    net = lstm_at_rest(*(np.array([0.5]) for _ in range(3)), np.zeros(1))
    return tt.flow(net, *at_rest(net, np.zeros((9, 2, 1)))[:2])


@pytest.mark.parametrize("case", EDGES)
def test_edges_are_drawn_or_refused(case, tmp_path):
    found = EDGES[case]()
    carry = (tt.plots.carousel, tt.plots.time_constants) if found.top.kind == "RNN" else ()
    for draw in carry:
        with pytest.raises(ValueError, match=r"expected an LSTM or a GRU.* got RNN"):
            draw(found)
    found.to_html(tmp_path / "p.html")  # which draws everything
    page = Reader((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert len(page.of("svg")) == len(ALL) - len(carry) + len(found.top.gates)
    described = [a["aria-label"] for a in page.of("div") if a.get("role") == "img"]
    assert not re.search(r"\bnan\b", " ".join(described))


def test_what_is_not_there_is_refused(flow):
    bare = network(tt.LSTM(2, 3), carousel=False, spectrum=False)
    refused = [
        (lambda: tt.plots.lag_heatmap(flow, layer=2), "layer: expected one of 0, 1, got 2"),
        (lambda: tt.plots.lag_heatmap(flow, part="s"), "part: expected h or c, got 's'"),
        (lambda: tt.plots.lag_heatmap(flow, layer=0, part="c"), "part: expected h, got 'c'"),
        (lambda: tt.plots.gate_histogram(flow, "z"), "gate: expected i or f or a or o, got 'z'"),
        (lambda: tt.plots.carousel(bare), "carousel: expected .* carousel=True, got LSTM"),
        (lambda: tt.plots.singular_values(bare), "expected .* spectrum=True, got none"),
        (lambda: tt.plots.lyapunov(bare), "lyapunov: expected .* spectrum=True, got none"),
    ]
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()


# --- what each of them shows ---


def test_the_heatmap_holds_the_norms_by_lag(flow):
    image = flow.plot().images[0]
    values = np.ma.filled(image.get_array().astype(float), np.nan)
    np.testing.assert_array_equal(values, flow.top.norms["c"])
    assert list(image.get_extent()) == [-0.5, 23.5, 23.5, -0.5]
    other = tt.plots.lag_heatmap(flow, layer=0, part="h").images[0].get_array()
    np.testing.assert_array_equal(np.ma.filled(other, np.nan), flow.layers[0].norms["h"])


def test_of_many_rows_and_lags_neighbours_are_averaged():
    norms = np.arange(1.0, 2 * HEATMAP_CELLS * 300 + 1).reshape(2 * HEATMAP_CELLS, 300)
    norms[0, 0], norms[1, 0] = np.nan, 0
    values, top = shown_norms(norms)
    assert values.shape == (HEATMAP_CELLS, HEATMAP_CELLS)
    assert np.isnan(values[0, 0])
    cuts = np.arange(HEATMAP_CELLS + 1) * 300 // HEATMAP_CELLS
    assert values[5, 9] == norms[10:12, cuts[9] : cuts[10]].mean()
    assert top == values[-1, -1]
    assert shown_norms(np.array([[np.inf, np.nan, 0.0]]))[1] == 0


def test_profile_band_level_and_marks(flow):
    ax = tt.plots.lag_profile(flow)
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(lines["‖∂Eₜ/∂cₖ‖"].get_ydata(), flow.top.profile["c"])
    np.testing.assert_array_equal(lines["‖∂Eₜ/∂hₖ‖"].get_ydata(), flow.top.profile["h"])
    level = lines["1% of c at lag 0"].get_ydata()[0]
    assert level == pytest.approx(0.01 * flow.top.profile["c"][0])
    assert set(lines["needed lag 7"].get_xdata()) == {7}
    K = flow.advice.truncation.steps
    assert texts(ax) == [f"K = {K}"]
    assert ax.get_yscale() == "log"
    assert len(ax.collections) == 2  # a band for each part


def test_a_K_beyond_what_was_seen_is_not_marked(flow):
    for steps, marks in ((None, []), (99, []), (3, ["K = 3"])):
        advice = replace(flow.advice, truncation=replace(flow.advice.truncation, steps=steps))
        other = replace(flow, advice=advice)
        for draw in (tt.plots.lag_heatmap, tt.plots.lag_profile, tt.plots.carousel):
            assert texts(draw(other)) == marks


def test_bars_stand_where_losses_were_sampled():
    ax = tt.plots.lag_profile(network(tt.LSTM(2, 3), T=400, max_lag=12, sample=30))
    assert len(ax.containers) == 2
    assert not tt.plots.lag_profile(network(tt.LSTM(2, 3))).containers


def test_the_carousel_shows_three_shares_in_per_cent(flow):
    ax = tt.plots.carousel(flow)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    shares = flow.top.paths
    np.testing.assert_array_equal(lines["along c alone"], 100 * shares["carry"])
    np.testing.assert_array_equal(lines["through the gates alone"], 100 * shares["gates"])
    np.testing.assert_array_equal(lines["through both"], 100 * shares["both"])
    assert "along z alone" in tt.plots.carousel(flow, layer=0).get_legend_handles_labels()[1]


def test_units_that_never_forget_stand_at_the_upper_edge():
    forget = np.array([0.5, 1.0 - 1e-17, 0.9])
    with np.errstate(divide="ignore"):
        net = lstm_at_rest(*(np.full(3, 0.5),), forget, np.full(3, 0.5), np.zeros(3))
    net.parameters["0.b"][3:6] = [0, 800, 3]
    ax = tt.plots.time_constants(tt.flow(net, *at_rest(net, np.ones((9, 1, 3)))[:2]))
    triangles = next(line for line in ax.lines if line.get_marker() == "^")
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    assert list(triangles.get_xdata()) == [1]
    assert (np.diff(dots.get_ydata()) < 0).all()


def test_spectra_show_what_is_known():
    U = np.diag([0.9, 0.5])
    net = rnn_at_rest(U)
    found = tt.flow(net, *at_rest(net, np.zeros((400, 2, 2)))[:2])
    ax = tt.plots.singular_values(found)
    middle = next(line for line in ax.lines if line.get_label() == "median over steps")
    np.testing.assert_allclose(middle.get_ydata(), [0.9, 0.5])
    ax = tt.plots.lyapunov(found)
    settled = [line.get_ydata()[-1] for line in ax.lines[:2]]
    np.testing.assert_allclose(settled, np.log([0.9, 0.5]), rtol=1e-10)


def test_the_bias_reaches_the_bound_that_was_asked_for(flow):
    lines = {line.get_label(): line for line in tt.plots.truncation_bias(flow).lines}
    K, values = lines["relative bias"].get_data()
    shown = flow.bias.relative > 0
    np.testing.assert_array_equal(K, flow.bias.steps[shown])
    np.testing.assert_array_equal(values, flow.bias.relative[shown])
    assert set(lines["asked: 0.1"].get_ydata()) == {0.1}


# --- gates over time ---


@pytest.mark.parametrize("cell", [tt.LSTM(2, 3), tt.GRU(2, 3), tt.RNN(2, 3), tt.RNN(2, 3, "relu")])
@pytest.mark.parametrize("lengths", [None, np.array([30, 4, 11])])
def test_gates_are_counted_step_by_step(cell, lengths):
    T, B = 30, 3
    net = tt.Network([cell], tt.MeanSquaredError(), dtype="float64", seed=0)
    x = 2 * np.random.default_rng(0).standard_normal((T, B, 2))
    found = tt.flow(net, x, np.zeros((T, B, 3)), lengths=lengths).top.gate_history
    tape = net.forward(x, None, lengths)[2].layers[0].directions[0]
    assert set(found) == set(tape.kept) & set(cell.gates if len(found) > 1 else "s")
    for gate, history in found.items():
        np.testing.assert_array_equal(history.steps, np.arange(T + 1))
        for t in range(T):
            living = np.full(B, True) if lengths is None else lengths > t
            counts = np.histogram(tape.kept[gate][t, living], history.edges)[0]
            np.testing.assert_allclose(history.shares[t], counts / counts.sum())


def test_gates_of_long_streams_are_counted_once_and_in_their_place():
    net = lstm_at_rest(*(np.full(40, p) for p in (0.3, 0.5, 0.6)), np.zeros(40))
    x, y, _ = at_rest(net, np.zeros((9000, 1, 40)))
    x[:4500] = 1
    net.parameters["0.W"][:40] = 9.0  # i is open in the first half, at rest in the second
    history = tt.flow(net, x, y, max_lag=5, sample=20).top.gate_history["i"]
    assert len(history.shares) == 64
    open_, rest = history.shares[:, -1], history.shares[:, int(0.3 * 32)]
    np.testing.assert_allclose(open_[:32], 1)
    np.testing.assert_allclose(rest[32:], 1)


# --- the page ---


def test_the_page_holds_the_flow_and_the_check(flow, tmp_path):
    flow.to_html(tmp_path / "p.html", check=full_report())
    page = Reader((tmp_path / "p.html").read_text(encoding="utf-8"))
    for words in (
        flow.verdict.upper(),
        *flow.advice.sentences,
        "Layer 1: LSTM, 5 units",
        "Layer 0: GRU, 4 units",
        "What truncation gives up",
        "Which past step teaches which weight",
        "Is the gradient right?",
        "To resolve it: compute the loss in float64.",
    ):
        assert words in page.text
    described = [a["aria-label"] for a in page.of("div") if a.get("role") == "img"]
    assert len(described) == len(page.of("svg")) == 2 + 8 + 9 + 1 + 2
    assert all(re.search(r"\d", words) for words in described)
    flow.to_html(tmp_path / "q.html")
    alone = Reader((tmp_path / "q.html").read_text(encoding="utf-8"))
    assert "Is the gradient right?" not in alone.text


def test_the_largest_pages_stay_below_a_megabyte(tmp_path):
    layers = [tt.LSTM(3, 8), *(tt.LSTM(8, 8) for _ in range(5))]
    found = network(*layers, T=256, B=2, scale=1.5)
    found.to_html(tmp_path / "p.html", check=full_report())
    assert (tmp_path / "p.html").stat().st_size < 1_000_000
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert text.count("Figures are shown of the 3 layers nearest to the loss.") == 3


def test_all_text_of_the_page_is_its_own_when_printed_alone(flow):
    single = gru_at_rest(np.array([0.5]), np.array([0.5]), np.array([0.5]))
    found = tt.flow(single, *at_rest(single, np.ones((5, 1, 1)))[:2])
    assert tt.plots.carousel(found).get_ylabel() == "share of ∂Eₜ/∂hₖ (%)"
