"""The backward pass counts steps beyond the end of a sequence.

## How it comes about

Sequences of different lengths are padded to one length. The loss leaves the padding out by a mask,
but δ of the outputs is computed from all of p − y.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN, softmax


class Ragged(RNN):
    def mask(self):
        lengths = np.linspace(self.T, (self.T + 1) // 2, self.B).astype(int)
        return (np.arange(self.T)[:, None] < lengths)[..., None]  # (T, B, 1)

    def loss(self, outputs):
        return -(self.y * np.log(softmax(outputs)) * self.mask()).sum()


class Wrong(Ragged):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y


class Right(Ragged):
    def output_delta(self, outputs):
        return (softmax(outputs) - self.y) * self.mask()
```

```cpp
dy[t][k] = p[t][k] - y[t][k];                       // wrong
dy[t][k] = t < length ? p[t][k] - y[t][k] : 0.0;    // right
```

## How it shows

Every tensor is wrong, the head's too. With sequences of one length, and therefore at T = 1, nothing
is wrong.

```python
assert Right().agrees() and Wrong(B=1).agrees() and Wrong(T=1).agrees()
assert not any(map(Wrong().agrees, "WUbVd"))
```

## What looks like it

- [targets_shifted] and [output_gradient_at_last_step_only] agree at T = 1 too. Sequences of equal
  lengths tell them apart, or a layout that has the lengths.

## What to change

Set δ of the outputs to 0 from a sequence's length on. The states beyond it then receive no δ and
need no mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Forward, Model, Mutation, mutation


def mutations(model: Model) -> Iterator[Mutation]:
    """Steps beyond a sequence's end are counted."""
    whole = (model.data.lengths == model.steps).all()
    if whole or model.loss.last or model.loss.kind == "given":
        return

    def edit(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        weights = model.loss.whole(model.steps, model.data.lengths)[..., None]
        slope: Array = model.loss.errors(run.y, model.data.targets)[1] * weights
        return slope

    yield mutation(dy=edit)


FAULT = Fault(
    __name__,
    sentence="Your backward pass counts steps beyond the end of a sequence.",
    remedy="Set δ of the outputs to 0 at every step beyond the length of its sequence.",
    section=Section.HEAD_AND_DATA,
    place=60,
    mutations=mutations,
    rank=30,
)
