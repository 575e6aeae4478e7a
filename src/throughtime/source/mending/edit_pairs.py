"""Edits two at a time, and what tells which are worth it: how their gradients differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from throughtime.source.edits.edit import Edit
from throughtime.source.lines.trials import Measured, Tried
from throughtime.source.tolerances import FIRST_OF_PAIRS, MOST_PAIRS, RANK_COST


def pairs_of(
    edits: Sequence[Edit], others: Sequence[Edit] | None = None
) -> list[tuple[Edit, Edit]]:
    """Pairs of the first of some edits with all of them, or with others; the cheapest first."""
    pairs = [
        (a.cost + b.cost + n * RANK_COST, a, b)
        for n, a in enumerate(edits[:FIRST_OF_PAIRS])
        for b in (edits[n + 1 :] if others is None else others)
        if not a.overlaps(b)
    ]
    pairs.sort(key=lambda pair: pair[0])
    return [(a, b) for _, a, b in pairs[:MOST_PAIRS]]


def mark(tried: Tried) -> bytes:
    """Equal for equal gradients, but for their last digits."""
    if tried.products is None:
        return b""
    parts = [tried.products[name] for name in sorted(tried.products)]
    numbers = np.concatenate(parts)
    return " ".join(f"{number:.9e}" for number in numbers).encode()


def changes(plain: Tried, tried: Tried, name: str) -> bool:
    if plain.products is None or tried.products is None:
        return True
    return not np.allclose(plain.products[name], tried.products[name], rtol=1e-9, atol=0)


def angle(tried: Tried, truth: Mapping[str, Measured], name: str) -> float:
    """How far a tensor is off, whatever factor it has."""
    assert tried.products is not None
    found, values = tried.products[name], truth[name].values
    sizes = float(np.linalg.norm(found)) * float(np.linalg.norm(values))
    if not sizes or len(values) < 2:
        return 1.0
    return 1 - abs(float(found @ values)) / sizes
