"""The gradient of an embedding's row is averaged over the occurrences of its word.

## How it comes about

Rows of words that come often learn fast, and someone divided by the number of occurrences to make
up for it; or an operation that averages stood where one that adds belongs, such as `scatter` with
`reduce="mean"`, or a group's `.mean()`.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Embedded(RNN):
    words = np.array([[0, 1], [1, 2], [0, 0], [2, 1], [0, 2]])  # (T, B)

    def __init__(self):
        super().__init__()
        self.p["E"] = 0.7 * np.random.default_rng(2).standard_normal((4, 2))

    def inputs(self):
        return self.p["E"][self.words]

    def below(self, dx, d):
        np.add.at(d["E"], self.words, dx)
        self.share(d["E"])


class Wrong(Embedded):
    def share(self, dE):
        dE /= np.maximum(np.bincount(self.words.ravel(), minlength=4), 1)[:, None]


class Right(Embedded):
    def share(self, dE):
        pass
```

```cpp
dE[words[t]][k] += dx[k] / count;  // wrong
dE[words[t]][k] += dx[k];          // right
```

## How it shows

All other tensors agree. Each row of the embedding is off by a whole number, how often its word
comes; rows of words that come once agree.

```python
wrong = Wrong()
assert Right().agrees() and wrong.agrees("W", "U", "b", "V", "d") and not wrong.agrees("E")
g, n = wrong.both
assert np.allclose(g["E"][0] * 4, n["E"][0], atol=1e-8)
```

## What looks like it

- [embedding_rows_counted_once] keeps one occurrence of several: no whole number.
- [tensor_scaled] has one factor for all rows.

## What to change

Add the occurrences: the loss has a term for each of them. If rare words are to count for more, do
that in the optimiser.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation, mutation


def mutations(model: Model) -> Iterator[Mutation]:
    """Each occurrence of a class counts 1 over their number."""
    if not model.has_embedding:
        return
    classes = model.data.x.argmax(axis=-1)
    counts = np.bincount(classes.ravel(), minlength=model.data.x.shape[-1])
    if counts.max() > 1:
        share = 1 / counts[classes]
        yield mutation("", kept_E=lambda kept: kept * share)


FAULT = Fault(
    __name__,
    sentence="Each row of the embedding's gradient is averaged over the occurrences of its word; "
    "your loss adds them.",
    remedy="Add the occurrences' gradients, and do not divide by their number.",
    section=Section.OPERANDS,
    place=97,
    mutations=mutations,
    rank=336,
)
