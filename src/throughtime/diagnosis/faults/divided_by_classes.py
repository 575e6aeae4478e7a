"""The backward pass divides by the number of classes; the loss does not.

## How it comes about

`mean()` over an array (T, B, O) divides by all three of its sizes. For a squared error over O
outputs that may be what the loss does; a cross-entropy picks one class and divides by none.

```python
from throughtime.diagnosis.example_networks import O, RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        return (softmax(outputs) - self.y) / O


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
for (int k = 0; k < O; ++k) dy[t][k] = (p[t][k] - y[t][k]) / O;  // wrong
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];        // right
```

## How it shows

α = 1/O in every tensor, at every T and every B.

```python
assert Right().agrees()
for network in (Wrong(), Wrong(T=1), Wrong(B=3)):
    assert all(abs(network.slope(name) * O - 1) < 1e-6 for name in "WUbVd")
```

## What looks like it

- [averaged_over_steps] and [divided_by_batch] have factors of the same kind. Where two of the sizes
  are equal, changing one of them tells the faults apart.
- [softmax_derivative_twice] makes the gradient small too, but its cosine is not 1.

## What to change

Remove the division. The derivative of the cross-entropy with respect to the logits is p − y.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your backward pass divides by the number of classes, {O}; your loss does not.",
    remedy="Remove the division: the gradient of a cross-entropy with respect to its logits is p − "
    "y, without a mean over the classes.",
    section=Section.REDUCTION,
    place=50,
)
