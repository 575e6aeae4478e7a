"""In the gradient of an embedding, a row whose word occurs several times gets the gradient of only
one occurrence.

## How it comes about

`dE[words] += dx` with an array of words looks like a sum. NumPy computes `dE[words] + dx` and
assigns the result, so that of several contributions to one row the last assignment is all that
stays. `np.add.at` adds every one.

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
        self.scatter(d["E"], dx)


class Wrong(Embedded):
    def scatter(self, dE, dx):
        dE[self.words] += dx


class Right(Embedded):
    def scatter(self, dE, dx):
        np.add.at(dE, self.words, dx)
```

```cpp
dE[words[t]][k] = dx[k];   // wrong
dE[words[t]][k] += dx[k];  // right
```

## How it shows

All other tensors agree. In the embedding, only rows of words that occur several times are wrong;
where each word comes once, all of it agrees.

```python
wrong = Wrong()
assert Right().agrees() and wrong.agrees("W", "U", "b", "V", "d") and not wrong.agrees("E")
g, n = wrong.both
assert np.allclose(g["E"][3], n["E"][3])  # a word that never comes
```

## What looks like it

- [only_last_step_kept] loses whole steps, whatever their words are.
- [operand_of_one_tensor] is the place of both.

## What to change

`np.add.at(dE, words, dx)`, or `dE = onehot.T @ dx` with one row of `onehot` for each word. In
PyTorch `dE.index_add_(0, words, dx)`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Intervention,
    Model,
    Mutation,
    mutation,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """`dE[words] += dx`, for the whole sequence or step by step."""
    if model.has_embedding:
        for kept, mask in _kept(model.data.x).items():
            yield mutation(kept, kept_E=_times(mask))


def _kept(x: Array) -> dict[str, Array]:
    """(T, B): what `dE[x] += dx` leaves in NumPy of several contributions to one row."""
    T, B = x.shape[:2]
    classes = x.argmax(axis=-1)
    newest, of_a_step = np.zeros((T, B)), np.zeros((T, B))
    for t, b in np.ndindex(T, B):
        newest[t, b] = classes[t, b] not in classes.reshape(-1)[t * B + b + 1 :]
        of_a_step[t, b] = classes[t, b] not in classes[t, b + 1 :]
    found = {"the last of each class left": newest}
    if (of_a_step == 0).any():
        found["the last of each class in a step left"] = of_a_step
    return found


def _times(mask: Array) -> Intervention:
    return lambda kept: kept * mask


FAULT = Fault(
    __name__,
    sentence="In the gradient of the embedding, {where}, a row whose word occurs several times "
    "gets the gradient of only one occurrence.",
    remedy="Add every occurrence: in NumPy `np.add.at(dE, words, dx)`, since `dE[words] += dx` "
    "keeps only one of several.",
    section=Section.OPERANDS,
    place=90,
    mutations=mutations,
    rank=335,
)
