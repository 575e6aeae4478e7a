"""The gradient is half the gradient of the loss, in every tensor.

## How it comes about

The derivative has a ½ that belongs to another loss. Or it takes the mean over two networks, two
directions or two halves of a batch, while the loss is their sum.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        return 0.5 * (softmax(outputs) - self.y)


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
for (int k = 0; k < O; ++k) dy[t][k] = 0.5 * (p[t][k] - y[t][k]);  // wrong
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];          // right
```

## How it shows

α = ½ in every tensor, whatever the sizes are.

```python
assert Right().agrees()
for network in (Wrong(), Wrong(T=1), Wrong(B=1)):
    assert all(abs(network.slope(name) - 0.5) < 1e-6 for name in "WUbVd")
```

## What looks like it

- [half_squared_error] *is* this factor, with the squared error as its reason. The diagnosis can
  give that name only where it knows the loss.
- [divided_by_batch] at B = 2 and [averaged_over_steps] at T = 2 have this factor too. Change the
  size to tell them apart.

## What to change

Find the ½ between the loss and δ of the outputs, and take it out.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient is half the gradient of your loss, in every tensor.",
    remedy="Double δ of the output.",
    section=Section.REDUCTION,
    place=80,
)
