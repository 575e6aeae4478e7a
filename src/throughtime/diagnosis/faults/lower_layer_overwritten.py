"""The lower layer does not receive δ of every step.

## How it comes about

Layers are run one after the other, and δx of the upper one is kept in one variable for all steps.
The lower one then gets what the last iteration left, at one step. With two directions, δx of one
may take the place of the other's; since both saw x_t, they have to be added up.

```python
import numpy as np

from throughtime.diagnosis.example_networks import TwoLayers


class Wrong(TwoLayers):
    def hand_down(self, dx):
        only = np.zeros_like(dx)
        only[0] = dx[0]  # the loop ended there
        return only


class Right(TwoLayers):
    def hand_down(self, dx):
        return dx
```

```cpp
for (int j = 0; j < H; ++j) dh_lower[0][j] = dx[j];  // wrong: one vector for all steps
for (int j = 0; j < H; ++j) dh_lower[t][j] = dx[j];  // right
```

## How it shows

The head and the upper layer are exact, the lower layer is wrong, and T = 1 agrees. A network of one
layer is right.

```python
wrong = Wrong()
assert Right().agrees() and Wrong(T=1).agrees()
assert wrong.agrees("W", "U", "b", "V", "d")
assert not any(map(wrong.agrees, ["low.W", "low.U", "low.b"]))
```

## What looks like it

- [dh_next_missing] in the lower layer alone shows in the same tensors. With a layout both are
  computed.
- [direction_not_reversed] leaves one of two directions exact. Each direction of the last layer is
  seen through its own half of the output layer's matrix, and a layer below through all of it.
- Where nothing at all is handed down, the lower layer has a [zero_gradient].

## What to change

Hand down δx of every step, each in its own place of an array (T, B, H).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    DIRECTIONS,
    Intervention,
    Model,
    Mutation,
    mutation,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """Only the first or the last step's δx reaches the layer below; or one direction's."""
    if model.directions > 1 and (model.layers > 1 or model.has_embedding):
        for kept, words in enumerate(DIRECTIONS):
            edit: Intervention = lambda halves, kept=kept: [halves[kept]]  # noqa: E731
            yield mutation(f"the {words}'s alone", dx_halves=edit)
    if model.layers < 2 or model.steps < 2:
        return

    def first(dx: Array) -> Array:
        return np.concatenate([dx[:1], 0 * dx[1:]])

    def last(dx: Array) -> Array:
        return np.concatenate([0 * dx[:-1], dx[-1:]])

    def repeated(dx: Array) -> Array:
        return np.broadcast_to(dx[0], dx.shape)

    yield mutation("the first step's alone", dx=first)
    yield mutation("the last step's alone", dx=last)
    yield mutation("the first step's at every step", dx=repeated)


FAULT = Fault(
    __name__,
    sentence="The lower layer does not receive all of δ.",
    remedy="Pass down δx of every step, each in its own place, and add the δx of both directions.",
    section=Section.HEAD_AND_DATA,
    place=80,
    mutations=mutations,
    rank=210,
)
