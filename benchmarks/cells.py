"""`python -m benchmarks cells`: users' cells, compiled, beside loops and scans of other libraries.

All contestants run the same equations on the same numbers, forward and backward with δ of inputs
and parameters, and take turns in one process. Every gradient is compared with ours before it is
timed. What counts are ratios of times.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import throughtime as tt
from benchmarks import jax_layer, torch_layer
from benchmarks.cell_code import NoCode, jax_source, torch_scan_source, torch_source
from benchmarks.engine import Row
from benchmarks.tables import Column, table
from benchmarks.timing import clock, take_turns
from throughtime import _engine
from throughtime.arrays import Array, real, refuse
from throughtime.cells import Cell, DerivedCell
from throughtime.engine_settings import products_in_bfloat16
from throughtime.storage import replace

EQUATIONS = "derived_cells"  # found beside the corpus
BUILT_IN = {"lstm": tt.LSTM, "gru": tt.GRU, "rnn": tt.RNN}
CELLS = (
    *("lstm", "layer_norm_lstm", "peephole_lstm", "slstm", "gru_d", "cfc", "mgu"),
    *("min_gru", "indrnn", "sru"),
)
# B, T, H; I is H, as in a layer above another.
SIZES = tuple((B, T, H) for B in (1, 16, 64) for T in (16, 128, 1024) for H in (64, 128, 256))
USUAL = ((1, 128, 128), (16, 128, 128), (64, 128, 256))
QUICK = ((4, 16, 16),)
BOUND = 1e-4  # of relative differences of gradients in float32, over many steps
BOUND_IN_BFLOAT16 = 0.05  # of the same where products are in bfloat16
ROUNDING = 16  # times what float32 costs our readable cell, where that is more

Gradients = dict[str, Array]
Pass = Callable[[], Gradients]

COLUMNS = (
    Column("cell: B,T,H", "case", "s"),
    Column("readable", "readable", ".1f"),
    Column("torch loop", "torch", ".1f", optional=True),
    Column("torch.jit", "jit", ".1f", optional=True),
    Column("torch.compile", "compile", ".1f", optional=True),
    Column("torch scan", "scan", ".1f", optional=True),
    Column("jax scan", "jax", ".1f", optional=True),
    Column("built-in", "built_in", ".2f", optional=True),
    Column("bfloat16", "bfloat16", ".2f", optional=True),
)


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this kind of benchmark to the command line."""
    kind = kinds.add_parser("cells", help="users' cells compiled, beside torch loops and JAX scans")
    kind.add_argument("--case", metavar="TEXT", help="only cells whose name contains it")
    kind.add_argument("--quick", action="store_true", help="one small size")
    kind.add_argument(
        "--slow",
        action="store_true",
        help="also torch.compile of the loop, which compiles for minutes, and PyTorch's scan",
    )
    kind.add_argument("--all", action="store_true", help="every size of {1, 16, 64} × …")
    kind.add_argument("--seconds", type=float, metavar="S", help="time each case for S seconds")
    kind.add_argument("--json", metavar="FILE", help="write the rows")
    kind.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints how many times as long as the compiled cell the others take."""
    chosen = [name for name in CELLS if not options.case or options.case in name]
    if not chosen:
        refuse("--case", "a part of a cell's name", repr(options.case))
    if options.seconds is not None and real("--seconds", options.seconds) <= 0:
        refuse("--seconds", "a number above 0", options.seconds)
    seconds = options.seconds or (0.3 if options.quick else 3.0)
    sizes = QUICK if options.quick else SIZES if options.all else USUAL
    torch, jax = torch_layer.find(), jax_layer.find()
    beside = [f"{m.__name__} {m.__version__}" for m in (torch, jax) if m]
    print(f"threads: {_engine.threads()}; beside {', '.join(beside) or 'nothing'}")
    print("times of one pass, in those of our compiled cell: above 1, ours is faster")
    rows: list[Row] = []
    try:
        for name, size in product(chosen, sizes):
            rows.append(row_of(name, size, seconds, torch, jax, slow=options.slow))
    finally:  # what was measured stays, whatever happens to the rest
        print(table(rows, COLUMNS))
    if options.json:
        replace(options.json, json.dumps(rows, indent=1, ensure_ascii=False).encode())
    return 0


def row_of(
    name: str,
    size: tuple[int, int, int],
    seconds: float,
    torch: Any,
    jax: Any,
    *,
    slow: bool = False,
) -> Row:
    """The ratios of one cell at one size."""
    B, T, H = size
    cell = _made(name, H)
    found = passes(name, cell, B, T, torch, jax, slow=slow)
    exact = found.pop("exact")()
    truth = found["compiled"]()
    off = _differences(found["readable"](), exact)
    for who, one in found.items():
        _compare(name, who, one(), truth, off)
    clocks = {who: clock(one) for who, one in found.items()}
    best = take_turns(clocks, seconds, 1 if seconds < 1 else 3)
    quickest: dict[str, float] = {}
    for who, took in best.items():
        group = who.split()[0]
        quickest[group] = min(took, quickest.get(group, took))
    ours = quickest.pop("compiled")
    row: Row = {"case": f"{name} {B},{T},{H}"} | {column.key: None for column in COLUMNS[1:]}
    return row | {who: took / ours for who, took in quickest.items()}


def _made(name: str, units: int) -> DerivedCell:
    cells: Any = import_module(EQUATIONS)
    definition = cells.CELLS.get(name) or getattr(cells, name)
    made: DerivedCell = cells.made(definition, units, units)
    return made


def _differences(ours: Gradients, truth: Gradients) -> dict[str, float]:
    """‖ours − truth‖ / ‖truth‖ of each tensor."""
    return {
        name: float(np.linalg.norm(ours[name] - wanted) / (np.linalg.norm(wanted) or 1.0))
        for name, wanted in truth.items()
    }


def _compare(name: str, who: str, ours: Gradients, truth: Gradients, off: dict[str, float]) -> None:
    for tensor, difference in _differences(ours, truth).items():
        bound = BOUND_IN_BFLOAT16 if who == "bfloat16" else BOUND
        allowed = max(bound, ROUNDING * off[tensor])
        if not difference <= allowed:
            expected = f"a relative difference below {allowed:.1e}"
            refuse(f"{name}, {who}: {tensor}", expected, f"{difference:.1e}")


def passes(
    name: str, cell: DerivedCell, B: int, T: int, torch: Any, jax: Any, *, slow: bool = False
) -> dict[str, Pass]:
    """A forward and backward pass of every contestant, by name."""
    rng = np.random.default_rng(0)
    p = {
        parameter: (rng.standard_normal(shape) / np.sqrt(max(shape[-1:], default=1))).astype("f4")
        for parameter, shape in cell.shapes().items()
    }
    x = rng.standard_normal((T, B, cell.inputs)).astype("f4")
    dy = rng.standard_normal((T, B, cell.output_size)).astype("f4")
    if not cell.runs_as("float32").startswith("compiled"):
        refuse(name, "a cell that is compiled", cell.runs_as("float32"))
    found = {
        "compiled": _ours(cell, p, x, dy, "compiled"),
        "readable": _ours(cell, p, x, dy, "readable"),
        "exact": _ours(cell, _doubles(p), x.astype("f8"), dy.astype("f8"), "readable"),
    }
    if _engine.bfloat16() and cell.multiplies_in_bfloat16:
        found["bfloat16"] = _in_bfloat16(found["compiled"])
    if name in BUILT_IN:
        built_in = BUILT_IN[name](cell.inputs, cell.units)
        found["built_in"] = _ours(built_in, p, x, dy, "compiled")
    sizes = cell.state_sizes
    state = [np.zeros((B, n), "f4") for n in sizes.values()]
    try:
        if torch:
            layer = _module(torch_source(cell)).layer
            kinds = {"torch": layer, "jit": _scripted(torch, layer)}
            if slow:
                kinds["compile"] = torch.compile(layer)
                kinds["scan"] = _module(torch_scan_source(cell)).layer
            for who, own in kinds.items():
                for threads in torch_layer.thread_counts():
                    one = _torch(torch, own, p, x, dy, state, threads)
                    found[f"{who} {threads}"] = one
        if jax:
            found["jax"] = _jax(jax, _module(jax_source(cell)).layer, p, x, dy, state)
    except NoCode as problem:
        print(f"{name}: no loop of the others, {problem}")
    return found


def _ours(cell: Cell, p: Gradients, x: Array, dy: Array, engine: Any) -> Pass:
    def both() -> Gradients:
        with tt.engine(engine):
            _, _, tape = cell.forward(p, x)
            found = cell.backward(p, tape, dy, need_deltas=False)
        assert found.inputs is not None
        return dict(found.parameters) | {"x": found.inputs}

    return both


def _in_bfloat16(compiled: Pass) -> Pass:
    def both() -> Gradients:
        with products_in_bfloat16():
            return compiled()

    return both


def _doubles(arrays: Gradients) -> Gradients:
    return {name: array.astype("f8") for name, array in arrays.items()}


def _scripted(torch: Any, layer: Any) -> Any:
    """TorchScript, which is still the quickest loop that torch has, and warns that it is old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(layer)


