"""The backward pass feeds the output's error in at one step only; the loss depends on all of them.

## How it comes about

A network that answers at the end was turned into one that answers at every step. Or δ of the
outputs is computed after the loop, from the values that the loop left behind.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        dy = np.zeros_like(outputs)
        dy[-1] = softmax(outputs[-1]) - self.y[-1]
        return dy


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
for (int k = 0; k < O; ++k) dy[t][k] = t == T - 1 ? p[t][k] - y[t][k] : 0.0;  // wrong
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];                     // right
```

## How it shows

Every tensor is wrong, the head's too, and T = 1 agrees. The gradient is that of the last step's
loss alone; at T = 2 it lacks only the first step's.

```python
wrong = Wrong()
assert Right().agrees() and Wrong(T=1).agrees()
assert not any(map(wrong.agrees, wrong.p))
g, n = wrong.both
last = softmax(wrong.forward()[-1]) - wrong.y[-1]
assert np.allclose(g["d"], last.sum(axis=0))
```

## What looks like it

- [dh_overwritten] sends the cell the same δ, but there the head is exact.
- [only_last_step_kept] keeps the contribution of one step, often the first.
- [averaged_over_steps] is short by the same factor everywhere.

## What to change

Add every step's output gradient to δh of that step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation, mutation


def mutations(model: Model) -> Iterator[Mutation]:
    """Only the last step's error; below the head alone this would be `dh_overwritten`."""
    if model.loss.last or model.steps < 2:
        return

    def last(dy: Array, **_: Any) -> Array:
        return np.concatenate([0 * dy[:-1], dy[-1:]])

    yield mutation(dy=last)


FAULT = Fault(
    __name__,
    sentence="Your backward pass feeds the output's error in at one step only; your loss depends "
    "on all T = {T} steps.",
    remedy="Add every step's output gradient to δh of that step.",
    section=Section.HEAD_AND_DATA,
    place=50,
    mutations=mutations,
    rank=60,
)
