"""Only one sequence of the batch counts in a gradient.

## How it comes about

The code was written for one sequence, and a batch came later. A matrix's gradient is a product that
sums over the batch by itself; that of a bias needs a sum of its own, and `dz[0]` has the right
shape.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        super().accumulate(d, t, dz)
        d["b"] += dz[0] - dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        super().accumulate(d, t, dz)
```

```cpp
db[j] += dzs[0][j];                              // wrong
for (b = 0; b < B; ++b) db[j] += dzs[b][j];      // right
```

## How it shows

With one sequence all is right. With several, the tensors of that line are wrong by no factor; the
others are exact.

```python
wrong = Wrong()
assert Right().agrees() and Wrong(B=1).agrees()
assert wrong.agrees("W", "U", "V", "d") and not wrong.agrees("b")
```

## What looks like it

- [only_last_step_kept] loses steps, and all but the last sequence where the batch is a loop.
- [bias_averaged] is off by a factor.
- [divided_by_batch] divides every tensor by B.

## What to change

Sum over the sequences: `dz.sum(axis=0)`.
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
    in_each_layer,
    mutation,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """The first or the last sequence alone: in biases, in matrices, in all of them."""
    T, B = model.steps, len(model.data.lengths)
    if B < 2:
        return
    for words, place in (("first", 0), ("last", B - 1)):
        mask = np.zeros((T, B))
        mask[:, place] = 1
        only = _times(mask)
        yield from in_each_layer(model, f"the {words}, in b", kept_b=only, kept_c=only)
        yield from in_each_layer(model, f"the {words}, in W and U", kept_W=only, kept_U=only)
        every = {f"kept_{kind}": only for kind in "WUbcpRVdE"}
        if place == 0:
            yield mutation(f"the {words}, in all tensors", **every)
        if model.has_head:
            yield mutation(f"the {words}, in the output layer's bias", kept_d=only)
            in_biases = {f"kept_{kind}": only for kind in "bcd"}
            yield mutation(f"the {words}, in all biases", **in_biases)


def _times(mask: Array) -> Intervention:
    return lambda kept: kept * mask


FAULT = Fault(
    __name__,
    sentence="Only one sequence of the batch counts in your gradient: {where}.",
    remedy="Sum over all sequences: `dz.sum(axis=0)`, and not `dz[0]`.",
    section=Section.OPERANDS,
    place=95,
    mutations=mutations,
    rank=337,
)
