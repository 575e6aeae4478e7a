"""The loss is the root of a mean square; the gradient is that of the mean square itself.

## How it comes about

The RMSE has the units of the data and is convenient to print. Its derivative has one factor more
than that of the mean square: ∂√m = ∂m / (2 √m).

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Root(RNN):
    def loss(self, outputs):
        return np.sqrt(((outputs - self.y) ** 2).mean())


class Wrong(Root):
    def output_delta(self, outputs):
        return 2 * (outputs - self.y) / outputs.size


class Right(Root):
    def output_delta(self, outputs):
        return 2 * (outputs - self.y) / outputs.size / (2 * self.loss(outputs))
```

```cpp
loss = std::sqrt(sum / count);
for (int k = 0; k < O; ++k) dy[t][k] = 2 * (p[t][k] - y[t][k]) / count;                // wrong
for (int k = 0; k < O; ++k) dy[t][k] = 2 * (p[t][k] - y[t][k]) / count / (2 * loss);  // right
```

## How it shows

α = 2 L in every tensor, where L is the loss itself. No size explains this number, and it is
different at every point.

```python
assert Right().agrees()
for network in (Wrong(), Wrong(T=1), Wrong(scale=0.3)):
    L = network.loss(network.forward())
    assert all(abs(network.slope(name) / (2 * L) - 1) < 1e-6 for name in "WUbVd")
```

## What looks like it

- [scaled] is any other factor. It remains the same when parameters or targets change, while this
  one follows the loss.
- [clipped_by_norm] has a factor that changes too, but with the norm of the gradient.

## What to change

Divide δ of the output by twice the loss, or report the root and differentiate the mean square.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your loss is the root of a mean square; your gradient is that of the mean square "
    "itself.",
    remedy="Divide δ of the output by twice the loss, or leave the root out of the loss.",
    section=Section.REDUCTION,
    place=100,
)
