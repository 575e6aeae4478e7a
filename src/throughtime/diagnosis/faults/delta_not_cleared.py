"""A step's δ is added to what later steps have left in its buffer, which is never set to 0.

## How it comes about

The array for what goes back to the step before, or for δh of the outputs, is made once, before the
loop, and each step adds to it. Each step then has its own part and those of all later steps once
more.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Loop(RNN):
    def walk(self, dh_output, d):
        dh_next = np.zeros_like(self.h0)
        for t in reversed(range(self.T)):
            dz, before, _ = self.back(t, dh_output[t] + dh_next, dh_next)
            self.accumulate(d, t, dz)
            dh_next = self.put(dh_next, before)
        return np.zeros_like(self.x)


class Wrong(Loop):
    def put(self, dh_next, before):
        dh_next += before
        return dh_next


class Right(Loop):
    def put(self, dh_next, before):
        dh_next[...] = before
        return dh_next
```

```cpp
for (j = 0; j < H; ++j) for (k = 0; k < H; ++k) dh_next[k] += U[j][k] * dz[j];  // wrong
std::fill(dh_next.begin(), dh_next.end(), 0.0);                                 // right: first
```

## How it shows

The output layer is exact, and so are T = 1 and T = 2, where nothing is left in the buffer yet; with
the buffer of the outputs' δh, T = 1 alone. From then on the cell is wrong.

```python
wrong = Wrong()
assert Right().agrees() and Wrong(T=1).agrees() and Wrong(T=2).agrees()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- [truncated] agrees up to some T too; it loses terms, and here there are too many.
- [term_counted_twice] is wrong from T = 2 on.
- [accumulated_without_zeroing] keeps the *gradient* from one call to the next.

## What to change

Assign what a step sends back, or set the buffer to 0 before each step adds to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    LSTM,
    Carried,
    Intervention,
    Model,
    Mutation,
    in_each_layer,
    mutation,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """What is sent back is added to what was sent before; δ of the outputs runs on."""
    if model.steps > 2:
        yield from in_each_layer(model, "δh of the step before", handed_back=_added(1, 0))
        if isinstance(model.cell, LSTM):
            yield from in_each_layer(model, "δc of the step before", handed_back=_added(0, 1))
            both = "δh and δc of the step before"
            yield from in_each_layer(model, both, handed_back=_added(1, 1))
    if model.steps > 1 and not model.loss.last:
        yield mutation("δh of the outputs", dh_out=_summed)
        yield mutation("δy", dy=_summed)


def _added(h: float, c: float) -> Intervention:
    def edit(sent: Carried, arrived: Carried, **_: Any) -> Carried:
        return sent[0] + h * arrived[0], sent[1] + c * arrived[1]

    return edit


def _summed(delta: Array, **_: Any) -> Array:
    """Each step's δ with those of all later steps, (T, B, ·)."""
    return np.cumsum(delta[::-1], axis=0)[::-1]


FAULT = Fault(
    __name__,
    sentence="A step's δ, {where}, is added to what later steps left in its buffer, which is never "
    "set to 0.",
    remedy="Assign what each step sends back, or clear the buffer before a step adds to it.",
    section=Section.NEXT_STEP,
    place=82,
    mutations=mutations,
    rank=185,
)
