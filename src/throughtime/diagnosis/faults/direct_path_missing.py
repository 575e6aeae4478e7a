"""δh goes back through the gates only, and not along the direct path.

## How it comes about

The backward pass was adapted from an RNN's or an LSTM's, where Uᵀδz is all there is. A GRU has
h_{t−1} in its update too.

```python
from throughtime.diagnosis.example_networks import GRU


class Wrong(GRU):
    def previous(self, through_gates, direct):
        return through_gates


class Right(GRU):
    def previous(self, through_gates, direct):
        return through_gates + direct
```

```cpp
dh_next[j] = through_gates[j];                    // wrong
dh_next[j] = through_gates[j] + dh[j] * z[t][j];  // right, for h = (1 − z) n + z h_before
```

## How it shows

The output layer is exact and T = 1 agrees; the whole cell is wrong from T = 2 on. The error is
large: with small weights nearly all of δh goes along the direct path, which keeps about ½ of it at
each step.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
assert Wrong(scale=0.05).discrepancy("W") > 0.05
```

## What looks like it

- [direct_path_only] loses the other half. Its error fades as the weights shrink, and this one does
  not.
- [dc_next_missing] is the counterpart in an LSTM.
- Which factor belongs here, z or 1 − z, depends on the convention: see [update_gate_term_missing].

## What to change

Add δh times whichever gate value multiplies h_{t−1} in your update.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import GRU, Model, Mutation, in_each_layer


def mutations(model: Model) -> Iterator[Mutation]:
    """The direct way through a GRU is left out."""
    if isinstance(model.cell, GRU) and model.steps > 1:
        yield from in_each_layer(model, paths=lambda both: (0 * both[0], both[1]))


FAULT = Fault(
    __name__,
    sentence="δh goes back through the gates only, and not along the direct path.",
    remedy="Add δh ⊙ z, or δh ⊙ (1 − z), whichever part of h_{{t−1}} your update keeps.",
    section=Section.NEXT_STEP,
    place=70,
    mutations=mutations,
    rank=160,
)
