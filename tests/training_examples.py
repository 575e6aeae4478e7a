"""A small text and small settings, for the tests of training."""

from __future__ import annotations

import random
from typing import Any

from throughtime.training import Settings, Text, Trainer

WORDS = ["to", "and", "fro", "again", "the", "time", "steps", "back", "then"]


def text(words: int = 400, seed: int = 0) -> Text:
    """Words drawn at random."""
    draw = random.Random(seed)
    return Text(" ".join(draw.choice(WORDS) for _ in range(words)))


def settings(**options: Any) -> Settings:
    """A network of a few units; about 30 windows an epoch."""
    small = {
        "hidden": 6,
        "embedding": None,
        "batch": 3,
        "k1": 16,
        "warmup": 2,
        "learning_rate": 0.02,
        "clip": 0.5,
    }
    return Settings(**(small | options))


def trainer(**options: Any) -> Trainer:
    """One that has not begun."""
    return Trainer(text(), settings(**options))
