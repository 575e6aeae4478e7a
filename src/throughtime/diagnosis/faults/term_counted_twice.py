"""What comes back from the next step is added twice.

## How it comes about

The term is added at the end of step t + 1, into the buffer of step t, and again at the beginning of
step t. Or automatic differentiation carries it back, and a loop written by hand does so too.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def arriving(self, dh_output, dh_next):
        dh = dh_output + dh_next
        return dh + dh_next


class Right(RNN):
    def arriving(self, dh_output, dh_next):
        return dh_output + dh_next
```

```cpp
dh_output[t - 1][j] += dh_next[j];             // at the end of step t
dh[j] = dh_output[t - 1][j] + dh_next[j];      // wrong: at the beginning of step t − 1
dh[j] = dh_output[t - 1][j];                   // right: it is in there already
```

## How it shows

The output layer is exact and T = 1 agrees. From T = 2 on the cell's gradient is wrong, and it may
grow with the length like 2ᵀ.

```python
import numpy as np

assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
right, other = (np.linalg.norm(g["U"]) for g in (wrong.both[1], wrong.both[0]))
assert other > right
```

## What looks like it

- [dh_next_missing] does not add the term at all. The *residuals* of the two are opposite at T = 2,
  where nothing has gone back two steps.
- [factor_two] doubles every tensor, also at T = 1.

## What to change

Decide whether the two terms meet at the end of a step or at the beginning, and add them there only.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    LSTM,
    Model,
    Mutation,
    carried_times,
    in_each_layer,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """What step t + 1 sends back is added twice."""
    if model.steps < 2:
        return
    yield from in_each_layer(model, "δh", carried=carried_times(2, 1))
    if isinstance(model.cell, LSTM):
        yield from in_each_layer(model, "δc", carried=carried_times(1, 2))
        yield from in_each_layer(model, "δh and δc", carried=carried_times(2, 2))


FAULT = Fault(
    __name__,
    sentence="What comes back from the next step is added twice.",
    remedy="Add it once.",
    section=Section.NEXT_STEP,
    place=80,
    mutations=mutations,
    rank=180,
)
