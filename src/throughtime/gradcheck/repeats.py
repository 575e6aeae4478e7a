"""Repeated evaluations at one point: how do they differ, and what does that tell?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck.tolerances import LARGEST_UNSTEADY, REORDERING_ULPS

Pattern = Literal["adds up", "repeats", "settles", "scatters"]


def pattern(values: Sequence[float]) -> Pattern:
    """What a dozen or so numbers do that ought to be the same.

    Differences that all point in one direction, or shrink to a tenth and stay there, come of
    something carried from one evaluation into the next; independent draws do neither but by a
    chance of one in thousands.

    Returns:
        "adds up": each is the one before plus the same; "repeats": they come in a cycle;
        "settles": they drift, or close in on a value; "scatters": none of these.

    Example:
        >>> pattern([0.5 * k for k in range(1, 13)])
        'adds up'
        >>> pattern([1 + (-0.5)**k for k in range(12)])
        'settles'
    """
    array = np.array(values)
    differences = np.diff(array)
    if np.allclose(differences, differences[0], rtol=1e-4, atol=0):
        return "adds up"
    if (differences >= 0).all() or (differences <= 0).all():
        return "settles"
    if any((array[cycle:] == array[:-cycle]).all() for cycle in range(2, len(array) // 2 + 1)):
        return "repeats"
    sizes, part = np.abs(differences), len(differences) // 3
    return "settles" if sizes[-part:].max() <= sizes[:part].max() / 10 else "scatters"


def same_loss(first: Array, second: Array, eps: float) -> bool:
    """Whether two evaluations' terms have the same sum but for the order of its additions."""
    a, b = (float(np.sum(terms, dtype=np.float64)) for terms in (first, second))
    scale = float(np.sum(np.abs(first), dtype=np.float64))
    return a == b or abs(a - b) <= REORDERING_ULPS * eps * scale


def changed_tensors(
    first: Mapping[str, Array], second: Mapping[str, Array], eps: float
) -> dict[str, float]:
    """Tensors in which two gradients differ by more than the order of additions explains.

    Where a tensor's terms cancel, their rounding is large beside their sum: a hundredth of the
    whole gradient's size counts as size for each.

    Returns:
        name to ‖second − first‖ / ‖first‖.
    """
    norms = {name: float(np.linalg.norm(array.astype(np.float64))) for name, array in first.items()}
    whole = float(np.sqrt(sum(norm**2 for norm in norms.values())))
    changed = {}
    for name, norm in norms.items():
        away = second[name].astype(np.float64) - first[name]
        distance = float(np.linalg.norm(away))
        if distance > min(4 * REORDERING_ULPS * eps, LARGEST_UNSTEADY) * max(norm, whole / 100):
            changed[name] = distance / norm if norm else np.inf
    return changed


def kept_part(gradients: Sequence[Mapping[str, Array]], names: Sequence[str]) -> float | None:
    """By which factor the second change between three gradients is the first one.

    1: every call adds the same; between 0 and 1: a part is kept; 0: the second and the third
    are equal; None: the two changes are no multiples of each other.
    """
    first, second, third = (
        np.concatenate([g[name].astype(np.float64).ravel() for name in names]) for g in gradients
    )
    earlier, later = second - first, third - second
    factor = float(earlier @ later / (earlier @ earlier))
    away = np.linalg.norm(later - factor * earlier)
    return factor if away <= 0.01 * np.linalg.norm(earlier) else None
