"""The discrepancy that the check measures for a right gradient, and that of a tuned epsilon."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import corpus as implementations
from benchmarks.engine import Row
from throughtime.gradcheck import Sweep, Target
from throughtime.progress import progress_bar
from throughtime.questions import check, sweep

SIZES = {"T": 39, "I": 5, "H": 5, "O": 5}
LOSSES: dict[str, dict[str, Any]] = {
    "float32, one number": {"dtype": "float32"},
    "float32, terms": {"dtype": "float32", "terms": True},
    "float64, one number": {"dtype": "float64"},
}
AIMS = {"float32, one number": 1e-5, "float32, terms": 2e-6, "float64, one number": 1e-11}
EPSILONS = tuple(10.0 ** (k / 4) for k in range(-32, 1))


def accuracy(seeds: Sequence[int]) -> Iterator[Row]:
    """A softmax LSTM of sizes 5-5-5, T = 39, one sequence, with the loss summed over the steps.

    Returns:
        rows of "part": "accuracy"; "loss", how the loss is computed; "seeds"; "discrepancy", the
        median over the seeds, and "worst"; "aim"; "floor" and "evaluations", medians; "verdicts",
        all of them; "hand_discrepancy", the median of what central differences reach with that
        one epsilon out of 33 which turns out best for the seed, and "hand_epsilon".
    """
    with progress_bar(len(LOSSES), "accuracy", "losses", sys.stderr.isatty()) as bar:
        for loss in LOSSES:
            yield row(loss, seeds)
            bar.update()


def row(loss: str, seeds: Sequence[int]) -> Row:
    """See `accuracy`."""
    targets = [target(loss, seed) for seed in seeds]
    reports = [check(one, progress=False) for one in targets]
    hands = [hand_tuned(one) for one in targets]
    return {
        "part": "accuracy",
        "loss": loss,
        "seeds": list(seeds),
        "discrepancy": float(np.median([r.discrepancy for r in reports])),
        "worst": max(r.discrepancy for r in reports),
        "aim": AIMS[loss],
        "floor": float(np.median([r.floor for r in reports])),
        "evaluations": int(np.median([r.evaluations for r in reports])),
        "verdicts": [r.verdict for r in reports],
        "hand_discrepancy": float(np.median([d for d, _ in hands])),
        "hand_epsilon": float(np.median([epsilon for _, epsilon in hands])),
    }


def target(loss: str, seed: int) -> Target:
    """The compiled target if there is a compiler, because it is the fastest."""
    style = "compiled" if "compiled" in implementations.styles() else "concatenated"
    sizes: dict[str, Any] = {"B": 1, "time": "sum", "seed": seed} | SIZES | LOSSES[loss]
    return implementations.make(style, "LSTM", **sizes)


def hand_tuned(one: Target) -> tuple[float, float]:
    """The smallest discrepancy that any fixed step reaches, and that step."""
    found: Sweep = sweep(one, epsilons=EPSILONS, progress=False)
    epsilon, discrepancy = found.best
    return discrepancy, epsilon
