"""The exact lag matrix beside PyTorch: T calls of `torch.autograd.grad` on an unrolled twin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import torch_layer
from benchmarks.cases import Case
from benchmarks.engine import Row, peak
from benchmarks.timing import Clock, clock, take_turns
from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import lag_matrix
from throughtime.network import MeanSquaredError, Network
from throughtime.questions import flow
from throughtime.torch import torch_state_dict

CASE = Case("LSTM", B=16, T=256, I=64, H=128)
QUICK = Case("LSTM", B=16, T=96, I=64, H=128)
TOLERANCE = 1e-5
WAYS = {
    "matrix": "the lag matrix",
    "shares": "with shares, bias, advice",
    "everything": "with carousel and spectrum",
}


class Ours:
    """A network of one layer, with inputs and targets, and the three measurements made of it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.network = Network([case.make()], MeanSquaredError(), dtype=case.dtype)
        for name, array in case.parameters().items():
            self.network.parameters[f"0.{name}"] = array
        self.inputs, self.targets = case.data()

    def runs(self) -> dict[str, Any]:
        """The runs, under the names of WAYS."""
        given = (self.network, self.inputs, self.targets)
        return {
            "matrix": partial(lag_matrix, *given),
            "shares": partial(flow, *given, carousel=False, spectrum=False),
            "everything": partial(flow, *given),
        }


class UnrolledTwin:
    """`torch.nn.LSTMCell`, step after step, and the gradients of one step's loss after another.

    Sequences are independent. The gradient of a step's loss, summed over the batch, therefore has
    the gradients of the single sequences as its rows.
    """

    def __init__(self, torch: Any, ours: Ours) -> None:
        self.torch = torch
        dtype = getattr(torch, ours.case.dtype)
        state = {n: torch.from_numpy(a.copy()) for n, a in torch_state_dict(ours.network).items()}
        self.cell = torch.nn.LSTMCell(ours.case.I, ours.case.H).to(dtype)
        self.cell.load_state_dict({n.removesuffix("_l0"): a for n, a in state.items()})
        self.inputs, self.targets = map(torch.from_numpy, (ours.inputs, ours.targets))

    def run(self, threads: int, ends: Sequence[int] | None = None) -> dict[str, Array]:
        """‖∂E_t/∂h_k‖ and ‖∂E_t/∂c_k‖, averaged over sequences: (T, T), 0 where k > t.

        Args:
            threads: the number of torch's threads.
            ends: the steps t that are wanted; by default all of them.
        """
        torch = self.torch
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        T, B, K = self.targets.shape
        h = c = self.inputs.new_zeros(B, K)
        hs, cs, losses = [], [], []
        for x, y in zip(self.inputs.unbind(0), self.targets.unbind(0), strict=True):
            h, c = self.cell(x, (h, c))
            hs.append(h)
            cs.append(c)
            losses.append((h - y).square().sum() / (T * B * K))
        found = {part: np.zeros((T, T)) for part in "hc"}
        for t in range(T) if ends is None else ends:
            states = hs[: t + 1] + cs[: t + 1]
            gradients = torch.autograd.grad(losses[t], states, retain_graph=True)
            norms = torch.stack(gradients).norm(dim=2).mean(dim=1).numpy()
            found["h"][t, : t + 1], found["c"][t, : t + 1] = norms[: t + 1], norms[t + 1 :]
        return found


def compare(ours: Ours, twin: UnrolledTwin) -> float:
    """The largest relative difference of any row of any matrix.

    Raises:
        ValueError: if a row differs by more than rounding errors.
    """
    expected = twin.run(1)
    runs, worst = ours.runs(), 0.0
    whole = runs["shares"]()
    for part, truth in expected.items():
        for matrix in (runs["matrix"]()[part], whole.matrix(part)):
            size = np.linalg.norm(truth, axis=1)
            error = float((np.linalg.norm(matrix - truth, axis=1) / size).max())
            if not error < TOLERANCE:
                refuse(f"lag matrix of {part}", "what torch has", f"a difference of {error:.1e}")
            worst = max(worst, error)
    return worst


def lag_rows(quick: bool) -> list[Row]:
    """Compares, then times in turns; torch's entries are None if it is not installed."""
    case = QUICK if quick else CASE
    ours, torch = Ours(case), torch_layer.find()
    error = None
    contestants: dict[str, Clock] = {name: clock(run) for name, run in ours.runs().items()}
    if torch:
        twin = UnrolledTwin(torch, ours)
        error = compare(ours, twin)
        for threads in torch_layer.thread_counts():
            contestants[f"torch {threads}"] = clock(partial(twin.run, threads))
    best = take_turns(contestants, 0, 1 if quick else 2)
    beside = {name.split()[1]: t for name, t in best.items() if name.startswith("torch")}
    torch_seconds = min(beside.values(), default=None)
    rate = operations(case) / best["matrix"] / 1e9
    return [
        {
            "part": "lags",
            "case": str(case),
            "what": what,
            "seconds": best[name],
            "torch_seconds": torch_seconds,
            "torch_threads_seconds": beside,
            "ratio": torch_seconds and torch_seconds / best[name],
            "error": error,
            "gflops": rate if name == "matrix" else None,
            "peak_share": rate / peak(case.dtype) if name == "matrix" else None,
        }
        for name, what in WAYS.items()
    ]


def operations(case: Case) -> float:
    """Those of the products: each of T(T − 1)/2 pairs of steps multiplies (B, 2H) by (2H, H)."""
    pairs = case.T * (case.T - 1) / 2
    return pairs * case.B * 2 * (2 * case.H) * case.H
