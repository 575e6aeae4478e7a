"""The gradient is shortened to a largest norm.

## How it comes about

`gradient *= limit / norm` is the last line of the backward pass; it belongs in the update.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN

LIMIT = 1.0


class Wrong(RNN):
    def finished(self, d):
        norm = np.sqrt(sum((array**2).sum() for array in d.values()))
        return {name: array * min(1, LIMIT / norm) for name, array in d.items()}


class Right(RNN):
    def finished(self, d):
        return d
```

```cpp
norm = std::sqrt(sum);                                     // over all tensors
if (norm > limit) dU[j][k] *= limit / norm;                // wrong: in the backward pass
U[j][k] -= rate * dU[j][k] * std::min(1.0, limit / norm);  // right: in the update
```

## How it shows

α < 1 is the same in all tensors, with cosine 1. The norm of the whole gradient is a round number,
the same at every point at which it is clipped.

```python
for network in (Wrong(), Wrong(T=4), Wrong(scale=0.5)):
    g, n = (np.concatenate([a.ravel() for a in d.values()]) for d in network.both)
    assert abs(np.linalg.norm(g) - LIMIT) < 1e-12 and np.linalg.norm(n) > 1.5
    assert network.slope() < 0.7 and network.cosine() > 1 - 1e-9
assert Right().agrees()
```

## What looks like it

- With [averaged_over_steps] and [scaled] α does not change when the loss is scaled. Here it goes to
  1 as the loss is scaled down.
- [clipped_by_value] leaves small entries alone.

## What to change

Clip in the update. If the line cannot be moved, check with a limit that nothing reaches.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient is clipped: its norm is held at {limit}.",
    remedy="Clip after the check, in the update; a clipped gradient is not the gradient of "
    "the loss.",
    section=Section.ADDED_OR_CUT,
    place=40,
)
