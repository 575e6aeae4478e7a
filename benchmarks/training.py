"""Training a character model, timed beside the same model in PyTorch, on the same text.

Both begin with the same parameters. Their losses are compared, update by update, before anything
is timed. Then they take turns in blocks of updates.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import torch_layer
from benchmarks.engine import Row
from benchmarks.timing import Clock, take_turns
from throughtime.arrays import refuse
from throughtime.progress import progress_bar
from throughtime.torch.models.weights import torch_state_dict
from throughtime.training import Settings, Text, Trainer
from throughtime.training import trainer as steps

Update = Callable[[], tuple[float, int]]  # loss in nats per character, number of characters

TOLERANCE = 1e-3  # relative, of the loss of every update
BLOCK = 0.2  # seconds of updates between two readings of the clock
PARTS = ("forward", "loss", "backward", "clip", "optimiser", "rest")
UPDATES, SECONDS = 200, 1.0  # of the updates whose parts are timed, whichever limit comes first


@dataclass(frozen=True)
class Model:
    """A character model: an embedding of H/2, LSTM layers of H, and Dense."""

    H: int
    B: int = 32
    T: int = 64
    layers: int = 1

    def __str__(self) -> str:
        stack = "LSTM" if self.layers == 1 else f"{self.layers} × LSTM"
        return f"{stack} {self.B},{self.T},{self.H // 2},{self.H} float32 training"

    def settings(self) -> Settings:
        """Adam at a constant rate, with clipping at 1 and a carried state."""
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
    """One row per model.

    Args:
        models: the models to train.
        text: the text on which they are trained.
        updates: the number of updates over which the losses are compared.
        seconds: how long each model may be timed.

    Returns:
        rows of "case"; characters per second as "ours_characters", as "torch_characters", with
        torch's better number of threads and its default Adam, and as "torch_fused_characters",
        with a fused Adam; "ours_ms" and "torch_ms" per update; "ratio", our speed over that of
        "torch_characters"; "loss_difference", the largest relative difference; "shares" of our
        time, see `shares`.
    """
    rows = []
    with progress_bar(len(models), "bench", "models", sys.stderr.isatty()) as bar:
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
    """The largest relative difference between all losses, over that many updates.

    Raises:
        ValueError: if a difference is above 10⁻³.
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


class TorchTraining:
    """The model of a trainer that has not started yet, on the same windows of the same text.

    Args:
        torch: the module.
        trainer: the trainer whose initial parameters are copied.
        fused: whether Adam is a single pass over memory, which is not PyTorch's default.
    """

    def __init__(self, torch: Any, trainer: Trainer, fused: bool) -> None:
        self.torch, self.streams = torch, trainer.streams
        self.settings = settings = trainer.settings
        network, classes = trainer.network, len(trainer.vocabulary)
        assert settings.embedding is not None
        nn = torch.nn
        self.embedding = nn.Embedding(classes, settings.embedding)
        self.lstm = nn.LSTM(settings.embedding, settings.hidden, settings.layers)
        self.dense = nn.Linear(settings.hidden, classes)
        head = settings.layers + 1
        layers = range(1, head)
        self._copy(self.embedding, {"weight": network.parameters["0.E"]})
        self._copy(self.lstm, torch_state_dict(network, layers=layers))
        names = {"weight": f"{head}.W", "bias": f"{head}.b"}
        self._copy(self.dense, {name: network.parameters[n] for name, n in names.items()})
        for name, bias in self.lstm.named_parameters():
            # A second bias learns as fast as the first, so that together they learn twice as fast.
            bias.requires_grad_(not name.startswith("bias_hh"))
        modules = (self.embedding, self.lstm, self.dense)
        every = [p for module in modules for p in module.parameters()]
        self.parameters = [p for p in every if p.requires_grad]
        options = {"fused": True} if fused else {}
        self.adam = torch.optim.Adam(self.parameters, settings.learning_rate, **options)
        self.inputs, self.targets = (
            torch.from_numpy(np.ascontiguousarray(codes, np.int64))
            for codes in (self.streams.inputs, self.streams.targets)
        )
        self.window = 0
        self.state: Any = None  # h and c; None stands for zeros

    def _copy(self, module: Any, arrays: dict[str, Any]) -> None:
        module.load_state_dict({n: self.torch.from_numpy(a.copy()) for n, a in arrays.items()})

    def update(self) -> tuple[float, int]:
        """Makes one update; returns its loss in nats per character and its number of characters."""
        window = self.streams.windows[self.window]
        inputs = self.inputs[window.start : window.stop]
        targets = self.targets[window.start : window.stop]
        hidden, state = self.lstm(self.embedding(inputs), self.state)
        logits = self.dense(hidden)
        loss = self.torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        self.adam.zero_grad()
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.adam.step()
        self.window = (self.window + 1) % len(self.streams.windows)
        self.state = tuple(part.detach() for part in state) if self.window else None
        return loss.item(), targets.numel()


def shares(trainer: Trainer) -> dict[str, float]:
    """The share of every part in the time of real updates, from 0 to 1; the sum is 1.

    "rest" is what remains: the learning rate, the search for numbers that are not finite, and
    carrying the state.
    """
    spent = dict.fromkeys(PARTS, 0.0)
    with ExitStack() as stack:
        for part, owner, name in (
            ("forward", trainer.network, "forward"),
            ("loss", trainer.network, "loss_of"),
            ("backward", trainer.network, "backward"),
            ("clip", steps, "clip"),
            ("optimiser", trainer.optimiser, "update"),
        ):
            stack.enter_context(_watched(owner, name, spent, part))
        began, updates = perf_counter(), 0
        while updates < UPDATES and perf_counter() - began < SECONDS:
            trainer.step()
            updates += 1
        total = perf_counter() - began
    spent["rest"] = total - sum(spent.values())
    return {part: seconds / total for part, seconds in spent.items()}


@contextmanager
def _watched(owner: Any, name: str, spent: dict[str, float], part: str) -> Iterator[None]:
    """While it is active, the time in `owner.name` is added to `spent[part]`."""
    original: Callable[..., Any] = getattr(owner, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        began = perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            spent[part] += perf_counter() - began

    own = name in vars(owner)  # an instance inherits its methods from its class
    setattr(owner, name, watched)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)
