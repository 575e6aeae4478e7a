"""The backward pass goes through the steps in the order of the forward pass.

## How it comes about

The loop was copied from the forward pass, and `reversed` was forgotten. What each step hands back
is then taken for what comes from the next step, by the step *after* it.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Loop(RNN):
    def walk(self, dh_output, d):
        dh_next = np.zeros_like(self.h0)
        for t in self.order():
            dz, dh_next, _ = self.back(t, dh_output[t] + dh_next, dh_next)
            self.accumulate(d, t, dz)
        return np.zeros_like(self.x)


class Wrong(Loop):
    def order(self):
        return range(self.T)


class Right(Loop):
    def order(self):
        return reversed(range(self.T))
```

```cpp
for (t = 0; t < T; ++t) back(t);       // wrong
for (t = T - 1; t >= 0; --t) back(t);  // right
```

## How it shows

The output layer is exact and T = 1 agrees. From T = 2 on the cell is wrong. Where the loss has a
term at the last step alone, only the last step has a gradient at all.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- [dh_next_missing] agrees at T = 1 too; there each step has the gradient of its own output alone.
  Here the last step has more than that, and the first one has just that.
- [time_reversed] has the right δ, and multiplies it by the inputs of another step.

## What to change

Walk back from the last step to the first: `for t in reversed(range(T))`.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation, in_each_layer


def mutations(model: Model) -> Iterator[Mutation]:
    """The loop runs from the first step to the last."""
    if model.steps > 1:
        yield from in_each_layer(model, order=lambda order: order[::-1])


FAULT = Fault(
    __name__,
    sentence="The backward pass goes through the steps in the order of the forward pass, from the "
    "first to the last.",
    remedy="Walk back from the last step to the first: `for t in reversed(range(T))`.",
    section=Section.NEXT_STEP,
    place=85,
    mutations=mutations,
    rank=195,
)
