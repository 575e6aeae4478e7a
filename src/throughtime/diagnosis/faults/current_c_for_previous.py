"""The forget gate's δ is δc ⊙ c_t; it should be δc ⊙ c_{t−1}.

## How it comes about

c is updated in place, c ← i a + f c, so that the backward pass finds only the new value.

```python
import numpy as np

from throughtime.diagnosis.example_networks import LSTM


class Wrong(LSTM):
    def gate_deltas(self, s, dh, dc):
        return dc * s["a"], dc * s["c"], dc * s["i"], dh * np.tanh(s["c"])


class Right(LSTM):
    def gate_deltas(self, s, dh, dc):
        return dc * s["a"], dc * s["c_before"], dc * s["i"], dh * np.tanh(s["c"])
```

```cpp
df[j] = dc[j] * c[t][j];      // wrong
df[j] = dc[j] * c[t - 1][j];  // right
```

## How it shows

At T = 1 the forget gate's rows are wrong and all others exact. From T = 2 on δz_f goes back through
U_f and spoils the rest.

```python
once = Wrong(T=1)
g, n = once.both
off = ~np.isclose(g["b"], n["b"], rtol=1e-6).reshape(4, -1)
assert Right().agrees() and off[1].all() and not off[[0, 2, 3]].any()  # i, f, a, o
assert Wrong().agrees("V", "d") and not Wrong().agrees("W")
```

## What looks like it

- With a zero initial cell state the forget gate's true gradient at T = 1 is 0, and with this fault
  it is not.
- [derivative_missing] in the forget gate makes the same rows wrong. There the ratio g/n is 1/σ′,
  which is at least 4.
- [current_h_for_previous] is the same slip with h, in U alone.

## What to change

Keep c_{t−1} with the step and multiply by that.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import LSTM, Model, Mutation, in_each_layer


def mutations(model: Model) -> Iterator[Mutation]:
    """δf = δc ⊙ c_t; δp = δz ⊙ c_t of gates that see c_{t−1}."""
    if isinstance(model.cell, LSTM):
        yield from in_each_layer(model, c_before=lambda before, now: now)
        if model.cell.peepholes:
            yield from in_each_layer(model, PEEPHOLES, c_of_peepholes=lambda before, now: now)


PEEPHOLES = "the peepholes' gradient"


FAULT = Fault(
    __name__,
    sentence="The cell state after the step, c_t, is used where the one before it, c_{{t−1}}, "
    "belongs: in {where}.",
    remedy="Use the cell state before the step: δf_t = δc_t ⊙ c_{{t−1}}, and likewise for "
    "peepholes that see it.",
    section=Section.OPERANDS,
    place=20,
    mutations=mutations,
    rank=260,
)
