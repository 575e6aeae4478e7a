"""The backward pass divides by T; the loss does not.

## How it comes about

Somebody wanted gradients that do not grow with the length of the sequence, and put the division
where the gradient is, not where the loss is. Every sign is right and training goes on, but with a
learning rate that is in effect T times smaller than the one that was set.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):  # the loss is a sum over the steps
    def output_delta(self, outputs):
        return (softmax(outputs) - self.y) / self.T


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
for (int k = 0; k < O; ++k) dy[t][k] = (p[t][k] - y[t][k]) / T;  // wrong: loss += ..., no / T
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];        // right
```

## How it shows

Every tensor is off by the same factor and points the right way: α = 1/T, and the cosine is 1. The
discrepancy is therefore d = (T − 1)/(T + 1) in all of them, which is 0.95 at T = 39. At T = 1 the
gradient is right.

```python
wrong = Wrong(T=5)
assert Right().agrees()
for name in wrong.p:
    assert abs(wrong.slope(name) - 1 / 5) < 1e-6 and wrong.cosine(name) > 1 - 1e-9
assert abs(wrong.discrepancy() - 4 / 6) < 1e-6
assert abs(Wrong(T=3).slope() - 1 / 3) < 1e-6 and Wrong(T=1).agrees()
```

## What looks like it

- [divided_by_batch] and [divided_by_classes] are factors of every tensor too, but they remain at T
  = 1. Where B or the number of classes equals T, only another length tells them apart.
- [clipped_by_norm] has a factor that changes with the gradient's own size.
- [bias_averaged] has the factor in the biases alone.

## What to change

Remove the division, or divide the loss by T as well. A mean over the steps is a good choice, as
long as both passes make it.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your backward pass divides by T = {T}; your loss does not.",
    remedy="Remove the division by T from the backward pass, or average the loss over the steps "
    "too.",
    section=Section.REDUCTION,
    place=10,
)
