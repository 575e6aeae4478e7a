"""δc of step t + 1 does not reach step t: the error carousel is cut.

## How it comes about

c_t is used by h_t and by c_{t+1} = … + f ⊙ c_t. The second path is the very purpose of an LSTM, but
the code runs without it.

```python
import numpy as np

from throughtime.diagnosis.example_networks import LSTM


class Wrong(LSTM):
    def cell_delta(self, s, dh, dc_next):
        return dh * s["o"] * (1 - np.tanh(s["c"]) ** 2)


class Right(LSTM):
    def cell_delta(self, s, dh, dc_next):
        return dh * s["o"] * (1 - np.tanh(s["c"]) ** 2) + dc_next
```

```cpp
dc[j] = dh[j] * o[t][j] * (1 - tanh_c * tanh_c);               // wrong
dc[j] = dh[j] * o[t][j] * (1 - tanh_c * tanh_c) + dc_next[j];  // right
```

## How it shows

The output layer is exact and T = 1 agrees. From T = 2 on the whole cell is wrong, except for the
last step's contribution to the output gate. Long dependencies are not learnt.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong(T=2)
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- [dh_next_missing] and the other faults between steps show in the same tensors; only a layout tells
  them apart.
- At T = 2 the output gate's rows are still exact here, since at the last step δo does not see δc,
  and at the first one δh is complete. With [dh_next_missing] they are not.

```python
g, n = wrong.both
assert np.allclose(g["b"][-3:], n["b"][-3:], rtol=1e-6)  # the output gate, H = 3
```

## What to change

Start δc of step t from f_{t+1} ⊙ δc_{t+1}, and add what h_t sends.
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
    """δc from step t + 1 is left out."""
    if model.steps > 1 and isinstance(model.cell, LSTM):
        yield from in_each_layer(model, carried=carried_times(1, 0))


FAULT = Fault(
    __name__,
    sentence="δ{state} of step t + 1 does not reach step t.",
    remedy="Add {sent} of step t + 1 to δ{state} of step t.",
    section=Section.NEXT_STEP,
    place=20,
    mutations=mutations,
    rank=130,
)
