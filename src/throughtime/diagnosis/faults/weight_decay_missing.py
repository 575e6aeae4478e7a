"""The loss has an L2 term; the gradient lacks it.

## How it comes about

λ/2 Σ W² was added to the loss that is returned. The term does not depend on the network's outputs,
so its gradient has to be added by hand, and it was not. Or the term is left to the optimiser, as in
decoupled weight decay; then it does not belong in the loss.

```python
from throughtime.diagnosis.example_networks import RNN

DECAY = 0.1


class Decayed(RNN):
    def loss(self, outputs):
        return super().loss(outputs) + DECAY / 2 * sum((self.p[n] ** 2).sum() for n in "WUV")


class Wrong(Decayed):
    def finished(self, d):
        return d


class Right(Decayed):
    def finished(self, d):
        return d | {n: d[n] + DECAY * self.p[n] for n in "WUV"}
```

```cpp
loss += 0.5 * lambda * U[j][k] * U[j][k];
dU[j][k] += dz[j] * h[t - 1][k];  // wrong: nothing else is added
dU[j][k] += lambda * U[j][k];     // right: once, after the sum over the steps
```

## How it shows

The residual g − n of a matrix is −λ times the matrix itself; biases are right. It is the same with
other data or a longer sequence.

```python
import numpy as np

wrong = Wrong()
assert Right().agrees() and wrong.agrees("b", "d") and not wrong.agrees("W")
for net in (wrong, Wrong(T=1)):
    g, n = net.both
    assert all(np.allclose(g[m] - n[m], -DECAY * net.p[m], atol=1e-7) for m in "WUV")
```

## What looks like it

- [weight_decay_doubled] has the same residual with a plus sign.
- No other fault leaves a residual in proportion to the parameters. A regression of g on n *and* W
  finds both factors.

## What to change

Add λ W to the gradient of each matrix that the loss counts, or leave the term out of the loss.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient lacks the L2 term of your loss: {factor} W is missing in {where}.",
    remedy="Add {factor} W to the gradient, or leave the L2 term out of the loss.",
    section=Section.ADDED_OR_CUT,
    place=10,
)
