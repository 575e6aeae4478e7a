"""Factors of a gradient whose reduction is not that of the loss, and their products."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from throughtime.diagnosis.mutants.model import Model

CONTRADICTED = 0.1  # how likely a factor is that says of the loss what it does not do


@dataclass(frozen=True)
class Factor:
    """A known factor: the fault that gives it, and how likely it is beside others of its value."""

    fault: str
    value: float
    likely: float = 1.0


def known_factors(model: Model) -> Iterator[Factor]:
    """The factors of a gradient whose reduction is not that of the loss."""
    loss, run = model.loss, model.forward()
    T, B, O = model.steps, len(model.data.lengths), run.y.shape[-1]  # noqa: E741
    summed_t, summed_b = loss.time == "sum" and not loss.last, loss.batch == "sum"
    yield Factor("wrong_sign", -1)
    if loss.root:
        yield Factor("root_taken", 2 * run.loss, 2)
    if not loss.last:
        yield Factor("averaged_over_steps", 1 / T, 2 if summed_t else 0.2)
        yield Factor("summed_over_steps", T, CONTRADICTED if summed_t else 2)
    yield Factor("divided_by_batch", 1 / B, 1.5 if summed_b else 0.2)
    yield Factor("summed_over_batch", B, CONTRADICTED if summed_b else 1.5)
    if loss.kind == "softmax":
        yield Factor("divided_by_classes", 1 / O, 1.2)
        if loss.outputs == "mean":  # over all classes, of which one alone has an error
            yield Factor("averaged_over_outputs", O, 1.6)
    else:
        # Of two outputs, half of a sum is their mean: a loss that was read may be either.
        averaged = loss.outputs == "mean" or (O == 2 and loss.half)
        yield Factor("averaged_over_outputs", O, 1.6 if averaged else CONTRADICTED)
        yield Factor("half_squared_error", 0.5, CONTRADICTED if loss.half else 1.8)
    yield Factor("factor_two", 2)
    yield Factor("factor_half", 0.5)


def factors_of(
    model: Model, value: float, tolerance: float, most: int = 3
) -> list[tuple[Factor, ...]]:
    """The smallest sets of known factors with this product, the likeliest first."""
    factors = [f for f in known_factors(model) if abs(f.value - 1) > 1e-6]
    for count in range(1, most + 1):
        fitting = [
            chosen
            for chosen in combinations(factors, count)
            if abs(math.prod(f.value for f in chosen) - value) <= tolerance * abs(value)
            and not _opposed(chosen)
        ]
        if fitting:
            return sorted(fitting, key=lambda chosen: -math.prod(f.likely for f in chosen))
    return []


def contradicted(chosen: tuple[Factor, ...]) -> bool:
    """Whether the loss does not do what one of these factors says of it."""
    return any(factor.likely <= CONTRADICTED for factor in chosen)


def _opposed(chosen: tuple[Factor, ...]) -> bool:
    """Whether one of these factors cancels another."""
    return any(abs(a.value * b.value - 1) < 1e-9 for a, b in combinations(chosen, 2))
