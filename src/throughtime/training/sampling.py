"""Text from a model: each character is drawn from the model's distribution, and fed back."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from throughtime.arrays import Array, positive, refuse
from throughtime.network import Network
from throughtime.training.text import Vocabulary


def sample(
    network: Network,
    vocabulary: Vocabulary,
    length: int = 500,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    prompt: str = "\n",
) -> Iterator[str]:
    """Generates the characters that follow a prompt, one at a time.

    Args:
        network: a language model over the vocabulary.
        vocabulary: of the same checkpoint.
        length: how many characters.
        temperature: the outputs are divided by it before the softmax. 1 draws from
            the model's distribution, less is more cautious, and 0 always takes the most probable
            character.
        seed: random seed of the draws.
        prompt: the text before; at least one character, all known to the model. It is not
            repeated in the result.

    The class of all other characters is never drawn: no character stands for it.

    Raises:
        ValueError: for options out of range and for characters that the model does not know,
            before the first character.

    Example:
        >>> from throughtime.training import Settings, Text, Trainer, sample
        >>> settings = Settings(hidden=16, batch=4, k1=8, warmup=5, learning_rate=0.02)
        >>> trainer = Trainer(Text("abc" * 500), settings)
        >>> trainer.fit(updates=60)
        >>> "".join(sample(trainer.network, trainer.vocabulary, 6, temperature=0, prompt="ab"))
        'cabcab'
    """
    positive("length", length, at_least=0)
    rng = np.random.default_rng(positive("seed", seed, at_least=0))
    if not 0 <= temperature < math.inf:
        refuse("temperature", "a finite number of at least 0", temperature)
    if not prompt:
        refuse("prompt", "at least one character", "none", "'\\n' is a beginning like another")
    codes = vocabulary.encode_known("prompt", prompt)
    return _characters(network, vocabulary, codes, length, temperature, rng)


def _characters(
    network: Network,
    vocabulary: Vocabulary,
    codes: Array,
    length: int,
    temperature: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    state = None
    for _ in range(length):
        outputs, state, _ = network.forward(codes[:, None], state)
        known = outputs[-1, 0, : vocabulary.other].astype(np.float64)
        chosen = _draw(known - known.max(), temperature, rng)
        yield vocabulary.characters[chosen]
        codes = np.array([chosen])


def _draw(logits: Array, temperature: float, rng: np.random.Generator) -> int:
    """A class from softmax(logits / temperature); the largest logit is 0."""
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore", under="ignore"):  # −∞ is the right limit: probability 0
        sums = np.exp(logits / temperature).cumsum()
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
