"""The gradient is twice the gradient of the loss, in every tensor.

## How it comes about

The ½ of a loss ½ (y − answer)² is there to cancel the 2 of its derivative. If the derivative is
written as 2 (y − answer) all the same, the gradient is doubled. The same happens
where a `backward` that accumulates is called twice.

```python
from throughtime.diagnosis.example_networks import RNN


class HalfSquare(RNN):
    def loss(self, outputs):
        return ((outputs - self.y) ** 2).sum() / 2


class Wrong(HalfSquare):
    def output_delta(self, outputs):
        return 2 * (outputs - self.y)


class Right(HalfSquare):
    def output_delta(self, outputs):
        return outputs - self.y
```

```cpp
for (int k = 0; k < O; ++k) loss += 0.5 * (p[t][k] - y[t][k]) * (p[t][k] - y[t][k]);
for (int k = 0; k < O; ++k) dy[t][k] = 2 * (p[t][k] - y[t][k]);  // wrong
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];        // right
```

## How it shows

α = 2 in every tensor, whatever the sizes are.

```python
assert Right().agrees()
for network in (Wrong(), Wrong(T=1), Wrong(B=1)):
    assert all(abs(network.slope(name) - 2) < 1e-6 for name in "WUbVd")
```

## What looks like it

- [summed_over_batch] at B = 2, [summed_over_steps] at T = 2 and [averaged_over_outputs] with two
  outputs have this factor too. Change the size to tell them apart.
- [accumulated_without_zeroing] gives 2 at the second call and 3 at the third.

## What to change

Leave out either the 2 or the ½, so that both passes belong to the same loss.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient is twice the gradient of your loss, in every tensor.",
    remedy="Halve δ of the output, or write the loss without its ½.",
    section=Section.REDUCTION,
    place=70,
)
