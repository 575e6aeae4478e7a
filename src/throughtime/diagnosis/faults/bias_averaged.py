"""The gradient of a bias is a mean over sequences or steps; it should be the sum.

## How it comes about

The weights' gradient is a product, which sums over the batch by itself. The bias needs a reduction
that is written by hand, and `mean` is easily written for `sum`.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.mean(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
for (int t = 0; t < T; ++t) db[j] += dzs[t][j] / T;  // wrong
for (int t = 0; t < T; ++t) db[j] += dzs[t][j];      // right
```

## How it shows

α = 1/B, or 1/T, in a bias alone; the weights beside it are exact. At B = 1, or at T = 1, the fault
does not show.

```python
assert Right().agrees() and Wrong(B=1).agrees()
for B in (2, 3):
    wrong = Wrong(B=B)
    assert wrong.agrees("W", "U", "V", "d") and abs(wrong.slope("b") * B - 1) < 1e-6
```

## What looks like it

- [averaged_over_steps] and [divided_by_batch] have the factor everywhere.
- [bias_counted_twice] has α = 2.
- Where no size explains the factor, the fault is called [tensor_scaled].

## What to change

Sum δz over steps and sequences: the same bias serves all of them.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is a mean over {over}; a bias needs the sum.",
    remedy="Sum δz over steps and sequences for the bias, as the products do for the weights.",
    section=Section.TENSOR,
    place=30,
)
