"""The gradient has half of the L2 term that the loss has.

## How it comes about

The loss has λ Σ W², whose derivative is 2 λ W, and the gradient has λ W, which belongs to
λ/2 Σ W².

```python
from throughtime.diagnosis.example_networks import RNN

DECAY = 0.1


class Decayed(RNN):
    def loss(self, outputs):
        return super().loss(outputs) + DECAY * sum((self.p[n] ** 2).sum() for n in "WUV")


class Wrong(Decayed):
    def finished(self, d):
        return d | {n: d[n] + DECAY * self.p[n] for n in "WUV"}


class Right(Decayed):
    def finished(self, d):
        return d | {n: d[n] + 2 * DECAY * self.p[n] for n in "WUV"}
```

```cpp
loss += lambda * U[j][k] * U[j][k];
dU[j][k] += lambda * U[j][k];      // wrong
dU[j][k] += 2 * lambda * U[j][k];  // right
```

## How it shows

g − n = −λ W in every matrix, where the loss has λ Σ W², and 0 in the biases, at every T.

```python
import numpy as np

wrong = Wrong()
assert Right().agrees() and wrong.agrees("b", "d") and not wrong.agrees("U")
g, n = wrong.both
assert all(np.allclose(g[m] - n[m], -DECAY * wrong.p[m], atol=1e-7) for m in "WUV")
```

## What looks like it

- [weight_decay_missing] has the same residual where the loss has λ/2 Σ W². With the output layer at
  0 the loss shows its own λ.
- [weight_decay_doubled] has the opposite residual.

## What to change

Write 2 λ W for λ Σ W², or halve the term of the loss.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient has half of the L2 term of your loss: {factor} W is missing in "
    "{where}.",
    remedy="The derivative of λ Σ W² is 2 λ W; that of λ/2 Σ W² is λ W.",
    section=Section.ADDED_OR_CUT,
    place=27,
)
