"""N-gram yardsticks against counting by hand, and against theory."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughtime.training import ngram_bits, ngrams


def by_hand(training, held_out, classes, order):
    """The same, n-gram by n-gram."""
    together = Counter(tuple(training[i : i + order]) for i in range(len(training) - order + 1))
    contexts = Counter()
    for gram, count in together.items():
        contexts[gram[:-1]] += count
    bits = []
    for i in range(2, len(held_out)):
        gram = tuple(held_out[i - order + 1 : i + 1])
        bits.append(-math.log2((together[gram] + 1) / (contexts[gram[:-1]] + classes)))
    return sum(bits) / len(bits)


@given(
    classes=st.integers(2, 256),
    seed=st.integers(0, 99),
    training=st.integers(1, 300),
    held_out=st.integers(3, 60),
    chunk=st.integers(1, 400),
)
def test_counts_are_those_made_by_hand(classes, seed, training, held_out, chunk):
    rng = np.random.default_rng(seed)
    few = rng.integers(0, classes, min(classes, 4))
    codes = rng.choice(few, training).astype(np.uint8)
    test = rng.choice(few, held_out).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "CHUNK", chunk)
        found = ngram_bits(codes, test, classes)
    for name, order in ngrams.ORDERS.items():
        expected = by_hand(codes.tolist(), test.tolist(), classes, order)
        assert found[name] == pytest.approx(expected, rel=1e-13)


def test_on_a_markov_chain_the_bigram_reaches_the_entropy_rate_and_the_unigram_does_not():
    rng = np.random.default_rng(0)
    jumps = rng.random(200_000) < 0.1
    chain = (np.cumsum(jumps) % 2).astype(np.uint8)  # stays with 0.9, jumps with 0.1
    bits = ngram_bits(chain[:150_000], chain[150_000:], 2)
    entropy = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))
    assert bits["unigram"] == pytest.approx(1, rel=1e-3)
    assert bits["bigram"] == pytest.approx(entropy, rel=0.02)
    assert bits["trigram"] == pytest.approx(entropy, rel=0.02)


def test_what_was_never_seen_is_as_probable_as_any_other():
    bits = ngram_bits(np.zeros(5, np.uint8), np.full(4, 7, np.uint8), 8)
    assert bits["unigram"] == pytest.approx(math.log2(5 + 8))
    assert bits["bigram"] == bits["trigram"] == pytest.approx(3)


def test_a_held_out_text_too_short_is_refused():
    message = "held-out text: expected at least 3 characters, got 2; give more text"
    with pytest.raises(ValueError, match=message):
        ngram_bits(np.zeros(5, np.uint8), np.zeros(2, np.uint8), 8)
