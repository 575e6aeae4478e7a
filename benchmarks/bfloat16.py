"""A recurrent layer with products in bfloat16, beside PyTorch's under autocast and both in float32.

The error of each is that of its gradients, ‖g − g₆₄‖ / ‖g₆₄‖ over all parameters and inputs, from
the gradient of the same numbers in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import torch_layer
from benchmarks.cases import Case, Ours
from benchmarks.tables import CASE, THREE_DIGITS, Column
from benchmarks.timing import clock, take_turns
from benchmarks.torch_layer import TorchLayer
from throughtime import _engine
from throughtime.arrays import Array, refuse
from throughtime.engine_settings import products_in_bfloat16

Row = dict[str, Any]

CASES = (
    Case("LSTM", 32, 128, 256, 256),
    Case("LSTM", 64, 128, 256, 256),
    Case("LSTM", 16, 128, 128, 128),
    Case("LSTM", 1, 128, 128, 128),
    Case("GRU", 32, 128, 256, 256),
    Case("GRU", 16, 128, 128, 128),
    Case("RNN", 16, 128, 128, 128),
)
COLUMNS = (
    CASE,
    Column("ours ms", "ours_ms", THREE_DIGITS),
    Column("in float32", "float32_ms", THREE_DIGITS),
    Column("torch", "torch_ms", THREE_DIGITS),
    Column("in float32", "torch32_ms", THREE_DIGITS),
    Column("float32 / ours", "to_float32", ".2f"),
    Column("torch / ours", "to_torch", ".2f"),
    Column("error", "error", ".1e"),
    Column("torch's", "torch_error", ".1e"),
)


class InBfloat16(Ours):
    """Our layer, with products in bfloat16."""

    def run(self) -> tuple[Array, Any]:
        with products_in_bfloat16():
            return super().run()


class TorchInBfloat16(TorchLayer):
    """PyTorch's layer under autocast."""

    def _whole(self) -> Any:
        with self.torch.autocast("cpu", dtype=self.torch.bfloat16):
            return super()._whole().float()


def measure(cases: Sequence[Case], seconds: float, rounds: int = 3) -> list[Row]:
    """One row per case.

    Raises:
        ValueError: where the processor has no products in bfloat16.
    """
    if not _engine.bfloat16():
        refuse("bfloat16", "a processor with AVX512_BF16", f"instruction set {_engine.isa()}")
    return [row(case, seconds, rounds) for case in cases]


def row(case: Case, seconds: float, rounds: int) -> Row:
    """The times of all contestants, and the errors of those in bfloat16."""
    exact = _in_float64(case).results()
    ours, plain = InBfloat16(case), Ours(case)
    runs: dict[str, Callable[[], object]] = {"ours": ours.run, "float32": plain.run}
    torch_error = None
    if torch := torch_layer.find():
        theirs, plain_torch = TorchInBfloat16(torch, case), TorchLayer(torch, case)
        torch_error = _error(theirs.results(), exact)
        for count in torch_layer.thread_counts():
            runs[f"torch {count}"] = partial(theirs.run, count)
            runs[f"torch32 {count}"] = partial(plain_torch.run, count)
    best = take_turns({name: clock(call) for name, call in runs.items()}, seconds, rounds)
    ms: dict[str, float] = {}
    for name, time in best.items():
        word = name.split()[0]
        ms[word] = min(ms.get(word, np.inf), 1e3 * time)
    return {
        "case": str(case).removesuffix(" float32"),
        "ours_ms": ms["ours"],
        "float32_ms": ms["float32"],
        "torch_ms": ms.get("torch"),
        "torch32_ms": ms.get("torch32"),
        "to_float32": ms["float32"] / ms["ours"],
        "to_torch": ms["torch"] / ms["ours"] if "torch" in ms else None,
        "error": _error(ours.results(), exact),
        "torch_error": torch_error,
    }


def _in_float64(case: Case) -> Ours:
    """Our layer with the case's numbers, which are float32's, in float64."""
    found = Ours(Case(**(case.to_dict() | {"dtype": "float64"})))
    found.p = {name: array.astype(np.float64) for name, array in case.parameters().items()}
    found.inputs, found.doutputs = (array.astype(np.float64) for array in case.data())
    return found


def _error(found: Mapping[str, Array], exact: Mapping[str, Array]) -> float:
    gradients = [name for name in exact if name.startswith("δ")]
    gap = sum(float(np.sum((found[name] - exact[name]) ** 2)) for name in gradients)
    return float((gap / sum(float(np.sum(exact[name] ** 2)) for name in gradients)) ** 0.5)
