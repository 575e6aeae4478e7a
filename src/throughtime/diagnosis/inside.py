"""Within one step: which derivative is wrong, from numbers that are known where every z is β."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.diagnosis.factors import STEEP, number, ratio_of
from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.simple_points import BETA, SimplePoints


def logistic(z: float) -> float:
    """σ(z)."""
    return float(1 / (1 + np.exp(-z)))


def _slopes() -> Iterator[tuple[float, str, str]]:
    """What a gate's bias is off by where its derivative is wrong, the fault, and words for it."""
    s, t = logistic(BETA), float(np.tanh(BETA))
    ds, dt = s * (1 - s), 1 - t**2
    missing, activated = "derivative_missing", "derivative_of_activated_value"
    yield 1 / ds, missing, "1/σ′(β)"
    yield 1 / dt, missing, "1/tanh′(β)"
    yield logistic(s) * (1 - logistic(s)) / ds, activated, "σ′(σ(β))/σ′(β)"
    yield (1 - np.tanh(t) ** 2) / dt, activated, "tanh′(tanh β)/tanh′(β)"
    c = s * t
    tc = float(np.tanh(c))
    yield 1 / (1 - tc**2), missing, "1/tanh′(c)"
    yield (1 - np.tanh(tc) ** 2) / (1 - tc**2), activated, "tanh′(tanh c)/tanh′(c)"
    yield s / t, "gates_swapped_in_dc", "σ(β)/tanh(β)"
    yield t / s, "gates_swapped_in_dc", "tanh(β)/σ(β)"


def wrong_slopes(places: SimplePoints) -> dict[str, list[str]]:
    """Faults to sentences: what the biases' factors are at T = 1 where every z is β."""
    if not places.useful:
        return {}
    seen = places.biases(1, BETA)
    found: dict[str, list[str]] = {}
    for value, error, where in _factors(seen) if seen is not None else ():
        for expected, fault, words in _slopes():
            if abs(value - expected) <= 4 * error + 1e-6 * expected:
                said = (
                    f"At T = 1, with every pre-activation at β = {BETA}, {where} is "
                    f"{number(value, error)} times its numerical derivative: {words}."
                )
                found.setdefault(fault, []).append(said)
                break
        else:
            return {}  # a factor that is none of these: none of them is believed
    if len(found.get("gates_swapped_in_dc", ["", ""])) != 2:
        return {}
    return found


def other_units(places: SimplePoints) -> str | None:
    """A sentence where some units have a gradient and no derivative, or a derivative and none.

    With every pre-activation alike no unit differs from another, but for the output layer's
    weights and what is dropped.
    """
    seen = places.biases(1, BETA) if places.useful else None
    for name, own in seen.sampled.items() if seen is not None else ():
        assert seen is not None
        g, bars = seen.beside(name), seen.bars(name)
        idle = np.abs(own.numerical) <= bars
        active, silent = idle & (np.abs(g) > STEEP * bars), ~idle & (g == 0)
        if active.any() or silent.any():
            return (
                f"At T = 1, with every pre-activation at β = {BETA}, {int(active.sum())} entries "
                f"of {name} have a gradient where the loss does not react, and "
                f"{int(silent.sum())} have none where it does."
            )
    return None


def _factors(observed: Observed) -> Iterator[tuple[float, float, str]]:
    """Each factor other than 1 that entries of the biases are off by, and where."""
    groups: list[tuple[float, float, list[str]]] = []
    for name, own in observed.sampled.items():
        g, bars = observed.beside(name), observed.bars(name)
        for k, place in enumerate(own.places):
            ratio = ratio_of(g[k : k + 1], own.numerical[k : k + 1], bars[k : k + 1])
            if not ratio.entries or ratio.is_near(1.0):
                continue
            for value, error, where in groups:
                if abs(value - ratio.value) <= 4 * (error + ratio.error) + 1e-6 * abs(value):
                    where.append(f"{name}[{place}]")
                    break
            else:
                groups.append((ratio.value, ratio.error, [f"{name}[{place}]"]))
    for value, error, where in groups:
        yield value, error, where[0] if len(where) == 1 else f"{where[0]} … {where[-1]}"
