"""Every step is given the output's error of one and the same step, the last or the first.

## How it comes about

The error of the output is computed once, before the loop or in a variable that the forward pass
overwrites, and the loop that walks back uses it at every step. The loss has a term at each.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def see_backward(self, dseen):
        return np.broadcast_to(dseen[-1], dseen.shape)


class Right(RNN):
    def see_backward(self, dseen):
        return dseen
```

```cpp
for (t = T - 1; t >= 0; --t) dh[j] = dh_output[T - 1][j] + dh_next[j];  // wrong
for (t = T - 1; t >= 0; --t) dh[j] = dh_output[t][j] + dh_next[j];      // right
```

## How it shows

T = 1 agrees. From T = 2 on the cell is wrong; the output layer is wrong too, where its own gradient
is made with that error. Where all steps have the same output and the same target, all agrees.

```python
assert Right().agrees() and Wrong(T=1).agrees()
assert Wrong().agrees("V", "d") and not any(map(Wrong().agrees, ["W", "U", "b"]))
```

## What looks like it

- [output_gradient_at_every_step] has the same loop, but a loss that depends on the last step alone.
- [output_gradient_at_last_step_only] sends nothing in at the other steps.
- [last_cache_at_every_step] takes the *cell's* values from one step.

## What to change

Keep δ of the outputs of every step, (T, B, O), and send in each step's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation, mutation


def mutations(model: Model) -> Iterator[Mutation]:
    """The last or the first step's error at every step, below the output layer or in it too."""
    if model.loss.last or model.steps < 2:
        return

    def last(dy: Array, **_: Any) -> Array:
        return np.broadcast_to(dy[-1], dy.shape)

    def first(dy: Array, **_: Any) -> Array:
        return np.broadcast_to(dy[0], dy.shape)

    for words, edit in {"last": last, "first": first}.items():
        yield mutation(f"the {words} step's δh", dh_out=edit)
        if model.has_head:
            yield mutation(f"the {words} step's δy", dy=edit)


FAULT = Fault(
    __name__,
    sentence="Your backward pass feeds the error of one step into all T = {T} steps: {where}.",
    remedy="Keep δ of the outputs for every step, and feed each step its own.",
    section=Section.HEAD_AND_DATA,
    place=45,
    mutations=mutations,
    rank=45,
)
