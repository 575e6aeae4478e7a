"""Every entry of the gradient is clipped to ± a limit.

## How it comes about

The gradient is clipped at the end of the backward pass, where the check sees it, and not in the
update. With a usual limit such as ±5 no entry reaches it at short lengths, and the check passes.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN

LIMIT = 0.5


class Wrong(RNN):
    def finished(self, d):
        return {name: np.clip(array, -LIMIT, LIMIT) for name, array in d.items()}


class Right(RNN):
    def finished(self, d):
        return d
```

```cpp
dU[j][k] = std::clamp(dU[j][k], -5.0, 5.0);  // wrong: in the backward pass
U[j][k] -= rate * std::clamp(dU[j][k], -5.0, 5.0);  // right: in the update
```

## How it shows

Several entries have exactly the same magnitude, and their numerical derivatives lie beyond it. All
smaller entries are right. When the loss is scaled down, the fault disappears.

```python
wrong = Wrong()
g, n = wrong.both
assert Right().agrees() and not wrong.agrees()
for name in g:
    held = np.abs(g[name]) == LIMIT
    assert (np.abs(n[name][held]) > LIMIT).all()
    assert np.allclose(g[name][~held], n[name][~held], rtol=1e-6, atol=1e-8)
assert sum((np.abs(array) == LIMIT).sum() for array in g.values()) > 2
```

## What looks like it

- [clipped_by_norm] shrinks all entries alike.
- Clipping δ *inside* the recursion is different: no entry of the gradient stands at the limit, and
  the contributions of all earlier steps are wrong.

## What to change

Clip after the check, in the update.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient is clipped: no entry exceeds {limit}.",
    remedy="Clip after the check, in the update; a clipped gradient is not the gradient of "
    "the loss.",
    section=Section.ADDED_OR_CUT,
    place=30,
)
