"""A tensor's gradient is exactly 0, although the loss depends on it.

## How it comes about

The contributions are added to something other than the array that is returned: a copy, a slice that
was copied, or a name that was rebound to a new array. The program runs, and the tensor never
learns.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["b"] += dz.sum(axis=0)
        dU = d["U"]
        dU = dU + dz.T @ self.h[t]  # a new array; d["U"] stays as it was


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["b"] += dz.sum(axis=0)
        dU = d["U"]
        dU += dz.T @ self.h[t]
```

```cpp
for (Vector row : dU) row[k] += dz[j] * h[t - 1][k];   // wrong: every row is a copy
for (Vector& row : dU) row[k] += dz[j] * h[t - 1][k];  // right: the row itself
```

Or some rows of it alone: a loop that ends before the last unit, `if word:` where the first word has
the number 0, or an embedding's `padding_idx`, whose row PyTorch leaves as it is. Its −1 means the
last row, which may be a word.

## How it shows

The entries are zeros, not small numbers, where the numerical derivatives are not 0. Everything else
may be exact.

```python
import numpy as np

wrong = Wrong()
assert Right().agrees() and wrong.agrees("W", "b", "V", "d")
g, n = wrong.both
assert not g["U"].any() and np.abs(n["U"]).max() > 0.1
```

## What looks like it

- A tensor whose *numerical* derivatives are 0 too has no part in the loss; the check says so.
- [only_last_step_kept] may leave a zero: it keeps one step's term of U, and the first step's is 0
  with a zero initial state.
- At T = 1 the gradient of U is rightly 0 where the initial state is 0.
- A zero hides other faults of the same tensor. Once it is repaired, check again.

## What to change

Add in place to the array that is returned. In C++, take references.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is exactly 0; the loss depends on it.",
    remedy="Check whether δ is added to a temporary or a copy instead of to the gradient that is "
    "returned.",
    section=Section.TENSOR,
    place=50,
)
