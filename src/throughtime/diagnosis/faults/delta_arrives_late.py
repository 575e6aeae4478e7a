"""What step t + 2 sends back arrives at step t, and what step t + 1 sends is not there.

## How it comes about

δh is kept in an array by step, and the index of what is read or written is off by one. Or two
buffers take turns, and are exchanged once too often.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Indexed(RNN):
    def walk(self, dh_output, d):
        sent = [np.zeros_like(self.h0) for _ in range(self.T + 2)]
        for t in reversed(range(self.T)):
            dz, sent[t], _ = self.back(t, dh_output[t] + self.arrived(sent, t), sent[t])
            self.accumulate(d, t, dz)
        return np.zeros_like(self.x)


class Wrong(Indexed):
    def arrived(self, sent, t):
        return sent[t + 2]


class Right(Indexed):
    def arrived(self, sent, t):
        return sent[t + 1]
```

```cpp
dh[j] = dh_output[t][j] + dzs[t + 2][j];  // wrong
dh[j] = dh_output[t][j] + dzs[t + 1][j];  // right
```

## How it shows

The output layer is exact and T = 1 agrees. At T = 2 nothing comes back at all; the last two steps
have the gradient of their own outputs alone.

```python
wrong = Wrong()
assert Right().agrees() and Wrong(T=1).agrees() and not Wrong(T=2).agrees()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- [dh_next_missing] is the same at T = 2; from T = 3 on, something comes back here.
- [states_off_by_one] reads *states* from the wrong place; δ is right.

## What to change

Read at step t what step t + 1 has sent: with one buffer that is overwritten there is no index to
get wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    LSTM,
    Carried,
    Intervention,
    Model,
    Mutation,
    in_each_layer,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """δh, δc, or both arrive one step late."""
    if model.steps < 3:
        return
    yield from in_each_layer(model, "δh", handed_back=_late((0,)))
    if isinstance(model.cell, LSTM):
        yield from in_each_layer(model, "δc", handed_back=_late((1,)))
        yield from in_each_layer(model, "δh and δc", handed_back=_late((0, 1)))


def _late(which: tuple[int, ...]) -> Intervention:
    def edit(sent: Carried, earlier: Sequence[Carried], **_: Any) -> Carried:
        before = earlier[-1] if earlier else (0 * sent[0], 0 * sent[1])
        h, c = (before[k] if k in which else sent[k] for k in range(2))
        return h, c

    return edit


FAULT = Fault(
    __name__,
    sentence="What step t + 2 sends back, {where}, arrives at step t; what step t + 1 sends does "
    "not.",
    remedy="Read at step t what step t + 1 has sent back.",
    section=Section.NEXT_STEP,
    place=83,
    mutations=mutations,
    rank=187,
)
