# summed_over_steps

The loss is a mean over the T steps; the backward pass sums over them.

## How it comes about

The loss was divided by T later, for the sake of a number that can be printed and compared between
lengths, and the backward pass was forgotten.

```python
from throughtime.diagnosis.pages.cells import RNN, softmax


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

α = T in every tensor, cosine 1; at T = 1 the gradient is right. Training takes steps that are T times
too large, and longer sequences seem to need a smaller learning rate.

```python
assert Right().agrees() and Wrong(T=1).agrees()
for T in (3, 5):
    assert all(abs(Wrong(T=T).slope(name) / T - 1) < 1e-6 for name in "WUbVd")
```

## What looks like it

- [summed_over_batch](summed-over-batch.md) has α = B, at T = 1 too.
- [averaged_over_outputs](averaged-over-outputs.md) has α = the number of outputs, at T = 1 too.
- [output_gradient_at_every_step](output-gradient-at-every-step.md) grows with T as well, but not by the
  same factor in every tensor.

## What to change

Divide δ of every step's output by T. One place is enough: everything behind it is linear in δ.
