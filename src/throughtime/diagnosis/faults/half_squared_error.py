"""The gradient is that of half the squared error; the loss has no ½.

## How it comes about

Textbooks write ½ (y − answer)², so that the derivative is simply y − answer. The loss that is
printed is the plain squared error.

```python
from throughtime.diagnosis.example_networks import RNN


class Square(RNN):
    def loss(self, outputs):
        return ((outputs - self.y) ** 2).sum()


class Wrong(Square):
    def output_delta(self, outputs):
        return outputs - self.y


class Right(Square):
    def output_delta(self, outputs):
        return 2 * (outputs - self.y)
```

```cpp
for (int k = 0; k < O; ++k) loss += (p[t][k] - y[t][k]) * (p[t][k] - y[t][k]);
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];        // wrong
for (int k = 0; k < O; ++k) dy[t][k] = 2 * (p[t][k] - y[t][k]);  // right
```

## How it shows

α = ½ in every tensor, whatever the sizes are.

```python
assert Right().agrees()
for network in (Wrong(), Wrong(T=1), Wrong(B=1)):
    assert all(abs(network.slope(name) - 0.5) < 1e-6 for name in "WUbVd")
```

## What looks like it

- [factor_half] gives the same gradient, number for number. This name is given where the loss is
  known to be a squared error.
- [averaged_over_outputs] concerns the other constant of a squared error, the number of outputs.

## What to change

Put the 2 into δ of the output, or the ½ into the loss.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient is that of half the squared error; your loss has no ½.",
    remedy="Put the 2 into δ of the output, 2 (y − ŷ), or the ½ into the loss.",
    section=Section.REDUCTION,
    place=90,
)
