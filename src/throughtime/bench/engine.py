"""Forward and backward of one recurrent layer, timed beside PyTorch's.

Both compute the same thing from the same numbers, which is checked before anything is timed.
Runs are interleaved, so that whatever else the machine does meets all alike; the smallest time of
each counts, and of PyTorch's one- and two-thread times the better one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.bench.cases import Case
from throughtime.progress import progress_bar

Run = Callable[[], object]

TOLERANCE = 2e-4  # of float32 gradients against float32 gradients, norm-wise


def measure(cases: tuple[Case, ...], seconds: float) -> list[dict[str, Any]]:
    """One row a case: "case", "ours_ms", "torch_ms" (None without torch), "ratio", "gflops".

    Args:
        cases: what to time.
        seconds: how long each case may take, preparations not counted.
    """
    rows = []
    with progress_bar(len(cases), "bench", "case", sys.stderr.isatty()) as bar:
        for case in cases:
            rows.append(_row(case, seconds))
            bar.update()
    return rows


def _row(case: Case, seconds: float) -> dict[str, Any]:
    ours, gradient = _ours(case)
    contestants: dict[str, Run] = {"ours": ours}
    oracle = _torch(case)
    if oracle is not None:
        contestants |= oracle.runs()
        _same(case, gradient, oracle.gradient())
    best = _interleaved(contestants, seconds)
    opponent = min((t for name, t in best.items() if name != "ours"), default=None)
    return {
        "case": str(case),
        "ours_ms": 1e3 * best["ours"],
        "torch_ms": opponent and 1e3 * opponent,
        "ratio": opponent and opponent / best["ours"],
        "gflops": case.work / best["ours"] / 1e9,
    }


def _interleaved(contestants: dict[str, Run], seconds: float) -> dict[str, float]:
    """The smallest time of each, in seconds, after at least three rounds."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    began = perf_counter()
    while perf_counter() - began < seconds or len(times["ours"]) < 3:
        for name, run in contestants.items():
            before = perf_counter()
            run()
            times[name].append(perf_counter() - before)
    return {name: min(found) for name, found in times.items()}


def _ours(case: Case) -> tuple[Run, Array]:
    cell = case.make()
    p = _parameters(case)
    inputs, doutputs, lengths = case.data()

    def run() -> Array:
        _, _, tape = cell.forward(p, inputs, lengths=lengths)
        return cell.backward(p, tape, doutputs).parameters["U"]

    return run, run()


def _parameters(case: Case) -> dict[str, Array]:
    cell, rng = case.make(), np.random.default_rng(1)
    p = {name: np.zeros(shape, np.float32) for name, shape in cell.shapes().items()}
    cell.initialise(p, rng)
    return p


def _same(case: Case, ours: Array, other: Array) -> None:
    error = np.linalg.norm(ours - other) / np.linalg.norm(other)
    if not error < TOLERANCE:
        refuse(str(case), "the gradient of U that PyTorch has", f"one that is {error:.1e} off")


class _TorchLayer:
    """The same layer in PyTorch, run with one thread and with two."""

    def __init__(self, torch: Any, case: Case) -> None:
        from throughtime.bridges import torch_state_dict
        from throughtime.network import Network

        self.torch, self.case = torch, case
        network = Network([case.make()])
        for name, array in _parameters(case).items():
            network.parameters[f"0.{name}"] = array
        self.module = getattr(torch.nn, case.cell)(case.I, case.H)
        arrays = torch_state_dict(network).items()
        self.module.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in arrays})
        inputs, doutputs, self.lengths = case.data()
        self.inputs = torch.from_numpy(inputs).requires_grad_()
        self.doutputs = torch.from_numpy(doutputs)

    def runs(self) -> dict[str, Run]:
        return {f"torch {n}": partial(self._run, n) for n in (1, 2)}

    def gradient(self) -> Array:
        self._run(1)
        gradient: Array = self.module.weight_hh_l0.grad.numpy()
        return gradient

    def _run(self, threads: int) -> None:
        self.torch.set_num_threads(threads)
        self.module.zero_grad(set_to_none=True)
        self.inputs.grad = None
        rnn = self.torch.nn.utils.rnn
        if self.lengths is None:
            self.module(self.inputs)[0].backward(self.doutputs)
            return
        packed = rnn.pack_padded_sequence(self.inputs, self.lengths, enforce_sorted=False)
        outputs, _ = rnn.pad_packed_sequence(self.module(packed)[0])
        outputs.backward(self.doutputs)


def _torch(case: Case) -> _TorchLayer | None:
    try:
        import torch
    except ImportError:
        return None
    return _TorchLayer(torch, case)
