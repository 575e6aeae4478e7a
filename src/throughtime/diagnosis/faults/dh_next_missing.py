"""δh that step t + 1 sends back does not reach step t: h_t is treated as if only its own output saw
it.

## How it comes about

h_t is used twice: by the head, and by step t + 1. What comes back from the second use is computed
and never added. In an LSTM the error carousel still carries δc back, so that the network learns
something all the same.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def arriving(self, dh_output, dh_next):
        return dh_output


class Right(RNN):
    def arriving(self, dh_output, dh_next):
        return dh_output + dh_next
```

```cpp
for (int j = 0; j < H; ++j) dh[j] = dh_output[t][j];               // wrong
for (int j = 0; j < H; ++j) dh[j] = dh_output[t][j] + dh_next[j];  // right
```

## How it shows

The output layer is exact; the recurrent tensors are right at T = 1 and wrong from T = 2 on.

```python
assert Right().agrees() and Wrong(T=1).agrees()
for T in (2, 5):
    wrong = Wrong(T=T)
    assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- [dc_next_missing], [recurrent_untransposed], [term_counted_twice] and [truncated] show in the same
  tensors at the same lengths. To tell them apart, the gradient has to be computed with each of
  them, and that takes a layout.
- In an RNN, truncation after one step *is* this fault.
- [dh_overwritten] loses the other of the two terms.

## What to change

Add Uᵀδz of step t + 1 to δh of step t. Sum over all gates.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Model,
    Mutation,
    carried_times,
    in_each_layer,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """δh from step t + 1 is left out."""
    if model.steps > 1:
        yield from in_each_layer(model, carried=carried_times(0, 1))


FAULT = Fault(
    __name__,
    sentence="δh that step t + 1 sends back does not reach step t.",
    remedy="Add Uᵀδz of step t + 1 to δh of step t.",
    section=Section.NEXT_STEP,
    place=10,
    mutations=mutations,
    rank=120,
)
