"""The backward pass divides by B, the number of sequences; the loss does not.

## How it comes about

Many formulas for the gradient contain `/ B`, because their loss is a mean over the batch. Copied
into a program whose loss is a sum, the division is wrong. If it stands in one line only, such as
that of the head's `dV`, the fault is [tensor_scaled].

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):  # the loss is a sum over the sequences
    def output_delta(self, outputs):
        return (softmax(outputs) - self.y) / self.B


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
for (int k = 0; k < O; ++k) dy[t][k] = (p[t][k] - y[t][k]) / B;  // wrong: loss += ..., no / B
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];        // right
```

## How it shows

α = 1/B in every tensor, at every T. With a single sequence nothing is wrong, so a test with B = 1
does not see the fault.

```python
assert Right(B=3).agrees() and Wrong(B=1).agrees()
for B in (2, 3):
    assert all(abs(Wrong(B=B).slope(name) * B - 1) < 1e-6 for name in "WUbVd")
assert abs(Wrong(T=1, B=3).slope() - 1 / 3) < 1e-6
```

## What looks like it

- [averaged_over_steps] is right at T = 1.
- [factor_half] is the same number where B = 2; another batch size tells them apart.
- [divided_by_classes] is the same number where there are B classes.

## What to change

Remove the division, or take the mean over the sequences in the loss too.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your backward pass divides by B = {B}; your loss does not.",
    remedy="Remove the division by B from the backward pass, or average the loss over the "
    "sequences.",
    section=Section.REDUCTION,
    place=30,
)
