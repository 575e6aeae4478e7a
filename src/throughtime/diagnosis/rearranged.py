"""Gradients with the right numbers in the wrong places: transposed, permuted, copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.observed import CandidateCause, Gradient, Observed
from throughtime.diagnosis.tolerances import DIFFERS_BEYOND

GATES = (4, 3, 2)  # blocks of rows or columns that a tensor may have


def transposed(observed: Observed) -> Iterator[CandidateCause]:
    """A tensor whose rows and columns are exchanged, or those of its square blocks."""
    mended: dict[str, tuple[Array, str]] = {}
    for name in observed.wrong():
        for array, how in _transpositions(observed.gradient[name]):
            if not (observed.z(name, {**observed.gradient, name: array}) > DIFFERS_BEYOND).any():
                mended[name] = array, how
                break
    if not mended:
        return
    words = " and ".join(sorted({how for _, how in mended.values()}))
    evidence = (f"With {words} transposed, {_all_of(mended)} to within the error bars.",)
    where = ", ".join(mended)
    yield CandidateCause(
        ("gradient_transposed",),
        where,
        {**observed.gradient, **{name: array for name, (array, _) in mended.items()}},
        evidence,
        {"where": where},
    )


def _transpositions(g: Array) -> Iterator[tuple[Array, str]]:
    """The tensor with one part or another transposed back, and words for it."""
    if g.ndim != 2 or min(g.shape) < 2:
        return
    rows, columns = g.shape
    if rows == columns:
        yield g.T.copy(), "it"
    else:
        yield g.reshape(columns, rows).T.copy(), "its memory"
        yield g.T.reshape(rows, columns).copy(), "its memory"
    for axis in (0, 1):
        long, across = (g, columns) if axis == 0 else (g.T, rows)
        for gates in (4, 3, 1):
            size = long.shape[0] // gates
            if long.shape[0] % gates or not 1 < size <= across or size == across == long.shape[0]:
                continue
            for start in {0, across - size}:
                tiles = [
                    (slice(k * size, (k + 1) * size), slice(start, start + size))
                    for k in range(gates)
                ]
                yield from _tiles_turned(long, tiles, axis)


def _tiles_turned(
    long: Array, tiles: list[tuple[slice, slice]], axis: int
) -> Iterator[tuple[Array, str]]:
    for chosen in ([*tiles], *([tile] for tile in tiles if len(tiles) > 1)):
        turned = long.copy()
        for tile in chosen:
            turned[tile] = long[tile].T
        words = f"its {len(chosen)} square blocks" if len(chosen) > 1 else "one square block of it"
        yield (turned if axis == 0 else turned.T.copy()), words


def permuted(observed: Observed) -> Iterator[CandidateCause]:
    """Blocks of rows or columns, or whole tensors of one shape, in another order."""
    wrong = observed.wrong()
    for gates in GATES:
        fitting = {name: _permutation(observed, name, gates) for name in wrong}
        found = {name: kept for name, kept in fitting.items() if kept is not None}
        orders = {order for _, order in found.values()}
        for order in sorted(orders):
            names = [name for name, (_, own) in found.items() if own == order]
            undone = dict(observed.gradient)
            for name in names:
                undone[name] = _reordered(observed.gradient[name], found[name][0], order)
            places = ", ".join(str(k + 1) for k in order)
            where = f"block {places} of {', '.join(names)} for block {_counted(gates)}"
            evidence = (
                f"With its {gates} blocks in the order {places}, {_all_of(names)} to within the "
                "error bars.",
            )
            yield CandidateCause(("gates_permuted",), where, undone, evidence, {"where": where})
        if found:
            return
    yield from _exchanged(observed, wrong)


def _permutation(observed: Observed, name: str, gates: int) -> tuple[int, tuple[int, ...]] | None:
    """The axis along which, and the order in which, a tensor's blocks give its derivative."""
    g = observed.gradient[name]
    for axis in range(g.ndim):
        if g.shape[axis] % gates or g.shape[axis] < gates:
            continue
        for order in permutations(range(gates)):
            if order == tuple(range(gates)):
                continue
            array = _reordered(g, axis, order)
            if not (observed.z(name, {**observed.gradient, name: array}) > DIFFERS_BEYOND).any():
                return axis, order
    return None


