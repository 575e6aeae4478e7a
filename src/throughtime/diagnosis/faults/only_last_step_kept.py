"""The gradient keeps only one step's contribution: `=` stands where `+=` was meant.

## How it comes about

The same weights serve every step, so their gradient is a sum over the steps. With an assignment it
is the contribution of the step that came last in the loop, which is the first in time.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] = dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
dU[j][k] = dz[j] * h[t - 1][k];   // wrong
dU[j][k] += dz[j] * h[t - 1][k];  // right
```

## How it shows

T = 1 agrees. From T = 2 on the tensors of that line are wrong, and the others are exact. With one
sequence the gradient is a single outer product, so its rank is 1.

```python
import numpy as np

wrong = Wrong(B=1)
assert Right().agrees() and Wrong(T=1).agrees()
assert wrong.agrees("W", "b", "V", "d") and not wrong.agrees("U")
g, n = wrong.both
assert np.linalg.matrix_rank(g["U"], tol=1e-9) == 1 < np.linalg.matrix_rank(n["U"], tol=1e-6)
```

## What looks like it

- [dh_next_missing] and the other faults between steps leave no recurrent tensor exact. Where `=`
  stands in *all* lines of the cell, both kinds agree at T = 1 and not at T = 2; the rank tells them
  apart.
- [output_gradient_at_last_step_only] is a head that learns from one step.
- [embedding_rows_counted_once] loses occurrences of a word, and no whole step.
- [zero_gradient]: with a zero initial state, what is left of U is exactly 0.

## What to change

Set the gradients to 0 before the loop and add in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Intervention,
    Model,
    Mutation,
    contributions_left,
    in_each_layer,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """`=` for `+=`: in all tensors, in the recurrent ones, or in one kind."""
    T, B = model.steps, len(model.data.lengths)
    if T < 2:
        return
    kinds = {"": "WUbcpRVdE", "recurrent layers": "WUbcpR", "W": "W", "U": "U", "W and U": "WU"}
    kinds |= {"b": "bc", "output layer": "Vd", "V": "V", "d": "d"}
    if model.projected:
        kinds |= {"R": "R"}
    if not model.has_head:
        kinds = {words: letters for words, letters in kinds.items() if not set(letters) <= {*"Vd"}}
    for words, letters in kinds.items():
        for kept, mask in contributions_left(T, B).items():
            where = f"{words}, {kept}" if words else kept
            masks = {f"kept_{kind}": _times(mask) for kind in letters}
            yield from in_each_layer(model, where, **masks)


def _times(mask: Array) -> Intervention:
    return lambda kept: kept * mask


FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} keeps only one step's contribution: `=` stands where `+=` "
    "was meant.",
    remedy="Add every step's contribution to the gradient.",
    section=Section.NEXT_STEP,
    place=40,
    mutations=mutations,
    rank=330,
)
