"""The derivative of an activation is missing.

## How it comes about

δ of a gate's value is taken for δ of its pre-activation. Nothing in the shapes tells the two apart.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def delta(self, step, dh):
        return dh


class Right(RNN):
    def delta(self, step, dh):
        return dh * (1 - step["h"] ** 2)
```

```cpp
dz[j] = dh[j];                            // wrong
dz[j] = dh[j] * (1 - h[t][j] * h[t][j]);  // right
```

## How it shows

The output layer is exact; the cell is wrong at T = 1 already. With one sequence and one step g/n is
1/φ′ in each unit: at least 1 for tanh, where it is 1/(1 − h²), and at least 4 for σ. With tiny
weights the error from a missing tanh′ nearly vanishes.

```python
import numpy as np

assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
once = Wrong(T=1, B=1)
g, n = once.both
assert np.allclose(g["b"] / n["b"], 1 / (1 - once.h[1][0] ** 2), rtol=1e-5)
assert Wrong(scale=0.01, start=0).discrepancy("W") < 1e-3
```

## What looks like it

- [derivative_of_activated_value] has a factor, but a wrong one.
- [gate_scaled] has the same ratio in every unit and at every point.

## What to change

In every gate multiply δ by a (1 − a) where a = σ(z), and by 1 − a² where a = tanh(z).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    LSTM,
    Model,
    Mutation,
    in_each_layer,
    mutation,
    sets_of_gates,
    slopes_replaced,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """The derivative of the activation is taken for 1."""
    kinds = model.cell.activations
    for words, chosen in sets_of_gates(model):
        if any(kinds[k] != "identity" for k in chosen):
            edit = slopes_replaced(chosen, kinds, lambda v, kind: np.ones_like(v))
            yield from in_each_layer(model, words, slopes=edit)
    if isinstance(model.cell, LSTM) and model.cell.squash == "tanh":
        edit = lambda slope, **_: np.ones_like(slope)  # noqa: E731
        yield from in_each_layer(model, "tanh(c)", cell_slope=edit)
    if model.has_deep_head:
        missing = lambda slope, **_: np.ones_like(slope)  # noqa: E731
        yield mutation("the output layers", head_slope=missing)


FAULT = Fault(
    __name__,
    sentence="The derivative of an activation is missing in {where}.",
    remedy="Multiply δ by a (1 − a) where a = σ(z), and by 1 − a² where a = tanh(z).",
    section=Section.STEP,
    place=20,
    mutations=mutations,
    rank=230,
)
