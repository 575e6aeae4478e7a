"""The benchmark of users' cells: that all contestants compute the same, and what it prints."""

import json

import numpy as np
import pytest

import throughtime as tt
from benchmarks import cells, cli, jax_layer, torch_layer
from benchmarks.cell_code import (
    TORCH,
    NoCode,
    cell_code,
    jax_source,
    torch_scan_source,
    torch_source,
)
from derived_cells import CELLS, made
from helpers import relative_error


@pytest.fixture(autouse=True)
def _compiled(monkeypatch, tmp_path_factory):
    """One thread, and compiled cells in a folder of these tests' own."""
    before = tt.engine_info()["threads"]
    tt.set_threads(1)
    monkeypatch.delenv("THROUGHTIME_COMPILER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "bench"))
    monkeypatch.setattr(cells, "QUICK", ((2, 5, 4),))
    CELLS["indrnn"].twins.clear()
    yield
    CELLS["indrnn"].twins.clear()
    tt.set_threads(before)


@pytest.mark.parametrize("name", [n for n in cells.CELLS if n != "lstm"])
@pytest.mark.parametrize("find", [torch_layer.find, jax_layer.find], ids=["torch", "jax"])
def test_a_loop_that_is_written_for_another_library_gives_our_outputs(name, find):
    library = find()
    if library is None:
        pytest.skip("it is not installed")
    cell = made(CELLS[name], 4, 4)
    rng = np.random.default_rng(0)
    p = {n: rng.standard_normal(shape).astype("f4") for n, shape in cell.shapes().items()}
    x = rng.standard_normal((3, 2, cell.inputs)).astype("f4")
    state = [np.zeros((2, n), "f4") for n in cell.state_sizes.values()]
    source = torch_source(cell) if library.__name__ == "torch" else jax_source(cell)
    array = library.from_numpy if library.__name__ == "torch" else library.numpy.asarray
    layer = cells._module(source).layer
    y = layer(array(x), *map(array, state), *map(array, p.values()))
    with tt.engine("readable"):
        outputs, _, _ = cell.forward(p, x)
    assert relative_error(np.asarray(y), outputs) < 1e-5


def test_pytorchs_scan_gives_our_outputs():
    library = torch_layer.find()
    if library is None:
        pytest.skip("PyTorch is not installed")
    cell = made(CELLS["indrnn"], 4, 4)
    rng = np.random.default_rng(0)
    p = {n: rng.standard_normal(shape).astype("f4") for n, shape in cell.shapes().items()}
    x = rng.standard_normal((3, 2, cell.inputs)).astype("f4")
    layer = cells._module(torch_scan_source(cell)).layer
    state = np.zeros((2, cell.output_size), "f4")
    y = layer(*map(library.from_numpy, (x, state, *p.values())))
    with tt.engine("readable"):
        outputs, _, _ = cell.forward(p, x)
    assert relative_error(np.asarray(y), outputs) < 1e-5


def test_a_matrix_as_a_state_has_no_loop():
    with pytest.raises(NoCode):
        cell_code(made(CELLS["mlstm"]), TORCH)


def test_the_command_prints_ratios_and_writes_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax_layer, "find", lambda: None)  # the test above has it
    rows = tmp_path / "rows.json"
    given = ["cells", "--quick", "--case", "indrnn", "--seconds", "0.01", "--json", str(rows)]
    assert cli.main(given) == 0
    assert "indrnn 2,5,4" in capsys.readouterr().out
    (row,) = json.loads(rows.read_text())
    assert row["readable"] > 0
    assert row["jax"] is None
    assert (row["torch"] is None) == (torch_layer.find() is None)


def test_another_result_ends_it_before_anything_is_timed(monkeypatch, capsys):
    monkeypatch.setattr(jax_layer, "find", lambda: None)
    monkeypatch.setattr(torch_layer, "find", lambda: None)
    own = cells._ours

    def off(cell, p, x, dy, engine):
        one = own(cell, p, x, dy, engine)
        return one if engine == "compiled" else lambda: {n: 1.001 * a for n, a in one().items()}

    monkeypatch.setattr(cells, "_ours", off)
    assert cli.main(["cells", "--quick", "--case", "indrnn"]) == 3
    assert "indrnn, readable: " in capsys.readouterr().err


def test_what_is_not_a_cell_is_refused(capsys):
    assert cli.main(["cells", "--case", "no such"]) == 3
    assert "--case: expected a part of a cell's name" in capsys.readouterr().err
