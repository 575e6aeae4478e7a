"""The update gate's δ lacks the term of h_{t−1}.

## How it comes about

h_t = (1 − z) ⊙ n + z ⊙ h_{t−1} has z in two places, and only one of them was taken into account:
−δh ⊙ n. The same happens with an LSTM's coupled gates, f = 1 − i, and with a leaky unit whose rate
is learnt.

```python
from throughtime.diagnosis.example_networks import GRU


class Wrong(GRU):
    def update_delta(self, s, dh):
        return -dh * s["n"]


class Right(GRU):
    def update_delta(self, s, dh):
        return dh * (s["h_before"] - s["n"])
```

```cpp
dz_gate[j] = -dh[j] * n[t][j];                       // wrong
dz_gate[j] = dh[j] * (h[t - 1][j] - n[t][j]);        // right
```

## How it shows

At T = 1 the update gate's rows are wrong and all others right. Where the initial state is 0, as is
usual, T = 1 agrees. From T = 2 on the whole cell is wrong.

```python
import numpy as np

g, n = Wrong(T=1).both
off = ~np.isclose(g["b"], n["b"], rtol=1e-6).reshape(3, -1)
assert Right().agrees() and off[1].all() and not off[[0, 2]].any()  # r, z, n
assert Wrong(T=1, start=0).agrees()
assert Wrong(start=0).agrees("V", "d") and not Wrong(start=0).agrees("W")
```

## What looks like it

- With a zero initial state it looks like a fault between steps, such as [direct_path_only] or
  [direct_path_missing]. With recurrent weights at 0 and no inputs, only the update gate's bias is
  wrong, as with [last_cache_at_every_step]. The weight that each step has in that bias tells these
  two apart.
- [gate_scaled] keeps the direction within the gate's rows.

## What to change

The update mixes two values, so its gate's δ is δh times their difference. With h = (1 − z) h_{t−1}
+ z n the difference has the other sign.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    GRU,
    LSTM,
    Intervention,
    Model,
    Mutation,
    in_each_layer,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """h_{t−1}, or c_{t−1} where f = 1 − i, is left out of the update gate's δ."""
    coupled = isinstance(model.cell, LSTM) and model.cell.coupled
    if isinstance(model.cell, GRU) or coupled:
        edit: Intervention = lambda before: 0 * before  # noqa: E731
        yield from in_each_layer(model, update=edit)


FAULT = Fault(
    __name__,
    sentence="The update gate's δ lacks the term of the state before the step: h_{{t−1}}, or "
    "c_{{t−1}} where f = 1 − i.",
    remedy="The update mixes two values, so its gate's δ is δh times their difference.",
    section=Section.STEP,
    place=40,
    mutations=mutations,
    rank=270,
)
