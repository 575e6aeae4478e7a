"""The compiled network's arrays and its two functions, as Python calls them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from corpus.compiled.library import Options, library
from corpus.setting import Setting
from throughtime.arrays import Array

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def parameters(s: Setting) -> dict[str, Array]:
    """W (G·H, I + H) over [x, h], b (G·H,), V (O, H), c (O,): views of one flat vector."""
    rows = GATES[s.cell] * s.H
    shapes = {"W": (rows, s.I + s.H), "b": (rows,), "V": (s.O, s.H), "c": (s.O,)}
    flat = np.concatenate([s.weights(k, *shape).ravel() for k, shape in enumerate(shapes.values())])
    return _views(flat, shapes)


def _views(flat: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    found, place = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        found[name] = flat[place : place + size].reshape(shape)
        place += size
    return found


class Model:
    """Loss and gradient at the parameters `p`, one after another in memory."""

    def __init__(self, s: Setting, p: Mapping[str, Array]) -> None:
        self.s, self.p = s, p
        self.count = sum(array.size for array in p.values())
        self.flat_gradient = np.zeros(self.count, s.dtype)
        self.terms = np.zeros(s.T + 1, s.dtype)
        self.data = (s.inputs(), s.labels().astype(np.intc), s.answers(), self._start())
        self.options = Options(GATES[s.cell], s.T, s.B, s.I, s.H, s.O, *self._switches(), s.decay)
        self.faults = ("," + ",".join(s.faults) + ",").encode()
        self.function: Any = getattr(
            library(), {"float32": "run_float", "float64": "run_double"}[s.dtype]
        )

    def _start(self) -> Array:
        return np.stack([self.s.start(0), self.s.start(1)])

    def _switches(self) -> tuple[bool, ...]:
        s = self.s
        means = (s.time == "mean", s.batch == "mean")
        return (*means, s.task == "regression", s.activation == "relu", s.root)

    def loss(self) -> Any:
        """One number, added up in the model's own precision, or the terms."""
        self._run(None)
        return self.terms.copy() if self.s.terms else np.cumsum(self.terms)[-1]

    def gradient(self) -> dict[str, Array]:
        """By name, like the parameters."""
        self._run(self.flat_gradient)
        return _views(self.flat_gradient.copy(), {name: a.shape for name, a in self.p.items()})

    def _run(self, gradient: Array | None) -> None:
        first = next(iter(self.p.values()))
        self.function(
            ctypes.byref(self.options),
            self.faults,
            _pointer(first),
            ctypes.c_size_t(self.count),
            *map(_pointer, self.data),
            _pointer(self.terms),
            None if gradient is None else _pointer(gradient),
        )


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