def _reordered(g: Array, axis: int, order: tuple[int, ...]) -> Array:
    parts = np.split(g, len(order), axis=axis)
    return np.concatenate([parts[k] for k in order], axis=axis)


def _exchanged(observed: Observed, wrong: tuple[str, ...]) -> Iterator[CandidateCause]:
    """Tensors of one shape that have each other's gradients."""
    undone = dict(observed.gradient)
    swapped = []
    for name in wrong:
        for other in wrong:
            g = observed.gradient[other]
            if other == name or g.shape != observed.gradient[name].shape or not g.any():
                continue
            if not (observed.z(name, {**observed.gradient, name: g}) > DIFFERS_BEYOND).any():
                undone[name] = g
                swapped.append((name, other))
                break
    if len(swapped) >= 2:
        where = ", ".join(f"{other} for {name}" for name, other in swapped)
        names = [name for name, _ in swapped]
        evidence = (f"With {where}, {_all_of(names)} to within the error bars.",)
        yield CandidateCause(("gates_permuted",), where, undone, evidence, {"where": where})


def copied(observed: Observed) -> Iterator[CandidateCause]:
    """A tensor, or a block of a bias, that equals another though their derivatives differ."""
    for name in observed.wrong():
        for part, other, array in _copies(observed, name):
            if (observed.z(name, array) > DIFFERS_BEYOND).any():
                continue
            fault, beside = _whose(observed, part, other)
            evidence = (
                f"The gradient of {part} is bit for bit that of {other}, whose numerical "
                "derivative it agrees with; its own differs.",
            )
            facts, sure = {"where": part, "other": other}, 0.95 / (1 + 0.5 * len(beside))
            yield CandidateCause((fault,), part, array, evidence, facts, beside, sure)
            break


def _whose(observed: Observed, part: str, other: str) -> tuple[str, tuple[str, ...]]:
    """The fault of a copy, and its alternatives.

    Two biases whose names differ in one letter, or two blocks of one, may be those of two gates.
    """
    gates, tensors = "bias_of_gate_copied", "another_tensors_gradient"
    if part not in observed.gradient:  # a block
        return gates, ()
    apart = [pair for pair in zip(part, other, strict=False) if pair[0] != pair[1]]
    alike = len(part) == len(other) and len(apart) == 1 and all(map(str.isalpha, apart[0]))
    if np.squeeze(observed.gradient[part]).ndim == 1 and alike:
        return gates, (tensors,)
    return tensors, ()


def _copies(observed: Observed, name: str) -> Iterator[tuple[str, str, Gradient]]:
    """Parts that equal another part, and the gradient with their numerical derivative instead."""
    g, own = observed.gradient[name], observed.sampled[name]
    if not g.any():
        return
    n = g.copy()
    n.reshape(-1)[own.places] = own.numerical
    for other in observed.sampled:
        same = other != name and observed.gradient[other].size == g.size > 1
        there = observed.gradient[other].reshape(-1)
        if same and np.array_equal(there, g.reshape(-1)) and other not in observed.wrong():
            yield name, other, {**observed.gradient, name: n}
    if np.squeeze(g).ndim != 1:
        return
    for gates in GATES[:2]:
        if g.size % gates:
            continue
        size = g.size // gates
        flat, numerical = g.reshape(gates, size), n.reshape(gates, size)
        for one in range(gates):
            for source in range(gates):
                if one != source and np.array_equal(flat[one], flat[source]) and flat[one].any():
                    mended = flat.copy()
                    mended[one] = numerical[one]
                    yield (
                        _block(name, one, size),
                        _block(name, source, size),
                        {**observed.gradient, name: mended.reshape(g.shape)},
                    )


def _block(name: str, k: int, size: int) -> str:
    return f"{name}[{k * size}:{(k + 1) * size}]"


def _all_of(names: list[str] | Mapping[str, object]) -> str:
    words = ", ".join(names)
    return f"{words} agree" if len(names) > 1 else f"{words} agrees"


def _counted(gates: int) -> str:
    return ", ".join(str(k + 1) for k in range(gates))
