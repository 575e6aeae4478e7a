"""Data frames of checks and flows: every number that the text shows, in pandas and in polars."""

import importlib.util
import sys
import types

import numpy as np
import pytest

import throughtime as tt
from throughtime.report import frames


def check_of(share=1.0):
    W = np.linspace(0.5, 2, 6).reshape(2, 3)
    b = np.ones(2)
    loss = lambda: float((W**2).sum() + (b**3).sum())  # noqa: E731
    return tt.check(tt.Target({"W": W, "b": b}, loss, lambda: {"W": 2 * share * W, "b": 3 * b**2}))


def flow_of(cell=tt.LSTM):
    net = tt.Network([cell(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
    x = np.random.default_rng(0).standard_normal((7, 4, 2))
    return tt.flow(net, x, np.zeros((7, 4, 3)))


class Frame(dict):
    """What stands in for a library's DataFrame where neither is installed."""


@pytest.fixture
def stand_in(monkeypatch):
    """Both libraries, as modules that note what they are given."""
    for name in frames.LIBRARIES:
        module = types.ModuleType(name)
        module.DataFrame = type(name, (Frame,), {})
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(frames, "find_spec", lambda name: sys.modules.get(name))


def test_a_check_has_a_row_for_each_tensor_and_point(stand_in):
    report = check_of(share=0.5)
    found = report.to_frame()
    assert type(found).__name__ == "pandas"
    assert len({len(column) for column in found.values()}) == 1
    places = list(zip(found["point"], found["tensor"], strict=True))
    assert places == [(point.name, name) for point in report.points for name in point.tensors]
    row = places.index(("as given", "W"))
    own = report.tensors["W"]
    assert (found["verdict"][row], found["shape"][row]) == ("disagree", "2×3")
    assert found["discrepancy"][row] == own.discrepancy
    assert found["worst_gradient"][row] == own.worst.gradient
    assert found["wrong"][row] == len(own.wrong) > 0
    assert found["verdict"][row + 1] == "agree"


@pytest.mark.parametrize("cell", [tt.LSTM, tt.RNN])
def test_a_flow_has_a_row_for_each_layer_and_lag(stand_in, cell):
    flow = flow_of(cell)
    found = flow.to_frame("polars")
    assert type(found).__name__ == "polars"
    layer = flow.layers[0]
    assert found["lag"] == list(range(7))
    assert found["h"] == list(layer.profile["h"])
    assert found["relative"] == list(layer.compared)
    if cell is tt.LSTM:
        assert found["c_spread"] == list(layer.profile_spread["c"])
        assert found["carry"] == list(flow.carousel_share)
    else:
        assert np.isnan(found["c"]).all()
        assert np.isnan(found["carry"]).all()


def test_without_either_it_is_said(monkeypatch):
    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="expected pandas or polars, got neither; pip install"):
        flow_of().to_frame()
    with pytest.raises(ImportError, match="to_frame: expected polars, got none; pip install"):
        check_of().to_frame("polars")
    with pytest.raises(ValueError, match="library: expected 'pandas' or 'polars', got 'duckdb'"):
        check_of().to_frame("duckdb")


@pytest.mark.parametrize("library", frames.LIBRARIES)
def test_with_the_real_library(library):
    pytest.importorskip(library, reason="data frames are an option")
    assert importlib.util.find_spec(library) is not None
    found = check_of(share=0.5).to_frame(library)
    assert len(found) == sum(len(point.tensors) for point in check_of(share=0.5).points)
    assert "disagree" in set(found["verdict"])
    rows = flow_of().to_frame(library)
    assert rows.shape == (7, 14)
    assert float(rows["relative"][0]) == 1.0
