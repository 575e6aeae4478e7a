"""δh enters the cell as if nothing were projected: it does not pass through R.

## How it comes about

A projection is added to an LSTM that works, and the backward pass still begins with δh where δm is
meant. Where h is shorter than m, a loop over h's units leaves the rest of δm at 0.

```python
from throughtime.diagnosis.example_networks import Projected


class Wrong(Projected):
    def unprojected(self, dh):
        return dh


class Right(Projected):
    def unprojected(self, dh):
        return dh @ self.p["R"]
```

```cpp
d_o[j] = dh[j] * tanh_c;           // wrong
dm[j] += R[k][j] * dh[k];          // right: first this, for every k,
d_o[j] = dm[j] * tanh_c;           // and then from δm
```

## How it shows

The output layer is exact; everything below it is wrong, at T = 1 too. Only R itself is right at T =
1. Where R is the identity all is right, so that a test with R = 1 sees nothing.

```python
assert Right().agrees()
wrong, step = Wrong(), Wrong(T=1)
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b", "R"]))
assert step.agrees("V", "d", "R") and not any(map(step.agrees, ["W", "U", "b"]))
identity = Wrong()
identity.p["R"][...] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
assert identity.agrees()
```

## What looks like it

- [projection_untransposed] is right where all entries of R are the same.
- [derivative_missing] inside the cell leaves some gates right at T = 1.

## What to change

Take δm = Rᵀδh first, with all of δh: the output's, and what the next step sends back.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Model,
    Mutation,
    in_each_layer,
    projection_shape,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """δm = δh; where the sizes differ, as many units as both have."""
    if not model.projected:
        return
    size, units = projection_shape(model)

    def edit(dm: Array, dh: Array, R: Array) -> Array:
        wrong = np.zeros_like(dm)
        wrong[:, :size] = dh[:, :units]
        return wrong

    words = "" if size == units else f"the first {min(size, units)} units"
    yield from in_each_layer(model, words, dm=edit)


FAULT = Fault(
    __name__,
    sentence="δh enters the cell as if nothing were projected: it does not pass through R.",
    remedy="Compute δm = Rᵀδh first, and go on into the cell from there.",
    section=Section.PROJECTION_AND_DIRECTIONS,
    place=20,
    mutations=mutations,
    rank=100,
)