def _torch(
    torch: Any,
    layer: Any,
    p: Gradients,
    x: Array,
    dy: Array,
    state: list[Array],
    threads: int,
) -> Pass:
    tensors = {n: torch.from_numpy(a.copy()).requires_grad_() for n, a in p.items()}
    inputs = torch.from_numpy(x.copy()).requires_grad_()
    before, upstream = [torch.from_numpy(a) for a in state], torch.from_numpy(dy)

    def both() -> Gradients:
        torch.set_num_threads(threads)
        y = layer(inputs, *before, *tensors.values())
        found = torch.autograd.grad(y, [*tensors.values(), inputs], upstream)
        return dict(zip([*tensors, "x"], (g.numpy() for g in found), strict=True))

    return both


def _jax(jax: Any, layer: Any, p: Gradients, x: Array, dy: Array, state: list[Array]) -> Pass:
    before = [jax.numpy.asarray(a) for a in state]
    arguments = ([jax.numpy.asarray(a) for a in p.values()], jax.numpy.asarray(x))
    upstream = jax.numpy.asarray(dy)

    def loss(p: Any, x: Any) -> Any:
        return (layer(x, *before, *p) * upstream).sum()

    program = jax.jit(jax.grad(loss, argnums=(0, 1)))

    def both() -> Gradients:
        found, dx = jax.block_until_ready(program(*arguments))
        return dict(zip([*p, "x"], map(np.asarray, [*found, dx]), strict=True))

    return both


def _module(source: str) -> Any:
    """A module of a source, which stays a file, since TorchScript reads it."""
    path = Path(_folder(), f"layer_{len(os.listdir(_folder()))}.py")
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # torch.compile looks it up
    spec.loader.exec_module(module)
    return module


@cache
def _folder() -> str:
    """A folder that is gone with the process."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
