"""The loss is a mean over the outputs; the backward pass does not divide by their number.

## How it comes about

`((y - answer) ** 2).mean()` divides by the number of outputs, but the derivative was written down
for the sum: 2 (y − answer).

```python
import numpy as np

from throughtime.diagnosis.example_networks import O, RNN


class MeanSquare(RNN):
    def loss(self, outputs):
        return ((outputs - self.y) ** 2).mean(axis=-1).sum()


class Wrong(MeanSquare):
    def output_delta(self, outputs):
        return 2 * (outputs - self.y)


class Right(MeanSquare):
    def output_delta(self, outputs):
        return 2 * (outputs - self.y) / O
```

```cpp
for (int k = 0; k < O; ++k) loss += (y[t][k] - p[t][k]) * (y[t][k] - p[t][k]) / O;
for (int k = 0; k < O; ++k) dy[t][k] = 2 * (p[t][k] - y[t][k]);      // wrong
for (int k = 0; k < O; ++k) dy[t][k] = 2 * (p[t][k] - y[t][k]) / O;  // right
```

## How it shows

α = O, the number of outputs, in every tensor, whatever T and B are. With one output nothing is
wrong.

```python
assert Right().agrees()
for network in (Wrong(), Wrong(T=1), Wrong(B=3)):
    assert all(abs(network.slope(name) / O - 1) < 1e-6 for name in "WUbVd")
```

## What looks like it

- [factor_two] is the same number where there are two outputs.
- [half_squared_error] concerns the other constant of a squared error, ½.
- [summed_over_steps], where T is the number of outputs, is right at T = 1.

## What to change

Divide δ of the outputs by their number, or sum the squared errors in the loss.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your loss is a mean over {O} outputs; your backward pass does not divide by their "
    "number.",
    remedy="Divide δ of the outputs by {O}, or sum the squared errors in the loss.",
    section=Section.REDUCTION,
    place=60,
)
