"""δh goes back only along the direct path, h_t = … + z ⊙ h_{t−1}, and not through the gates.

## How it comes about

The direct path of a GRU (or of a leaky unit) is the easy half: a multiplication. What passes
through the gates needs Uᵀ of three blocks, one of which is multiplied by r.

```python
from throughtime.diagnosis.example_networks import GRU


class Wrong(GRU):
    def previous(self, through_gates, direct):
        return direct


class Right(GRU):
    def previous(self, through_gates, direct):
        return through_gates + direct
```

```cpp
dh_next[j] = dh[j] * z[t][j];                     // wrong
dh_next[j] = dh[j] * z[t][j] + through_gates[j];  // right: Uᵀ of δr, δz and r ⊙ δn
```

## How it shows

The output layer is exact and T = 1 agrees; the whole cell is wrong from T = 2 on. Where z is close
to 1, or U is small, the error is small, and training looks healthy.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
assert Wrong(scale=0.05).discrepancy("U") < 0.2 * wrong.discrepancy("U")
```

## What looks like it

- [direct_path_missing] loses the other half.
- [dh_next_missing] loses both. A layout tells the three apart.

## What to change

Add the two parts: h_{t−1} is used by the direct path *and* by every gate.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import GRU, Model, Mutation, in_each_layer


def mutations(model: Model) -> Iterator[Mutation]:
    """The way through a GRU's gates is left out."""
    if isinstance(model.cell, GRU) and model.steps > 1:
        yield from in_each_layer(model, paths=lambda both: (both[0], 0 * both[1]))


FAULT = Fault(
    __name__,
    sentence="δh goes back only along the direct path (1 − z), and not through the gates.",
    remedy="Add what comes back through the gates' pre-activations, Uᵀδz.",
    section=Section.NEXT_STEP,
    place=60,
    mutations=mutations,
    rank=150,
)
