"""Parameters and gradients in containers of one shape: lists, tuples and dicts alike all through.

`params = [Wx, Wh, b]` and `grads = [dWx, dWh, db]` have no names that tell what belongs to what;
that each has the same places with the same shapes does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from throughtime.source.pairing import HeldArray, dotted, same_shape

PART = re.compile(r"\[[^\[\]]*\]|\.\w+|^\w+")
FEWEST = 2  # arrays in a container, for its shape to say anything

Leaves = dict[tuple[str, ...], HeldArray]


def by_structure(
    parameters: Sequence[HeldArray], gradients: Sequence[HeldArray]
) -> dict[str, tuple[HeldArray, HeldArray]]:
    """Each parameter of a container with its gradient in another that has the same places.

    Args:
        parameters: the arrays that may be parameters.
        gradients: those that may be gradients, the likelier first.

    Example:
        >>> import numpy as np
        >>> from throughtime.source.pairing import places
        >>> held = [np.ones((2, 3)), np.ones(2)]
        >>> found = by_structure([*places("params", held)], [*places("grads", held)])
        >>> [gradient.text for _, gradient in found.values()]
        ['grads[0]', 'grads[1]']
    """
    ours, theirs = _containers(parameters), _containers(gradients)
    found: dict[str, tuple[HeldArray, HeldArray]] = {}
    taken: set[str] = set()
    for _, leaves in sorted(ours.items(), key=lambda pair: -len(pair[1])):
        if any(place.text in taken for place in leaves.values()):
            continue
        for other in theirs.values():
            if _alike(leaves, other) and not any(g.text in taken for g in other.values()):
                found |= {dotted(p): (p, other[way]) for way, p in leaves.items()}
                taken |= {place.text for part in (leaves, other) for place in part.values()}
                break
    return found


def _containers(places: Sequence[HeldArray]) -> dict[tuple[str, ...], Leaves]:
    """All containers that hold several arrays: the way to each, and the ways on to its arrays."""
    found: dict[tuple[str, ...], Leaves] = {}
    for place in places:
        parts = tuple(PART.findall(place.text))
        if "".join(parts) != place.text:
            continue  # an expression, as a sum
        for n in range(1, len(parts)):
            found.setdefault(parts[:n], {})[parts[n:]] = place
    return {way: leaves for way, leaves in found.items() if len(leaves) >= FEWEST}


def _alike(leaves: Leaves, others: Leaves) -> bool:
    """Whether two containers have the same places with the same shapes, of several kinds."""
    if leaves.keys() != others.keys():
        return False
    if any(place.text == others[way].text for way, place in leaves.items()):
        return False
    return all(same_shape(place.value, others[way].value) for way, place in leaves.items())
