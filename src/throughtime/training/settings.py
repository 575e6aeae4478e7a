"""The settings of a training run: its model, the schedule of the learning rate, its end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from throughtime.arrays import positive, precision, refuse
from throughtime.cells import CELLS as KINDS
from throughtime.cells import Cell
from throughtime.network import (
    Dense,
    Dropout,
    Embedding,
    Network,
    SoftmaxCrossEntropy,
    Spec,
    checked_products,
)
from throughtime.training.optimisers import SGD, Adam, AdamW, Optimiser
from throughtime.training.text import held_out_share

CELLS: dict[str, type[Cell]] = {name.lower(): kind for name, kind in KINDS.items()}
OPTIMISERS: dict[str, type[Optimiser]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
SCHEDULES = ("constant", "cosine")
MOST_LAYERS = 1000  # a file may claim any number of them


@dataclass(frozen=True)
class RunLimits:
    """The end of a run, counted from its first update; whichever limit comes first ends it.

    Attributes:
        updates: how many in all; None for no such end.
        seconds: how long in all, interruptions not counted; None for no such end.
    """

    updates: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.updates is not None:
            positive("updates", self.updates)
        if self.seconds is not None and not number("seconds", self.seconds) > 0:
            refuse("seconds", "a number above 0", self.seconds)

    def share(self, updates: int, seconds: float) -> float:
        """How much of the run is done, from 0 to 1; 0 where no end is planned.

        Example:
            >>> from throughtime.training import RunLimits
            >>> RunLimits(updates=200).share(50, seconds=3.0)
            0.25
        """
        by_updates = updates / self.updates if self.updates else 0.0
        by_seconds = seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_updates, by_seconds))


def factor(schedule: str, warmup: int, update: int, share: float) -> float:
    """The factor of the learning rate at an update; updates are counted from 0.

    It rises linearly over `warmup` updates; "cosine" takes it down to 0 at the end of the plan
    along half a cosine wave (Loshchilov and Hutter 2017).
    """
    rise = min(1.0, (update + 1) / (warmup + 1))
    return rise * (0.5 * (1 + math.cos(math.pi * share)) if schedule == "cosine" else 1.0)


def number(what: str, value: object) -> float:
    """`value`, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(what, "a number", repr(value), error=TypeError)
    if not math.isfinite(value):
        refuse(what, "a finite number", value)
    return value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The model, how its text is read, and how it learns.

    Attributes:
        hidden: H, hidden units a layer.
        layers: recurrent layers on top of one another.
        cell: a name of `throughtime.cells.CELLS` in small letters, such as "lstm".
        embedding: features of a learned vector a character; None for one-hot inputs.
        dropout: share of numbers dropped after every recurrent layer, from 0 to below 1.
        classes: at most so many classes, the one of all rare characters included.
        held_out: share of the text that is held out.
        batch: B, parallel streams of the text.
        k1: steps between updates.
        k2: steps that the gradient goes back from an update; None for k1.
        optimiser: "sgd", "adam" or "adamw".
        learning_rate: η, at its highest.
        momentum: of "sgd".
        weight_decay: of "adamw".
        schedule: "constant", or "cosine": down to 0 over the planned run.
        warmup: updates over which the learning rate rises linearly at the start.
        clip: the largest global norm of the gradient; None clips nothing.
        seed: of initialisation and dropout.
        dtype: "float32" or "float64".
        products: of matrices, in "float32" (or what dtype says) or "bfloat16".
    """

    hidden: int = 256
    layers: int = 1
    cell: str = "lstm"
    embedding: int | None = 64
    dropout: float = 0.0
    classes: int = 256
    held_out: float = 0.05
    batch: int = 32
    k1: int = 64
    k2: int | None = None
    optimiser: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: int = 50
    clip: float | None = 1.0
    seed: int = 0
    dtype: str = "float32"
    products: str = "float32"

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "batch", "k1"):
            positive(name, getattr(self, name))
        if self.layers > MOST_LAYERS:
            refuse("layers", f"at most {MOST_LAYERS}", self.layers)
        for name in ("k2", "embedding"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        positive("classes", self.classes, at_least=2)
        positive("warmup", self.warmup, at_least=0)
        positive("seed", self.seed, at_least=0)
        for name, known in (("cell", CELLS), ("optimiser", OPTIMISERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                refuse(name, "one of " + ", ".join(known), repr(getattr(self, name)))
        for name in (
            "dropout",
            "momentum",
            "weight_decay",
            "learning_rate",
            "held_out",
            "clip",
        ):
            if name != "clip" or self.clip is not None:
                number(name, getattr(self, name))
        held_out_share(self.held_out)
        if not 0 <= self.dropout < 1:
            refuse("dropout", "a number from 0 to below 1", self.dropout)
        if not self.learning_rate > 0:
            refuse("learning_rate", "a number above 0", self.learning_rate)
        if self.clip is not None and not self.clip > 0:
            refuse("clip", "a norm above 0, or None", self.clip)
        if self.weight_decay and self.optimiser != "adamw":
            refuse("weight_decay", "0 without 'adamw'", self.weight_decay, "optimiser='adamw'")
        checked_products(self.products, precision(self.dtype))
        self.new_optimiser(0)

    @property
    def steps_back(self) -> int:
        """k2, which is k1 where it is not given."""
        return self.k1 if self.k2 is None else self.k2

    def specs(self, classes: int) -> list[Spec]:
        """The layers of a language model over so many classes."""
        first: list[Spec] = [] if self.embedding is None else [Embedding(classes, self.embedding)]
        size = self.embedding or classes
        stack: list[Spec] = []
        for _ in range(self.layers):
            stack.append(CELLS[self.cell](size, self.hidden))
            stack += [Dropout(self.dropout)] if self.dropout else []
            size = self.hidden
        return [*first, *stack, Dense(self.hidden, classes)]

    def new_network(self, classes: int) -> Network:
        """A language model over so many classes, newly initialised."""
        loss = SoftmaxCrossEntropy(time="mean")
        return Network(
            self.specs(classes), loss, dtype=self.dtype, seed=self.seed, products=self.products
        )

    def new_optimiser(self, size: int) -> Optimiser:
        """The chosen optimiser for a vector of `size` parameters."""
        if self.optimiser == "sgd":
            return SGD(size, self.dtype, momentum=self.momentum)
        if self.optimiser == "adamw":
            return AdamW(size, self.dtype, weight_decay=self.weight_decay)
        return Adam(size, self.dtype)
