"""The loss is a mean over the T steps; the backward pass sums over them.

## How it comes about

The loss was divided by T later, for the sake of a number that can be printed and compared between
lengths, and the backward pass was forgotten.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Mean(RNN):
    def loss(self, outputs):
        return super().loss(outputs) / self.T


class Wrong(Mean):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y


class Right(Mean):
    def output_delta(self, outputs):
        return (softmax(outputs) - self.y) / self.T
```

```cpp
loss /= T;
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];        // wrong
for (int k = 0; k < O; ++k) dy[t][k] = (p[t][k] - y[t][k]) / T;  // right
```

## How it shows

α = T in every tensor, with cosine 1; at T = 1 the gradient is right. Training takes steps that are
T times too large, and longer sequences seem to need a smaller learning rate.

```python
assert Right().agrees() and Wrong(T=1).agrees()
for T in (3, 5):
    assert all(abs(Wrong(T=T).slope(name) / T - 1) < 1e-6 for name in "WUbVd")
```

## What looks like it

- [summed_over_batch] has α = B, at T = 1 too.
- [averaged_over_outputs] has α = the number of outputs, at T = 1 too.
- [output_gradient_at_every_step] grows with T as well, but not by the same factor in every tensor.

## What to change

Divide δ of every step's output by T. That is enough, since everything after it is linear in δ.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your loss is a mean over T = {T} steps; your backward pass does not divide by T.",
    remedy="Divide δ of every step's output by T, or sum the loss over the steps.",
    section=Section.REDUCTION,
    place=20,
)
