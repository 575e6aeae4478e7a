"""N-gram models with add-one smoothing: the yardsticks for the loss of a network.

p(c | context) = (n(context c) + 1) / (n(context) + K), with counts n of the training text and K
classes (Laplace's rule of succession).
"""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array, refuse

ORDERS = {"unigram": 1, "bigram": 2, "trigram": 3}
CHUNK = 1 << 20  # characters counted at once: memory does not grow with the text


def ngram_bits(training: Array, held_out: Array, classes: int) -> dict[str, float]:
    """Bits a character of unigram, bigram and trigram on the held-out text.

    All three predict the same characters: those from the third on.

    Args:
        training, held_out: class indices, one axis.
        classes: K.

    Example:
        >>> import numpy as np
        >>> from throughtime.training import ngram_bits
        >>> text = np.tile(np.array([0, 1], dtype=np.uint8), 500)
        >>> {name: round(bits, 3) for name, bits in ngram_bits(text, text[:99], 2).items()}
        {'unigram': 1.0, 'bigram': 0.003, 'trigram': 0.003}
    """
    longest = max(ORDERS.values())
    if len(held_out) < longest:
        refuse("held-out text", f"at least {longest} characters", len(held_out), "give more text")
    found = {}
    for name, order in ORDERS.items():
        seen = held_out[longest - order :]
        together = _count(training, seen, order, classes)
        contexts = _count(training[:-1], seen[:-1], order - 1, classes) if order > 1 else None
        total = len(training) if contexts is None else contexts
        found[name] = -float(np.mean(np.log2((together + 1) / (total + classes))))
    return found


def _count(text: Array, wanted: Array, order: int, classes: int) -> Array:
    """How often each n-gram of `wanted` occurs in `text`."""
    needles, place = np.unique(_keys(wanted, order, classes), return_inverse=True)
    counts = np.zeros(len(needles), np.int64)
    for start in range(0, len(text) - order + 1, CHUNK):
        keys = _keys(text[start : start + CHUNK + order - 1], order, classes)
        at = np.minimum(np.searchsorted(needles, keys), len(needles) - 1)
        counts += np.bincount(at[needles[at] == keys], minlength=len(needles))
    found: Array = counts[place.ravel()]
    return found


def _keys(codes: Array, order: int, classes: int) -> Array:
    """Each n-gram as one number: its classes are the digits in base K."""
    length = len(codes) - order + 1
    keys = np.zeros(length, np.int64)
    for digit in range(order):
        keys = keys * classes + codes[digit : digit + length]
    return keys
