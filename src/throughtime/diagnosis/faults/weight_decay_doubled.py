"""The gradient has the L2 term twice, or has one that the loss does not have.

## How it comes about

The term is added in one place of the backward pass and once more in another. Or the loss has λ/2 Σ
W² and the gradient 2 λ W, which would be right for λ Σ W².

```python
from throughtime.diagnosis.example_networks import RNN

DECAY = 0.1


class Decayed(RNN):
    def loss(self, outputs):
        return super().loss(outputs) + DECAY / 2 * sum((self.p[n] ** 2).sum() for n in "WUV")


class Wrong(Decayed):
    def finished(self, d):
        return d | {n: d[n] + 2 * DECAY * self.p[n] for n in "WUV"}


class Right(Decayed):
    def finished(self, d):
        return d | {n: d[n] + DECAY * self.p[n] for n in "WUV"}
```

```cpp
loss += 0.5 * lambda * U[j][k] * U[j][k];
dU[j][k] += 2 * lambda * U[j][k];  // wrong
dU[j][k] += lambda * U[j][k];      // right
```

## How it shows

g − n = +λ W in every matrix, and 0 in the biases, at every T.

```python
import numpy as np

wrong = Wrong()
assert Right().agrees() and wrong.agrees("b", "d") and not wrong.agrees("U")
g, n = wrong.both
assert all(np.allclose(g[m] - n[m], DECAY * wrong.p[m], atol=1e-7) for m in "WUV")
```

## What looks like it

- [weight_decay_missing] has a minus sign there.
- A term counted twice and one that the loss never had look the same: the residual is λ W in both.
  The code of the loss says which it is.

## What to change

Add the gradient of the L2 term once, with the factor of the loss: λ W for λ/2 Σ W².
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient has {factor} W more than your loss accounts for, in {where}: an L2 "
    "term counted twice, or one that the loss does not have.",
    remedy="Add the L2 term's gradient once, and only where the loss has it.",
    section=Section.ADDED_OR_CUT,
    place=20,
)
