"""Several terms that are missing in a sum at once: which of all that could be terms add up to it.

What is carried back through the gates of a step has a term for each: `dz @ Uz.T`, `drh * r`. Where
two or three are forgotten, no single one makes a line right. The sums of two are sorted by their
product with random weights, so that what is left beside a third one is found by bisection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

import numpy as np

from throughtime.arrays import Array
from throughtime.source.lines.held import Made
from throughtime.source.tolerances import FITS_NEARLY, MOST_SUMS, MOST_TERMS

CLOSE = 1e-4  # of the sum's size: derivatives are known to about 1e-6
NEIGHBOURS = 32  # sums of two that are looked at where several have nearly the same product


def possible_terms(
    table: Sequence[Made], own: Sequence[Made], carried: Collection[str]
) -> list[Made]:
    """Products that could be terms: of a gradient with a matrix, or entry by entry with a gate.

    Args:
        table: all that has the shape of the sum, products with matrices among it.
        own: the variables of this shape.
        carried: the variables that carry a gradient back.
    """

    def is_gradient(text: str) -> bool:
        return text.removesuffix(".T").split("[")[0] in carried

    products = [made for made in table if " @ " in made.text or made.text.startswith("np.")]
    found = [made for made in products if any(map(is_gradient, made.names))]
    gradients = [made for made in own if is_gradient(made.text)]
    gates = [made for made in own if not is_gradient(made.text)]
    for one in gradients:
        for gate in gates:
            pairs = list(zip(one.values, gate.values, strict=True))
            found.append(Made(f"{one.text} * {gate.text}", tuple(a * b for a, b in pairs), 0.4))
            found.append(Made(f"{one.text} * (1 - {gate.text})",
                              tuple(a * (1 - b) for a, b in pairs), 0.5))  # fmt: skip
        found.append(one)
    return found[:MOST_TERMS]


def sums_of_terms(terms: Sequence[Made], wanted: tuple[Array, ...]) -> Iterator[Made]:
    """Sums of two of the terms, else of three, that have the values.

    Args:
        terms: that are there, each with its values at all steps.
        wanted: the values of the sum.
    """
    target = np.concatenate([value.reshape(-1) for value in wanted])
    size = float(np.abs(target).max(initial=0.0))
    if len(terms) < 2 or not size or len(target) < 2:
        return
    matrix = np.array([made.flat() for made in terms])
    weights = np.random.default_rng(len(target)).standard_normal(len(target))
    keys, key = matrix @ weights, float(target @ weights)
    first, second = np.triu_indices(len(terms), 1)
    sums = keys[first] + keys[second]
    order = np.argsort(sums)
    ranked, reach = sums[order], CLOSE * size * float(np.abs(weights).sum()) ** 0.5

    def pairs(key: float) -> Array:
        low, high = np.searchsorted(ranked, [key - reach, key + reach])
        return np.asarray(order[low : min(high, low + NEIGHBOURS)])

    def fits(numbers: Sequence[int]) -> bool:
        off = matrix[list(numbers)].sum(axis=0) - target
        return bool(np.abs(off).max() <= FITS_NEARLY * size)

    count = 0
    for more in (0, 1):
        for chosen in combinations(range(len(terms)), more):
            left = key - float(keys[list(chosen)].sum())
            for pair in pairs(left):
                numbers = sorted({int(first[pair]), int(second[pair]), *chosen})
                if len(numbers) == 2 + more and fits(numbers):
                    count += 1
                    parts = [terms[n] for n in numbers]
                    cost = 0.5 + sum(part.cost for part in parts)
                    yield Made(" + ".join(part.text for part in parts), wanted, cost)
                if count >= MOST_SUMS:
                    return
        if count:
            return
