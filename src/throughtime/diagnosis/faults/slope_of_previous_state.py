"""The derivative of tanh is taken at the state before the step.

## How it comes about

The states are in a list whose first entry is the initial state, so that h_t is `h[t + 1]`. The
backward pass reads `h[t]`, for the operand of U, which is right, and for 1 − h², which is not.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def delta(self, step, dh):
        return dh * (1 - step["h_before"] ** 2)


class Right(RNN):
    def delta(self, step, dh):
        return dh * (1 - step["h"] ** 2)
```

```cpp
dz[j] = dh[j] * (1 - h[t - 1][j] * h[t - 1][j]);  // wrong
dz[j] = dh[j] * (1 - h[t][j] * h[t][j]);          // right
```

## How it shows

The output layer is exact; the cell is wrong at T = 1 already. With an initial state of 0 the factor
is 1 there, as if the derivative were missing.

```python
import numpy as np

assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
once = Wrong(T=1, B=1, start=0)
g, n = once.both
assert np.allclose(g["b"] / n["b"], 1 / (1 - once.h[1][0] ** 2), rtol=1e-5)
```

## What looks like it

- [derivative_missing] is the same at T = 1 where the initial state is 0. Longer sequences, or
  another initial state, tell them apart.
- [states_off_by_one] takes the state before for the *operands* of the output layer and of U.

## What to change

Take the state after the step: h_t = tanh(z_t), and tanh′(z_t) = 1 − h_t².
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    LSTM,
    RNN,
    SLOPES,
    Model,
    MutantTape,
    Mutation,
    in_each_layer,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """φ′ at h_{t−1}; in an LSTM, tanh′ at c_{t−1}."""
    if isinstance(model.cell, RNN):
        kind = model.cell.nonlinearity

        def before(slopes: Array, tape: MutantTape, **_: Any) -> Array:
            slope: Array = SLOPES[kind](tape.h[:-1, :, None])
            return slope

        yield from in_each_layer(model, "h_{t−1}", slopes=before)
    if isinstance(model.cell, LSTM) and model.cell.squash == "tanh":

        def of_cell(slope: Array, tape: MutantTape, **_: Any) -> Array:
            return 1 - np.tanh(tape.c[:-1]) ** 2

        yield from in_each_layer(model, "c_{t−1}", cell_slope=of_cell)


FAULT = Fault(
    __name__,
    sentence="The derivative of tanh is taken at the state before the step, {where}.",
    remedy="Use the state after the step.",
    section=Section.STEP,
    place=27,
    mutations=mutations,
    rank=247,
)
