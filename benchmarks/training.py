"""Training a character model, timed beside the same model in PyTorch, on the same text.

Both begin with the same parameters. Their losses are compared, update by update, before anything
is timed; then they take turns in blocks of updates.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from benchmarks import torch_layer
from benchmarks.breakdown import shares
from benchmarks.engine import Row
from benchmarks.timing import Clock, take_turns
from benchmarks.torch_model import TorchTraining
from throughtime.arrays import refuse
from throughtime.progress import progress_bar
from throughtime.training import Settings, Text, Trainer

Update = Callable[[], tuple[float, int]]  # loss in nats a character, number of characters

TOLERANCE = 1e-3  # of the loss of every update, relative
BLOCK = 0.2  # seconds of updates between two looks at the clock


@dataclass(frozen=True)
class Model:
    """A character model: embedding of H/2, LSTM layers of H, Dense."""

    H: int
    B: int = 32
    T: int = 64
    layers: int = 1

    def __str__(self) -> str:
        stack = "LSTM" if self.layers == 1 else f"{self.layers} × LSTM"
        return f"{stack} {self.B},{self.T},{self.H // 2},{self.H} float32 training"

    def settings(self) -> Settings:
        """Adam at a constant rate, clipping at 1, carried state."""
        return Settings(
            hidden=self.H,
            layers=self.layers,
            embedding=self.H // 2,
            batch=self.B,
            k1=self.T,
            learning_rate=2e-3,
            schedule="constant",
            warmup=0,
            clip=1.0,
        )


MODELS = (Model(128), Model(256), Model(512, layers=2), Model(128, B=1))


def measure(models: Sequence[Model], text: Text, updates: int, seconds: float) -> list[Row]:
    """One row a model.

    Args:
        models: what is trained.
        text: on what.
        updates: over how many the losses are compared.
        seconds: how long each model may be timed.

    Returns:
        rows of "case"; "ours_characters" a second, "torch_characters" with its better number of
        threads and Adam as it comes, "torch_fused_characters" with a fused one; "ours_ms",
        "torch_ms" an update; "ratio" of the speeds, ours to torch_characters; "loss_difference",
        the largest relative one; "shares" of our time, see `breakdown.shares`.
    """
    rows = []
    with progress_bar(len(models), "bench", "model", sys.stderr.isatty()) as bar:
        for model in models:
            rows.append(row(model, text, updates, seconds))
            bar.update()
    return rows


def row(model: Model, text: Text, updates: int, seconds: float) -> Row:
    """See `measure`."""
    trainer = Trainer(text, model.settings())
    torch = torch_layer.find()
    difference = None
    rivals: dict[str, TorchTraining] = {}
    if torch is not None:
        kinds = {"torch": False, "fused": True}
        rivals = {name: TorchTraining(torch, trainer, fused) for name, fused in kinds.items()}
        torch.set_num_threads(1)
        difference = compare(model, partial(_update, trainer), rivals, updates)
    contestants: dict[str, Clock] = {"ours": _blocks(partial(_update, trainer), model)}
    for name, rival in rivals.items():
        for count in torch_layer.thread_counts():
            start = partial(torch.set_num_threads, count)
            contestants[f"{name} {count}"] = _blocks(rival.update, model, start)
    best = take_turns(contestants, seconds)
    return _report(model, best) | {"loss_difference": difference, "shares": shares(trainer)}


def compare(model: Model, ours: Update, rivals: dict[str, TorchTraining], updates: int) -> float:
    """The largest relative difference between the losses of all, over so many updates.

    Raises:
        ValueError: where one is above 10⁻³.
    """
    worst = 0.0
    for number in range(1, updates + 1):
        loss, _ = ours()
        for name, rival in rivals.items():
            expected, _ = rival.update()
            difference = abs(loss - expected) / expected
            if not difference <= TOLERANCE:
                what = f"{model}: loss of update {number}"
                refuse(what, f"{expected:.5f} ({name})", f"{loss:.5f}")
            worst = max(worst, difference)
    return worst


def _update(trainer: Trainer) -> tuple[float, int]:
    done = trainer.step()
    return done.bits * math.log(2), done.characters


def _blocks(update: Update, model: Model, start: Callable[[], object] = lambda: None) -> Clock:
    """Seconds of one full window, as the mean over a block of updates."""

    def timed() -> float:
        start()
        characters, began, spent = 0, perf_counter(), 0.0
        while spent < BLOCK:
            characters += update()[1]
            spent = perf_counter() - began
        return spent * model.B * model.T / characters

    return timed


def _report(model: Model, best: dict[str, float]) -> Row:
    def fastest(group: str) -> float | None:
        return min((t for name, t in best.items() if name.split()[0] == group), default=None)

    def characters(group: str) -> float | None:
        seconds = fastest(group)
        return seconds and model.B * model.T / seconds

    ours, torch = best["ours"], fastest("torch")
    found: dict[str, Any] = {
        "case": str(model),
        "ours_ms": 1e3 * ours,
        "torch_ms": torch and 1e3 * torch,
        "ratio": torch and torch / ours,
    }
    names = {"ours": "ours", "torch": "torch", "fused": "torch_fused"}
    return found | {f"{name}_characters": characters(group) for group, name in names.items()}
