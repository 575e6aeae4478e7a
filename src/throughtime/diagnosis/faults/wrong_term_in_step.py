"""Within a step, a term is missing, counts twice, or has the wrong sign.

## How it comes about

δ of a state or of a gate is a sum over all the ways by which it reaches the loss. One of them was
forgotten, was added in two places, or was subtracted.

```python
import numpy as np

from throughtime.diagnosis.example_networks import LSTM


class Wrong(LSTM):
    def hand_back(self, t, dz):
        i, f, a, o = np.split(dz, 4, axis=1)
        return super().hand_back(t, np.concatenate([i, f, a, 0 * o], axis=1))


class Right(LSTM):
    def hand_back(self, t, dz):
        return super().hand_back(t, dz)
```

```cpp
dh_next[k] += U_i[j][k] * di[j];                      // wrong: the forget gate has seen h, too
dh_next[k] += U_i[j][k] * di[j] + U_f[j][k] * df[j];  // right
```

## How it shows

The output layer is exact. A term of what goes back to the step before shows from T = 2 on; any
other one shows at T = 1, in the gates that it reaches.

```python
assert Right().agrees() and Wrong(T=1).agrees()
assert Wrong().agrees("V", "d") and not any(map(Wrong().agrees, ["W", "U", "b"]))
```

## What looks like it

- [dh_next_missing], [dc_next_missing] and [term_counted_twice] concern all that comes back from the
  next step.
- [update_gate_term_missing] and [peephole_path_missing] are frequent cases of it.
- [wrong_operand_in_step] has all terms, one of them with a wrong quantity.

## What to change

Add every term once: count in the equations of the forward pass how often the quantity occurs; its δ
has as many terms.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation
from throughtime.diagnosis.mutants.step_edits import in_steps, terms


def mutations(model: Model) -> Iterator[Mutation]:
    """Every term of a step is left out, counted twice, or subtracted."""
    yield from in_steps(model, terms(model), "in {of}, {expected} {used}")


FAULT = Fault(
    __name__,
    sentence="Within a step, in {of}, {expected} {used}.",
    remedy="Add it once, with its own sign.",
    section=Section.STEP,
    place=70,
    mutations=mutations,
    rank=890,
    systematic=True,
)
