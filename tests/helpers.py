"""What the tests share: small networks of every cell and option, errors, numerical gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import throughtime as tt
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


def one_hot(indices: Any, classes: int, dtype: object = np.float64) -> Any:
    """(T, B) -> (T, B, classes)."""
    return np.eye(classes, dtype=dtype)[indices]


def one_sequence(named: Mapping[str, Any], b: int) -> dict[str, Any]:
    """Sequence b's part of a state, as a batch of one."""
    return {name: array[b : b + 1] for name, array in named.items()}
