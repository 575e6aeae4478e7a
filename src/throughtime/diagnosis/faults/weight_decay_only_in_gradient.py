"""The gradient has an L2 term; the loss that is returned has none.

## How it comes about

λ W is added to the gradient, or the optimiser's decay was moved there, and the loss is that of the
data alone. For training that may be what is wanted, but it is not the gradient of the loss.

```python
from throughtime.diagnosis.example_networks import RNN

DECAY = 0.1


class Wrong(RNN):
    def finished(self, d):
        return d | {n: d[n] + DECAY * self.p[n] for n in "WUV"}


class Right(RNN):
    def finished(self, d):
        return d
```

```cpp
dU[j][k] += dz[j] * h[t - 1][k] + lambda * U[j][k];  // wrong, once the loss has no such term
dU[j][k] += dz[j] * h[t - 1][k];                     // right
```

## How it shows

g − n = +λ W in every matrix, and 0 in the biases. With the output layer at 0 the loss does not
react to the other matrices at all, as it would to an L2 term.

```python
import numpy as np

wrong = Wrong()
assert Right().agrees() and wrong.agrees("b", "d") and not wrong.agrees("U")
g, n = wrong.both
assert all(np.allclose(g[m] - n[m], DECAY * wrong.p[m], atol=1e-7) for m in "WUV")
wrong.p["V"][:] = 0
before = wrong.loss(wrong.forward())
wrong.p["U"] *= 2
assert wrong.loss(wrong.forward()) == before
```

## What looks like it

- [weight_decay_doubled] has the same residual, and a loss with an L2 term.
- [weight_decay_missing] is the converse: the loss has the term, and the gradient lacks it.

## What to change

Add λ/2 Σ W² to the loss, or leave λ W to the optimiser and give the check the gradient without it.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient has an L2 term, {factor} W in {where}; your loss has none.",
    remedy="Add it to the loss, or leave it to the optimiser.",
    section=Section.ADDED_OR_CUT,
    place=23,
)
