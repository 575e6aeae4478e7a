"""Which entries of matrices are recurrent, where a single step shows it for some gates only.

A mask has the shape of a matrix and is true where the loss of a single step, from an initial state
of 0, does not react. That is so for recurrent weights, and for the input weights of a forget gate
or a reset gate too, which scale a state that is 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from throughtime.arrays import Array


def state_size(recurrent: Mapping[str, Array]) -> int:
    """H, by how many numbers the recurrent entries multiply; 0 where they do not say."""
    sizes = []
    for mask in recurrent.values():
        if mask.ndim != 2 or not mask.any():
            continue
        across = [int(mask.all(axis=axis).sum()) for axis in (0, 1)]
        sizes.append(min(mask.shape) if mask.all() else max(across))
    return max(set(sizes), key=sizes.count, default=0)


def alike_in_gates(masks: Mapping[str, Array], units: int) -> dict[str, Array]:
    """Masks of recurrent entries in which all gates of a stacked matrix are alike.

    The input weights of a forget gate or a reset gate do not matter at T = 1 either.
    """
    found = dict(masks)
    for name, mask in masks.items():
        for axis in range(mask.ndim):
            gates = mask.shape[axis] // units if units else 0
            if gates in (3, 4) and mask.shape[axis] == gates * units:
                every = np.logical_and.reduce(np.split(mask, gates, axis=axis))
                found[name] = np.concatenate([every] * gates, axis=axis)
                break
    return found


def of_siblings(masks: Mapping[str, Array]) -> dict[str, Array]:
    """Masks of recurrent entries, with those of one gate's own matrix as of the other gates'.

    Among three or more of one shape, one alone that a single step does not react to is a forget
    gate's or a reset gate's. From six on, weights of both kinds may have one shape, and what is
    not recurrent in one of them may be in none.
    """
    found = dict(masks)
    for name, mask in masks.items():
        like = [other for other in masks.values() if other.shape == mask.shape]
        idle = sum(bool(other.all()) for other in like)
        if len(like) >= 6 or (idle == 1 and len(like) >= 3):
            found[name] = np.asarray(np.logical_and.reduce(like))
    return found
