"""One tensor's gradient is multiplied by a factor; the rest is right.

## How it comes about

One line of the backward pass takes a mean where it should sum, has a factor left over from an
experiment, or scales its gradient for the sake of the update; the other lines do not.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t] / self.B  # somebody's mean over the batch
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
for (int k = 0; k < H; ++k) dU[j][k] += dz[j] * h[t - 1][k] / B;  // wrong
for (int k = 0; k < H; ++k) dU[j][k] += dz[j] * h[t - 1][k];      // right
```

## How it shows

In that tensor α is not 1, while the cosine is 1; all other tensors agree. Since δ goes back through
the weights and not through their gradients, the error does not spread.

```python
wrong = Wrong(B=3)
assert Right().agrees() and wrong.agrees("W", "b", "V", "d")
assert abs(wrong.slope("U") - 1 / 3) < 1e-6 and wrong.cosine("U") > 1 - 1e-9
```

## What looks like it

- [bias_averaged] is the case in which the tensor is a bias and the factor is 1/T or 1/B.
- [gate_scaled] is a factor in one block of rows, in every tensor of the cell.
- [only_last_step_kept] is confined to a tensor too, but its cosine is not 1.

## What to change

Look for the factor in the line that adds this tensor's contributions. Test with B > 1.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is {factor} times what it should be; the rest is right.",
    remedy="Look for a factor of {factor} where the gradient of {where} is accumulated or "
    "returned.",
    section=Section.TENSOR,
    place=10,
)
