"""The benchmark's rows through torch's modules: compared, then timed; TBPTT as it is meant."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import throughtime.torch as ours  # noqa: E402
from benchmarks import cases, torch_modules  # noqa: E402
from benchmarks.cases import K1, K2, Case  # noqa: E402
from benchmarks.engine import compare  # noqa: E402
from benchmarks.tables import MODULES, table  # noqa: E402

KINDS = ["", "ragged", "window", "windows"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_both_compute_the_same(cell, kind):
    case = Case(cell, 3, 4 * K1, 3, 5, "float64", kind)
    mine, theirs = torch_modules.layers(torch, case)
    assert type(mine.module) is getattr(ours, cell)
    assert type(theirs.module) is getattr(torch.nn, cell)
    assert compare(case, mine, theirs) < 1e-12


def test_torchs_windows_are_truncated_bptt():
    """Against torch's own modules, each window from the state that a run from the start reaches."""
    case = Case("LSTM", 2, 4 * K1, 3, 5, "float64", "windows")
    layer = torch_modules.Windows(torch, case)
    found = layer.results()
    layer.module.zero_grad()
    x = layer.inputs.detach()
    for stop in range(K1, case.T + 1, K1):
        start = max(0, stop - K2)
        state = None
        if start:
            with torch.no_grad():
                _, state = layer.module(x[:start])
        y, _ = layer.module(x[start:stop], state)
        y[-K1:].backward(layer.doutputs[stop - K1 : stop])
    np.testing.assert_allclose(found["δU"], layer.module.weight_hh_l0.grad, rtol=1e-12)


def test_a_difference_ends_the_benchmark(monkeypatch):
    case = Case("GRU", 2, 5, 3, 4)
    monkeypatch.setattr(torch_modules, "layers", broken)
    with pytest.raises(ValueError, match="GRU 2,5,3,4 float32: outputs: expected what Torch has"):
        torch_modules.measure([case], 0.0, 1)


def broken(torch, case, layers=torch_modules.layers):
    mine, theirs = layers(torch, case)
    with torch.no_grad():
        theirs.module.weight_hh_l0.mul_(1.01)
    return mine, theirs


def test_rows_and_table():
    chosen = [Case("GRU", 2, 32, 3, 4), Case("GRU", 2, 32, 3, 4, kind="windows")]
    plain, windows = torch_modules.measure(chosen, 0.0, 1)
    assert plain["kept"] == pytest.approx(plain["ratio"] / plain["engine_ratio"])
    assert 0 < plain["at_most"] < 1
    assert plain["autograd_ms"] > 0
    assert windows["engine_ratio"] is windows["kept"] is windows["at_most"] is None
    lines = table([plain, windows], MODULES).splitlines()
    titles = "case: B,T,I,H ours ms torch.nn ratio engine's ratio of it autograd ms at most"
    assert " ".join(lines[0].split()) == titles
    assert lines[2].startswith("GRU 2,32,3,4 float32 TBPTT 16/32")
    assert lines[2].split()[-2:] == ["—", "—"]


def test_without_torch_there_are_no_rows(monkeypatch):
    monkeypatch.setattr("benchmarks.torch_layer.find", lambda: None)
    assert torch_modules.measure(cases.MODULES, 1.0) == []
