"""What the tests share: small networks, errors, numerical gradients, commands, terminals."""

from __future__ import annotations

import argparse
import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import throughtime as tt
from throughtime import _engine
from throughtime.cells import variants

I, H = 2, 3  # noqa: E741
CLASSES = 4  # a network of so many inputs is given class indices

CELLS: dict[str, Any] = dict(variants(I, H))

STACKS: dict[str, list[Any]] = {
    "Dense": [tt.Dense(I, 3)],
    "Dense without bias": [tt.Dense(I, 3, bias=False)],
    "Dense of indices": [tt.Dense(CLASSES, 3), tt.RNN(3, 2)],
    "Embedding": [tt.Embedding(CLASSES, 2), tt.GRU(2, 2)],
    "LSTM of indices": [tt.LSTM(CLASSES, 2), tt.Dense(2, 3)],
    "RNN of indices, both directions": [tt.RNN(CLASSES, 2, bidirectional=True)],
    "stacked": [tt.RNN(I, 2, bidirectional=True), tt.GRU(4, 2), tt.LSTM(2, 2), tt.Dense(2, 3)],
    "Dropout": [tt.RNN(I, H), tt.Dropout(0.4), tt.LSTM(H, 2), tt.Dropout(0.4), tt.Dense(2, 2)],
}


@dataclass(frozen=True)
class Example:
    """A run and what is differentiated: L = Σ doutputs · outputs + Σ dstate · final state."""

    inputs: Any
    state: tt.Parameters
    lengths: Any
    doutputs: Any
    dstate: tt.Parameters
    dropout_seed: int | None = None


def cases() -> dict[str, list[Any]]:
    """Layers of each cell, in one direction and in both, and of each stack, by name."""
    both = {
        f"{name}, both directions": [replace(cell, bidirectional=True)]
        for name, cell in CELLS.items()
    }
    return {name: [cell] for name, cell in CELLS.items()} | both | STACKS


def network(layers: list[Any], dtype: str = "float64", seed: int = 1) -> tt.Network:
    """A network none of whose parameters is 0, biases and peepholes included."""
    net = tt.Network(layers, dtype=dtype)
    rng = np.random.default_rng(seed)
    net.parameters.flat[...] = rng.uniform(-1, 1, net.parameters.flat.size)
    return net


def example(net: tt.Network, T: int = 4, B: int = 3, *, ragged: bool = True) -> Example:
    """Random inputs, states and upstream gradients; ragged lengths include 1 and T."""
    rng = np.random.default_rng(2)
    if net.inputs == CLASSES:
        inputs = rng.integers(0, CLASSES, (T, B))
    else:
        inputs = rng.standard_normal((T, B, net.inputs)).astype(net.dtype)
    lengths = np.resize([T, 1, max(1, T - 1)], B) if ragged else None
    state, dstate = net.zero_state(B), net.zero_state(B)
    state.flat[...] = rng.uniform(-1, 1, state.flat.size)
    dstate.flat[...] = rng.uniform(-1, 1, state.flat.size)
    doutputs = rng.standard_normal((T, B, net.outputs)).astype(net.dtype)
    dropped = any(isinstance(spec, tt.Dropout) for spec in net.specs)
    return Example(inputs, state, lengths, doutputs, dstate, 5 if dropped else None)


def objective(net: tt.Network, case: Example) -> float:
    """L of the example."""
    outputs, final, _ = net.forward(
        case.inputs, case.state, case.lengths, dropout_seed=case.dropout_seed
    )
    return float((outputs * case.doutputs).sum()) + final.dot(case.dstate)


def gradients(net: tt.Network, case: Example) -> tt.Gradients:
    """The gradients of L by backpropagation."""
    _, _, tape = net.forward(case.inputs, case.state, case.lengths, dropout_seed=case.dropout_seed)
    return net.backward(tape, case.doutputs, case.dstate)


def relative_error(ours: Any, truth: Any) -> float:
    """‖ours − truth‖ / ‖truth‖ in float64; infinite where only the truth is 0."""
    a, b = np.asarray(ours, np.float64), np.asarray(truth, np.float64)
    assert a.shape == b.shape
    difference, scale = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if scale == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / scale


def numerical_gradient(function: Callable[[], float], array: Any, step: float = 1e-3) -> Any:
    """∂function/∂array, entry by entry.

    The five-point rule: its error is of order step⁴, so that a step large enough for rounding
    not to matter still gives eleven digits.
    """
    gradient = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        middle = array[place]
        values = []
        for shift in (-2, -1, 1, 2):
            array[place] = middle + shift * step
            values.append(function())
        array[place] = middle
        gradient[place] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return gradient


def fault_names(report: Any) -> list[str]:
    """The faults that a report names, best first."""
    return [cause.fault for cause in report.causes]


def run_command(arguments: Sequence[object], *commands: Any) -> int:
    """The exit status of a command line that knows these commands alone; errors are raised."""
    parser = argparse.ArgumentParser()
    kinds = parser.add_subparsers(dest="command", required=True)
    for command in commands:
        command.add(kinds.add_parser(command.__name__.rpartition(".")[2]))
    options = parser.parse_args([str(argument) for argument in arguments])
    status: int = options.run(options)
    return status


class Said:
    """What a check says of these tensors, as far as the benchmarks read it."""

    def __init__(self, verdict: str, names: Sequence[str], smallest_error: float = 1e-6) -> None:
        self.verdict, self.smallest_error, self.evaluations = verdict, smallest_error, 7
        self.tensors = dict.fromkeys(names, self)


# An editable installation puts a finder of its own before PYTHONPATH.
PREFER_THE_COPY = """\
import sys

sys.meta_path = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
"""


def package_copy(folder: Path) -> dict[str, str]:
    """Copies the package into a folder; the environment in which Python imports that copy."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(tt.__file__).parent, folder / "throughtime", ignore=ignored)
    if not list((folder / "throughtime").glob("_engine.*.so")):
        shutil.copy(_engine.__file__, folder / "throughtime")
    (folder / "sitecustomize.py").write_text(PREFER_THE_COPY)
    return os.environ | {"PYTHONPATH": str(folder)}


class Terminal(io.StringIO):
    """What is printed to it, as to a terminal."""

    def isatty(self) -> bool:
        return True


def one_hot(indices: Any, classes: int, dtype: object = np.float64) -> Any:
    """(T, B) -> (T, B, classes)."""
    return np.eye(classes, dtype=dtype)[indices]


def one_sequence(named: Mapping[str, Any], b: int) -> dict[str, Any]:
    """Sequence b's part of a state, as a batch of one."""
    return {name: array[b : b + 1] for name, array in named.items()}


# A network of a user's own, as the text of a file.
RNN_CLASS = """
import numpy as np

class RNN:
    def __init__(self, input_size, hidden_size):
        self.W = np.random.randn(hidden_size, input_size) * 0.5
        self.U = np.random.randn(hidden_size, hidden_size) * 0.5

    def forward(self, x):
        self.x, self.h = x, [np.zeros(len(self.U))]
        for t in range(len(x)):
            self.h.append(np.tanh(self.W @ x[t] + self.U @ self.h[-1]))
        return np.array(self.h[1:])

    def backward(self, dh):
        self.dW, self.dU, carried = np.zeros_like(self.W), np.zeros_like(self.U), 0
        for t in reversed(range(len(self.x))):
            dz = (dh[t] + carried) * (1 - self.h[t + 1] ** 2)
            self.dW += np.outer(dz, self.x[t])
            self.dU += np.outer(dz, self.h[t])
            carried = self.U.T @ dz
"""
