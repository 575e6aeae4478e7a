"""The gradient of the input weights multiplies a sequence's δz by another sequence's inputs.

## How it comes about

A batch is sorted by length for one pass and not for the other, (T, B, I) is given another shape
where a transpose was needed, or an axis is flipped.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t][::-1]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
dW[j][k] += dzs[b][j] * xs[order[b]][k];  // wrong: sorted in one pass alone
dW[j][k] += dzs[b][j] * xs[b][k];         // right
```

## How it shows

W alone is wrong, at every T. With one sequence nothing is wrong.

```python
wrong = Wrong()
assert Right().agrees() and Wrong(B=1).agrees()
assert wrong.agrees("U", "b", "V", "d") and not wrong.agrees("W") and not Wrong(T=1).agrees("W")
```

## What looks like it

- [time_reversed] agrees at T = 1, but fails with one sequence.
- Where all sequences are alike, the fault does not show. Where the initial states are swapped too,
  U is wrong as well.

## What to change

Keep one order of the sequences in both passes. Test with B > 1 and with I, T and B all different.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation, in_each_layer


def mutations(model: Model) -> Iterator[Mutation]:
    """x of another sequence."""
    if model.data.x.shape[1] < 2:
        return
    yield from in_each_layer(model, x=lambda x: x[:, ::-1])
    if model.data.x.shape[1] > 2:
        yield from in_each_layer(model, "the next one's", x=lambda x: np.roll(x, -1, 1))
        yield from in_each_layer(model, "the one before's", x=lambda x: np.roll(x, 1, 1))


FAULT = Fault(
    __name__,
    sentence="The gradient of the input weights, {where}, multiplies a sequence's δz by another "
    "sequence's inputs.",
    remedy="Pair each sequence's δz with its own x.",
    section=Section.OPERANDS,
    place=70,
    mutations=mutations,
    rank=320,
)
