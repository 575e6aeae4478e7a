"""What a notebook and an interpreter show of a report, a flow, a run and gradients."""

from html.parser import HTMLParser

import numpy as np
import pytest

import throughtime as tt


class Text(HTMLParser):
    """Collects the text, and refuses tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.words = [], []

    def handle_starttag(self, tag, attributes):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def text_of(shown):
    parser = Text()
    parser.feed(shown._repr_html_())
    parser.close()
    assert not parser.open
    return " ".join(parser.words)


@pytest.fixture(scope="module")
def network():
    return tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)


DATA = np.ones((9, 1, 2)), np.zeros((9, 1, 3))


def test_a_report(network):
    def averaged():
        return {f"<{n}>": g / 9 for n, g in network.loss_and_gradient(*DATA)[1].items()}

    parameters = {f"<{n}>": array for n, array in network.parameters.items()}
    target = tt.Target(parameters, lambda: network.evaluate(*DATA).value, averaged)
    report = tt.check(target, progress=False)
    shown = text_of(report)
    for words in (report.headline(), "<0.W>", report.causes[0].statement, *report.notes):
        assert words in shown
    assert repr(report) == "<Report: disagree, d = 0.8, 3 tensors, causes scaled>"
    assert repr(report.causes[0]).startswith("Cause(")


def test_a_report_of_what_agrees_has_no_empty_columns():
    layers = [tt.LSTM(2, 12)]  # more entries than are looked at one by one
    network = tt.Network(layers, tt.MeanSquaredError(), dtype="float64", seed=0)
    shown = text_of(tt.check(network, DATA[0], np.zeros((9, 1, 12)), progress=False))
    assert "floor" in shown
    assert "worst entry" not in shown


def test_an_unresolved_report_says_what_would_resolve_it():
    target = tt.Target({"w": np.ones(2)}, lambda: 3.0 + 0 * 1.0, lambda: {"w": np.ones(2)})
    with pytest.raises(tt.CheckError):
        tt.check(target)
    w = np.zeros(3, np.float32)
    target = tt.Target({"w": w}, lambda: np.float32(1e6 + w.sum()), lambda: {"w": np.ones(3)})
    report = tt.check(target, progress=False, evaluations=60)
    assert report.verdict in ("agree", "unresolved")
    assert (report.remedy in text_of(report)) or not report.remedy


def test_a_flow(network):
    flow = tt.flow(network, *DATA)
    shown = text_of(flow)
    for words in (flow.reason, *flow.advice.sentences, *flow.notes, "layer 0 (LSTM)"):
        assert words in shown
    assert repr(flow) == f"<Flow: {flow.verdict}, T = 9, B = 1, 1 layer>"


def test_a_figure_and_a_derivation(network):
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    for ax in (tt.plots.carousel(tt.flow(network, *DATA)), tt.check(network, *DATA).plot()):
        assert ax._repr_png_().startswith(b"\x89PNG")
    shown = tt.derive(tt.cell(u="H", x="H")(lambda x, h, u: np.tanh(x + u * h)))._repr_latex_()
    assert shown.startswith(r"\begin{align*}")


def test_a_run_and_gradients_are_shapes(network):
    run = network.run(DATA[0])
    assert repr(run) == "<Run: outputs (9, 1, 3), hidden[0] (9, 1, 3), cells[0] (9, 1, 3)>"
    found = repr(network.gradients(*DATA))
    assert found.startswith("<Gradients: Parameters(72 × float64: 0.W (12, 2), ")
    assert "deltas[0]['z'] (9, 1, 12)" in found
