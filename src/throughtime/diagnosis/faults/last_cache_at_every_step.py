"""The backward pass uses one step's activations at every step.

## How it comes about

The forward pass keeps its activations in attributes, or in one object that each step fills again.
The list then has T entries, all of which are the same object, last filled by step T.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def first(self):
        self.cache = {}
        return super().first()

    def keep(self, step):
        self.cache.update(step)
        self.tape.append(self.cache)  # the same object every time


class Right(RNN):
    def keep(self, step):
        self.tape.append(dict(step))
```

```cpp
Step& cache = caches[0]; cache.h = h[t]; tape.push_back(&cache);   // wrong: one object, T pointers
Step& own = caches[t]; own.h = h[t]; tape.push_back(&own);         // right
```

## How it shows

T = 1 agrees. From T = 2 on the whole cell is wrong, and the head is exact where it has its own
record of h. With one sequence the gradients of W and U have rank 1, since every step has the same x
and the same h.

```python
import numpy as np

assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong(B=1)
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
assert np.linalg.matrix_rank(wrong.both[0]["U"], tol=1e-9) == 1
```

## What looks like it

- [only_last_step_kept] has rank 1 too, but b, or a tensor of another line, is exact. It keeps the
  first step's term, while this fault repeats the last step's activations.
- [dh_next_missing] and the other faults between steps have full rank.

## What to change

Give every step an object of its own: append a copy, or index arrays by t.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation, in_each_layer


def mutations(model: Model) -> Iterator[Mutation]:
    """The last step's activations, with or without its operands."""
    if model.steps < 2:
        return

    def last(steps: Array) -> Array:
        return np.full_like(steps, len(steps) - 1)

    def repeated(x: Array, **_: Any) -> Array:
        return np.broadcast_to(x[-1], x.shape)

    yield from in_each_layer(model, "operands too", cache=last, x=repeated, h_before=repeated)
    yield from in_each_layer(model, "activations", cache=last)
    yield from in_each_layer(model, "activations and states", cache=last, h_before=repeated)
    yield from in_each_layer(model, "activations and inputs", cache=last, x=repeated)


FAULT = Fault(
    __name__,
    sentence="Your backward pass uses one step's activations at every step.",
    remedy="Keep every step's activations, each step's in an object of its own.",
    section=Section.OPERANDS,
    place=50,
    mutations=mutations,
    rank=190,
)
