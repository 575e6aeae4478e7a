"""The gradient of a bias is counted twice, as if there were two biases.

## How it comes about

cuDNN and PyTorch keep two biases for each gate, one beside W x and one beside U h. Both have the
same gradient, the whole δz. A program that has *one* bias and adds up both of these gradients
counts it twice.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["b"] += dz.sum(axis=0)  # b_ih
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)  # b_hh


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
db[j] += dz[j] + dz[j];  // wrong: b_ih and b_hh are one bias here
db[j] += dz[j];          // right
```

## How it shows

α = 2 in the bias, at every T and B, and 1 in everything else.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1), Wrong(B=1)):
    assert wrong.agrees("W", "U", "V", "d") and abs(wrong.slope("b") - 2) < 1e-6
```

## What looks like it

- Two biases that each have the whole gradient are *right*: moving either of them moves z by the
  same amount. Their sum learns twice as fast, but that is a matter of the update.
- [tensor_scaled] by 2 is the same in a tensor that is not a bias.
- [factor_two] is the same factor in every tensor.

## What to change

Add δz once to one bias. To compare with PyTorch, add up its two biases and take the gradient of
either of them.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is counted twice, as if there were two biases.",
    remedy="Add δz once. Where two biases act as one, each has the whole gradient, and their sum "
    "has it once.",
    section=Section.TENSOR,
    place=40,
)
