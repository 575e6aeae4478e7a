"""Within a step, one quantity is used in place of another one of the same shape.

## How it comes about

All gates and states of a step have the same shape, so that every product runs, and a letter is
easily mistaken: i for f, c for tanh c, δh for δc.

```python
import numpy as np

from throughtime.diagnosis.example_networks import LSTM


class Wrong(LSTM):
    def gate_deltas(self, s, dh, dc):
        return dc * s["a"], dc * s["i"], dc * s["i"], dh * np.tanh(s["c"])


class Right(LSTM):
    def gate_deltas(self, s, dh, dc):
        return dc * s["a"], dc * s["c_before"], dc * s["i"], dh * np.tanh(s["c"])
```

```cpp
df[j] = dc[j] * i[t][j];      // wrong
df[j] = dc[j] * c[t - 1][j];  // right
```

## How it shows

The output layer is exact. At T = 1 the gate is wrong whose δ is made with the wrong quantity, and
those whose δ is made from that one; where the quantity is the initial state, which is 0 in most
programs, T = 1 may agree. From T = 2 on the whole cell is wrong.

```python
once = Wrong(T=1)
g, n = once.both
off = ~np.isclose(g["b"], n["b"], rtol=1e-6).reshape(4, -1)
assert Right().agrees() and off[1].all() and not off[[0, 2, 3]].any()  # i, f, a, o
assert Wrong().agrees("V", "d") and not Wrong().agrees("W")
```

## What looks like it

- [current_c_for_previous], [gates_swapped_in_dc], [derivative_missing] and
  [update_gate_term_missing] are frequent cases of it, which have names of their own.
- [wrong_term_in_step] has the right quantities, but one term too many or too few.
- [wrong_matrix] takes a wrong block of the weights.

With a layout, every quantity of a step is tried in the place of every other one. Where two of them
give the same gradient, both are named.

## What to change

Put the quantity that belongs there. `throughtime explain lstm` derives each equation beside its
code.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation
from throughtime.diagnosis.mutants.step_edits import in_steps, operands


def mutations(model: Model) -> Iterator[Mutation]:
    """Every quantity of a step in the place of every other one."""
    yield from in_steps(model, operands(model), "{used} for {expected} in {of}")


FAULT = Fault(
    __name__,
    sentence="Within a step, {of} is computed with {used}, where {expected} belongs.",
    remedy="Use {expected} in its place.",
    section=Section.STEP,
    place=60,
    mutations=mutations,
    rank=900,
    systematic=True,
)
