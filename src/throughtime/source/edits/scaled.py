"""By what an expression may be divided, where it is known how many times too large it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from math import log, prod

from throughtime.source.tolerances import SAME_FACTOR

CONSTANTS = {"": 1.0, "2": 2.0, "np.log(2)": log(2), "np.log(10)": log(10)}
MOST_FACTORS = 3  # sizes of one product, as steps times sequences times outputs


def scaled_texts(text: str, ratio: float, sizes: Mapping[str, int]) -> Iterator[str]:
    """An expression that is some times too large, divided by what has that size.

    Args:
        text: the expression, as a factor is written.
        ratio: how many times too large it is.
        sizes: whole numbers by name.

    Example:
        >>> list(scaled_texts("dy", 12.0, {"T": 6, "B": 4}))
        ['dy / (2 * T)', 'dy * 2 / (B * T)']
        >>> list(scaled_texts("dy", 1 / 3, {"T": 6, "O": 2, "B": 3}))
        ['dy * B']
    """
    shortest: dict[int, str] = {}
    for name, number in sizes.items():
        if number > 1:
            shortest.setdefault(number, name)
    for count in range(MOST_FACTORS + 1):
        for some in combinations(sorted(shortest), count):
            names = [shortest[number] for number in some]
            for constant, value in CONSTANTS.items():
                parts = [part for part in (constant, *names) if part]
                product = " * ".join(parts)
                divisor = f"({product})" if len(parts) > 1 else product
                if parts and _same(ratio, value * prod(some)):
                    yield f"{text} / {divisor}"
                elif parts and value <= 2 and _same(1 / ratio, value * prod(some)):
                    yield f"{text} * {product}"
                elif constant == "2" and names and _same(ratio, prod(some) / 2):
                    divisor = f"({' * '.join(names)})" if count > 1 else names[0]
                    yield f"{text} * 2 / {divisor}"


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME_FACTOR * abs(one)
