"""δ goes down to the layer below, or back in time, through another layer's matrix.

## How it comes about

All layers' matrices have the same shape, and the index of the layer is off by one, or the matrix of
the last layer is still in the variable. Or U stands where W belongs.

```python
import numpy as np

from throughtime.diagnosis.example_networks import TwoLayers


class Down(TwoLayers):
    def walk(self, dh_output, d):
        self.dz = []
        super().walk(dh_output, d)
        return np.array(self.dz[::-1]) @ self.way_down()

    def accumulate(self, d, t, dz):
        super().accumulate(d, t, dz)
        self.dz.append(dz)


class Wrong(Down):
    def way_down(self):
        return self.p["U"]


class Right(Down):
    def way_down(self):
        return self.p["W"]
```

```cpp
dx[k] += U[j][k] * dz[j];  // wrong
dx[k] += W[j][k] * dz[j];  // right: the layer's own, which it multiplied x with
```

## How it shows

The output layer and the upper layer are exact; the layer below is wrong, at T = 1 already.

```python
for wrong in (Wrong(), Wrong(T=1)):
    assert wrong.agrees("W", "U", "b", "V", "d")
    assert not any(map(wrong.agrees, ["low.W", "low.U", "low.b"]))
assert Right().agrees()
```

## What looks like it

- [lower_layer_overwritten] agrees at T = 1.
- [wrong_matrix] takes another gate's matrix, or W for U, within a layer.

## What to change

Go down through the layer's own W, and back through its own U.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation, mutation


def mutations(model: Model) -> Iterator[Mutation]:
    """Another layer's W, U, or the layer's own U, for W on the way down; another's U for U."""
    weights = model.forward().weights
    lowest = 0 if model.has_embedding else 1
    for directed, own in weights.items():
        layer, direction = directed
        place = model.words(*directed) or "the layer"
        others = [(other, w) for other, w in weights.items() if other.direction == direction]
        if layer >= lowest:
            down = {f"U of {model.words(*other) or 'its own'}": w.U for other, w in others}
            down |= {f"W of {model.words(*o)}": w.W for o, w in others if o != directed}
            for name, matrix in down.items():
                if matrix.shape == own.W.shape:
                    where = f"{name} for W of {place}"
                    yield mutation(where, layer, direction, W=partial(_instead, matrix))
        for other, w in others if model.steps > 1 else ():
            if other != directed and w.U.shape == own.U.shape:
                where = f"U of {model.words(*other)} for U of {place}"
                yield mutation(where, layer, direction, U=partial(_instead, w.U))


def _instead(other: Array, own: Array, **_: Any) -> Array:
    return other


FAULT = Fault(
    __name__,
    sentence="δ goes through the matrix of another layer: {where}.",
    remedy="Go down through the layer's own W, and back in time through its own U.",
    section=Section.HEAD_AND_DATA,
    place=85,
    mutations=mutations,
    rank=225,
)
