"""A bias lacks the mean over sequences or steps that all other gradients have.

## How it comes about

The loss is a mean over the batch, and the backward pass divides by B where it adds up each weight's
gradient, not in δ of the outputs. The bias has a line of its own, and that line was forgotten.

```python
from throughtime.diagnosis.example_networks import RNN


class Mean(RNN):
    def loss(self, outputs):
        return super().loss(outputs) / self.B


class Wrong(Mean):
    def finished(self, d):
        return {name: g if name == "b" else g / self.B for name, g in d.items()}


class Right(Mean):
    def finished(self, d):
        return {name: g / self.B for name, g in d.items()}
```

```cpp
for (int k = 0; k < H; ++k) dU[j][k] /= B;  // wrong: db[j] is left as it is
for (int k = 0; k < H; ++k) dU[j][k] /= B;  // right
db[j] /= B;
```

## How it shows

α = B, or T where the loss is a mean over the steps, in a bias alone; everything else is exact. At
B = 1, or at T = 1, the fault does not show.

```python
assert Right(B=3).agrees() and Wrong(B=1).agrees()
for B in (2, 3):
    wrong = Wrong(B=B)
    assert wrong.agrees("W", "U", "V", "d") and abs(wrong.slope("b") / B - 1) < 1e-6
```

## What looks like it

- [summed_over_batch] and [summed_over_steps] have the factor everywhere.
- [bias_averaged] divides where it should not: α = 1/B.
- [bias_counted_twice] is the same where B = 2.
- Where no size explains the factor, the fault is called [tensor_scaled].

## What to change

Divide δ of the outputs once. Everything after it is linear in δ, and no gradient needs a mean of
its own.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is a sum over {over}; all others are a mean over them.",
    remedy="Divide δ of the outputs once, in place of every gradient by itself.",
    section=Section.TENSOR,
    place=35,
)
