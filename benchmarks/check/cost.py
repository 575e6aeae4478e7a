"""The cost of a verdict on one LSTM, ours and that of torch's slow mode, on the same gradient."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import torch_layer
from benchmarks.check.growth import EFFORTS, one_wrong_entry, timed
from benchmarks.check.rivals import torch_accepts
from benchmarks.engine import Row
from throughtime.arrays import Array
from throughtime.gradcheck import Target
from throughtime.progress import progress_bar

T, B, CLASSES = 20, 4, 4
WRONG: dict[str, Callable[[Target], Target]] = {
    "right": lambda target: target,
    "one entry off": lambda target: one_wrong_entry(target, 0)[1],
    "a gate × 1.01": lambda target: _with(target, _forget_gate_scaled),
    "δU transposed": lambda target: _with(target, _transposed),
    "averaged over T": lambda target: _with(target, _averaged),
}


def cost(H: int, slow: tuple[str, ...] = tuple(WRONG)) -> Iterator[Row]:
    """torch's LSTM H → H, T = 20, B = 4, float64, with a head for 4 classes and no second bias.

    H = 64 gives 33,280 parameters. Both tools use torch's losses and gradients.

    Args:
        H: the number of hidden units and of inputs.
        slow: which gradients torch's slow mode checks; its fast mode checks all.

    Returns:
        rows of "part": "cost"; "parameters"; "gradient", what is wrong with it; "quick" and
        "normal", our verdict with that effort, "quick_evaluations", "quick_seconds" and so on;
        "torch_slow" and "torch_fast", "agree" or "disagree"; "torch_slow_seconds" and
        "torch_fast_seconds"; "ratio", the slow mode's seconds over our quick ones. There are no
        rows without torch.
    """
    if torch_layer.find() is None:
        return
    with progress_bar(len(WRONG), "cost", "gradients", sys.stderr.isatty()) as bar:
        for name, spoil in WRONG.items():
            yield row(name, spoil(lstm(H)), slow=name in slow)
            bar.update()


def row(name: str, target: Target, *, slow: bool) -> Row:
    """See `cost`."""
    ours: Row = {}
    for effort in EFFORTS:
        with torch_layer.one_thread():  # as in the other measurements
            report, seconds = timed(target, effort)
        ours |= {effort: report.verdict, f"{effort}_evaluations": report.evaluations}
        ours |= {f"{effort}_seconds": seconds}
    fast_verdict, fast_seconds = _asked(target, fast=True)
    slow_verdict, slow_seconds = _asked(target, fast=False) if slow else (None, None)
    return {
        "part": "cost",
        "parameters": sum(array.size for array in target.parameters.values()),
        "gradient": name,
        **ours,
        "torch_slow": slow_verdict,
        "torch_slow_seconds": slow_seconds,
        "torch_fast": fast_verdict,
        "torch_fast_seconds": fast_seconds,
        "ratio": slow_seconds and slow_seconds / ours["quick_seconds"],
    }


def _asked(target: Target, *, fast: bool) -> tuple[str, float]:
    began = perf_counter()
    verdict = "agree" if torch_accepts(target, fast=fast) else "disagree"
    return verdict, perf_counter() - began


def lstm(H: int, seed: int = 0) -> Target:
    """`torch.nn.LSTM` with its second bias fixed at 0, and V (classes, H)."""
    torch: Any = torch_layer.find()
    generator = torch.Generator().manual_seed(seed)
    module = torch.nn.LSTM(H, H).double()
    weights = {n: p for n, p in module.named_parameters() if n != "bias_hh_l0"}
    module.bias_hh_l0.requires_grad_(False).zero_()
    weights["V"] = torch.zeros(CLASSES, H, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        for p in weights.values():
            p.uniform_(-(H**-0.5), H**-0.5, generator=generator)
    x = torch.randn(T, B, H, dtype=torch.float64, generator=generator)
    labels = torch.randint(CLASSES, (T * B,), generator=generator)

    def value() -> Any:
        logits = module(x)[0] @ weights["V"].t()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels)

    def loss() -> Array:
        with torch.no_grad():
            return np.asarray(value().numpy())

    def gradient() -> dict[str, Array]:
        found = torch.autograd.grad(value(), list(weights.values()))
        return {n: g.numpy() for n, g in zip(weights, found, strict=True)}

    views = {n: p.detach().numpy() for n, p in weights.items()}
    return Target(views, loss, gradient, steps=T)


def _with(target: Target, change: Callable[[dict[str, Array]], None]) -> Target:
    def gradient() -> dict[str, Array]:
        found = {name: np.array(array) for name, array in target.gradient().items()}
        change(found)
        return found

    return replace(target, gradient=gradient)


def _forget_gate_scaled(found: dict[str, Array]) -> None:
    H = found["weight_hh_l0"].shape[1]
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        found[name][H : 2 * H] *= 1.01


def _transposed(found: dict[str, Array]) -> None:
    H = found["weight_hh_l0"].shape[1]
    blocks = found["weight_hh_l0"].reshape(4, H, H)
    found["weight_hh_l0"] = np.ascontiguousarray(blocks.transpose(0, 2, 1)).reshape(4 * H, H)


def _averaged(found: dict[str, Array]) -> None:
    for array in found.values():
        array /= T
