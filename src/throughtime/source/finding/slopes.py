"""Derivatives of the loss along random directions, and which gradients equal them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.pairing import like, numbers
from throughtime.source.user_files import State

SLOPE_STEP = 1e-4  # of a parameter's move of order 1: the error of a central difference is 1e-8
SLOPE_ERROR = 1e-3  # relative: far above that error and float32's, far below any fault's
SAME = 1e-5  # relative, of factors: above the error of their slopes, far below any coincidence


def slopes(
    bench: Bench,
    evaluate: str,
    start: State,
    names: dict[str, str],
    given: dict[str, np.ndarray],
) -> tuple[tuple[str, ...], tuple[str, ...], float | None, tuple[str, ...]]:
    """Which tensors' gradients are right along a random direction, and which move the loss.

    Then a factor that several of them are too large by, and those that the loss does not react to.
    """
    draw = np.random.default_rng(7)
    bench.run(evaluate, start)
    middle = loss_of(bench)
    bench.run(evaluate, start)
    if loss_of(bench) != middle or not np.isfinite(middle):
        raise CheckError("the loss is not finite, or differs between two evaluations")
    right, moves, moved, ratios, inert = [], [], False, [], []
    for name, text in names.items():
        raw = bench.value(text)
        value = np.array(as_array(raw), dtype=np.float64)
        in_place = isinstance(raw, np.ndarray) and raw.dtype.kind == "f"
        shape = value.shape
        direction = draw.standard_normal(shape)
        gradient = given[name]
        if gradient.size != value.size:
            raise CheckError(f"the gradient of {name} has another size")
        ends = []
        for sign in (1, -1):
            shift: Any = sign * SLOPE_STEP * direction
            move = f"{text}[...] += _move" if in_place else f"{text} = _move"
            if not in_place:
                shift = like(raw, value + shift)
            bench.run(f"{move}\ndel _move\n{evaluate}", start, _move=shift)
            ends.append(loss_of(bench))
        slope = (ends[0] - ends[1]) / (2 * SLOPE_STEP)
        if slope == 0.0:
            inert.append(name)
        if slope == 0.0 and not gradient.any():
            continue
        moves.append(name)
        moved = moved or slope != 0.0
        predicted = float(np.sum(gradient.reshape(shape) * direction))
        ratios.append(predicted / slope if slope else np.inf)
        size = max(abs(slope), float(np.linalg.norm(gradient)) / 10)
        rounding = 64 * np.finfo(np.float64).eps * abs(middle) / SLOPE_STEP
        if abs(slope - predicted) <= SLOPE_ERROR * size + rounding:
            right.append(name)
    return tuple(right), tuple(moves) if moved else (), _factor(ratios), tuple(inert)


def _factor(ratios: Sequence[float]) -> float | None:
    """A factor that several tensors share: no chance gives the same to so many digits."""
    for n, ratio in enumerate(ratios):
        if ratio > 0 and np.isfinite(ratio):
            near = [other for other in ratios[n + 1 :] if abs(other - ratio) <= SAME * ratio]
            if near:
                return ratio
    return None


def loss_of(bench: Bench) -> float:
    found = np.asarray(bench.space["loss"], dtype=np.float64)
    return float(np.sum(found))


def as_array(value: object) -> np.ndarray:
    found = numbers(value)
    return np.asarray(value, dtype=np.float64) if found is None else found
