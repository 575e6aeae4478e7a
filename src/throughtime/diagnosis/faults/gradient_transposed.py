"""A matrix's gradient is transposed.

## How it comes about

The outer product is taken the other way round, or memory that was written by rows is read by
columns. Where the matrix is square, as U is, no shape complains.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += self.h[t].T @ dz
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
dU[k][j] += dz[j] * h[t - 1][k];  // wrong
dU[j][k] += dz[j] * h[t - 1][k];  // right: row of the unit that gets, column of the one that gives
```

## How it shows

One matrix is wrong, at T = 1 too, and its transpose is exactly the numerical gradient. The diagonal
is right. Where gates are stacked as rows, each block is transposed by itself.

```python
import numpy as np

wrong = Wrong()
assert Right().agrees() and wrong.agrees("W", "b", "V", "d")
assert not wrong.agrees("U") and not Wrong(T=1).agrees("U")
g, n = wrong.both
assert np.allclose(g["U"].T, n["U"], rtol=1e-6, atol=1e-8)
```

## What looks like it

- [recurrent_untransposed] lacks the transpose where δ goes *back* a step: it is right at T = 1, and
  wrong in W and b too.
- Where the gradient is symmetric, as with a single unit, the fault does not show.

## What to change

Swap the operands of the product, or the order in which its memory is read. Test with I, H and O all
different, and compare square matrices block by block.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is transposed.",
    remedy="Swap the operands of its outer product, or the order in which its memory is read.",
    section=Section.TENSOR,
    place=60,
)
