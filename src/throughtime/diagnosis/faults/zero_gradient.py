"""A tensor's gradient is exactly 0, although the loss depends on it.

## How it comes about

The contributions are added to something that is not what is handed over: a copy, a slice that was
copied, an array rebound instead of changed. It runs, and the tensor never learns.

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

## How it shows

Zeros, not small numbers, where the numerical derivative is none; everything else may be exact.

```python
import numpy as np

wrong = Wrong()
assert Right().agrees() and wrong.agrees("W", "b", "V", "d")
g, n = wrong.both
assert not g["U"].any() and np.abs(n["U"]).max() > 0.1
```

## What looks like it

- A tensor whose *numerical* derivatives are 0 too has no part in the loss; the check says so.
- A zero that [only_last_step_kept] leaves: U has one step's term, and the first step's is 0 with a
  zero initial state.
- U is 0 at T = 1 where the initial state is 0, and rightly.
- A zero hides what comes after it: once it is repaired, look again.

## What to change

Add in place to the array that is returned. In C++, take references.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is exactly 0; the loss depends on it.",
    remedy="See whether δ is added into a temporary or a copy instead of the gradient that is "
    "handed over.",
    section=Section.TENSOR,
    place=50,
)
