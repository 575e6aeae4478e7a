"""JAX's side of a case: `jax.lax.scan`, compiled by `jax.jit`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.cases import Case
from throughtime.arrays import Array
from throughtime.cells import active_steps


def find() -> Any:
    """The module jax, or None if it is not installed."""
    return import_module("jax") if find_spec("jax") else None


class JaxLayer:
    """The equations of the cells as one scan; XLA chooses the number of threads.

    δh and δc of every step are the gradients of zeros that are added to h and c.
    """

    def __init__(self, jax: Any, case: Case) -> None:
        self.jax, self.case = jax, case
        jax.config.update("jax_enable_x64", case.dtype == "float64")
        inputs, doutputs = case.data()
        lengths = case.lengths()
        self.active = None if lengths is None else jax.numpy.asarray(active_steps(case.T, lengths))
        zeros = np.zeros((case.T, case.B, case.H), case.dtype)
        added = {"h": zeros, "c": zeros} if self._inner else {}
        as_jax = jax.tree_util.tree_map(jax.numpy.asarray, (case.parameters(), inputs, added))
        self.arguments, self.doutputs = as_jax, jax.numpy.asarray(doutputs)
        self.program = jax.jit(self._forward if case.forward_only else self._both)

    @property
    def _inner(self) -> bool:
        return self.case.kind == "inner"

    def runs(self) -> dict[str, Callable[[], object]]:
        """The compiled program."""
        return {"jax": self.run}

    def run(self) -> Any:
        """((outputs, every c), gradients by parameters, inputs and the zeros that were added)."""
        given = self.arguments if self.case.forward_only else (*self.arguments, self.doutputs)
        return self.jax.block_until_ready(self.program(*given))

    def results(self) -> dict[str, Array]:
        """Results under the names of `Ours.results`."""
        if self.case.forward_only:
            outputs, every_c = self.run()
            found = {"outputs": outputs} | ({"every c": every_c} if self._inner else {})
        else:
            outputs, (dp, dx, dadded) = self.run()
            found = {"outputs": outputs, "δx": dx}
            found |= {f"δ{name}": array for name, array in dp.items()}
            found |= {f"every δ{name}": array for name, array in dadded.items()}
        return {name: np.asarray(array) for name, array in found.items()}

    def _both(self, p: Any, inputs: Any, added: Any, doutputs: Any) -> Any:
        def outputs_of(*arguments: Any) -> Any:
            return self._forward(*arguments)[0]

        outputs, pull_back = self.jax.vjp(outputs_of, p, inputs, added)
        return outputs, pull_back(doutputs)

    def _forward(self, p: Any, inputs: Any, added: Any) -> Any:
        np_, case = self.jax.numpy, self.case
        step: Any = {"RNN": self._rnn, "LSTM": self._lstm, "GRU": self._gru}[case.cell]

        def scanned(before: Any, given: Any) -> Any:
            z_x, active, plus = given
            h, c = step(p, z_x, *before, plus)
            if active is None:
                return (h, c), (h, c if self._inner else None)
            after = np_.where(active, h, before[0]), np_.where(active, c, before[1])
            return after, (h * active, None)

        zero = np_.zeros((case.B, case.H), case.dtype)
        z_x = inputs @ p["W"].T + p["b"]
        return self.jax.lax.scan(scanned, (zero, zero), (z_x, self.active, added))[1]

    def _rnn(self, p: Any, z_x: Any, h: Any, c: Any, plus: Any) -> Any:
        return self.jax.numpy.tanh(z_x + h @ p["U"].T), c

    def _lstm(self, p: Any, z_x: Any, h: Any, c: Any, plus: Any) -> Any:
        sigmoid, tanh = self.jax.nn.sigmoid, self.jax.numpy.tanh
        i, f, a, o = self.jax.numpy.split(z_x + h @ p["U"].T, 4, axis=1)
        c = sigmoid(i) * tanh(a) + sigmoid(f) * c + plus.get("c", 0)
        return sigmoid(o) * tanh(c) + plus.get("h", 0), c

    def _gru(self, p: Any, z_x: Any, h: Any, c: Any, plus: Any) -> Any:
        split, sigmoid = self.jax.numpy.split, self.jax.nn.sigmoid
        x_r, x_z, x_n = split(z_x, 3, axis=1)
        u_r, u_z, u_n = split(h @ p["U"].T, 3, axis=1)
        r, z = sigmoid(x_r + u_r), sigmoid(x_z + u_z)
        n = self.jax.numpy.tanh(x_n + r * (u_n + p["c"]))
        return (1 - z) * n + z * h, c
