"""The loss is a mean over the B sequences; the backward pass sums over them.

## How it comes about

Products such as `dz.T @ x` sum over the rows, that is, over the batch. A loss that calls `mean()`
needs the same 1/B somewhere in the backward pass, and nothing complains when it is missing.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Mean(RNN):
    def loss(self, outputs):
        return super().loss(outputs) / self.B


class Wrong(Mean):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y


class Right(Mean):
    def output_delta(self, outputs):
        return (softmax(outputs) - self.y) / self.B
```

```cpp
loss /= B;
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];        // wrong
for (int k = 0; k < O; ++k) dy[t][k] = (p[t][k] - y[t][k]) / B;  // right
```

## How it shows

α = B in every tensor, whatever T is. With a single sequence the fault does not show.

```python
assert Right(B=3).agrees() and Wrong(B=1).agrees()
for B in (2, 3):
    assert all(abs(Wrong(B=B).slope(name) / B - 1) < 1e-6 for name in "WUbVd")
assert abs(Wrong(T=1, B=3).slope() - 3) < 1e-6
```

## What looks like it

- [factor_two] is the same number where B = 2.
- [summed_over_steps] is right at T = 1.
- If the loss is a mean over steps *and* sequences and the backward pass lacks both, then α = T · B,
  and both faults are named.

## What to change

Divide δ of the outputs by B, once, at the very start of the backward pass.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your loss is a mean over B = {B} sequences; your backward pass does not divide by B.",
    remedy="Divide δ of every output by B, or sum the loss over the sequences.",
    section=Section.REDUCTION,
    place=40,
)
