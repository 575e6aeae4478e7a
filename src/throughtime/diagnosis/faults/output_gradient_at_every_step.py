"""The backward pass feeds the output's error in at every step; the loss depends on the last step
only.

## How it comes about

A network that answers at every step was turned into one that answers at the end. The loop of the
backward pass still adds `dy @ V` at each step.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Last(RNN):
    def loss(self, outputs):
        return ((outputs[-1] - self.y[-1]) ** 2).sum()


class Wrong(Last):
    def output_delta(self, outputs):
        dy = 2 * (outputs[-1] - self.y[-1])
        return np.broadcast_to(dy, outputs.shape)


class Right(Last):
    def output_delta(self, outputs):
        dy = np.zeros_like(outputs)
        dy[-1] = 2 * (outputs[-1] - self.y[-1])
        return dy
```

```cpp
for (int j = 0; j < H; ++j) dh[j] = dh_output[T - 1][j] + dh_next[j];                     // wrong
for (int j = 0; j < H; ++j) dh[j] = (t == T - 1 ? dh_output[t][j] : 0.0) + dh_next[j];    // right
```

## How it shows

T = 1 agrees. From T = 2 on the head's bias is T times too large, where the loop serves the head
too, and the other tensors are wrong by no common factor.

```python
assert Right().agrees() and Wrong(T=1).agrees()
for T in (2, 5):
    wrong = Wrong(T=T)
    assert abs(wrong.slope("d") - T) < 1e-6 and wrong.cosine("d") > 1 - 1e-9
    assert not any(map(wrong.agrees, ["W", "U", "b", "V"]))
```

Where the output layer has a line of its own, after the loop, it is exact, and from T = 2 on the
cell is wrong.

```python
class Below(Last):
    def output_delta(self, outputs):
        return Right.output_delta(self, outputs)

    def see_backward(self, dseen):
        return np.broadcast_to(dseen[-1], dseen.shape)


assert Below(T=1).agrees() and Below().agrees("V", "d") and not Below().agrees("b")
```

## What looks like it

- [summed_over_steps] has α = T in every tensor, with cosine 1.
- [output_gradient_at_last_step_only] is the converse.

## What to change

Let δ of the outputs be 0 at every step that the loss does not look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Forward, Model, Mutation, mutation


def mutations(model: Model) -> Iterator[Mutation]:
    """The last step's error, or each step's own, is sent in at every step."""
    if not model.loss.last or model.steps < 2:
        return

    def repeated(dy: Array, **_: Any) -> Array:
        return np.broadcast_to(dy.sum(axis=0), dy.shape)

    def own(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        whole = model.loss.whole(model.steps, model.data.lengths)[..., None]
        slope: Array = model.loss.errors(run.y, model.data.targets)[1] * whole
        return slope / (2 * run.loss) if model.loss.root else slope

    def below(dh: Array) -> Array:
        return np.broadcast_to(dh.sum(axis=0), dh.shape)

    yield mutation("the last step's error", dy=repeated)
    yield mutation("each step's own error", dy=own)
    yield mutation("the last step's error, below the output layer alone", dh_out=below)


FAULT = Fault(
    __name__,
    sentence="Your backward pass feeds the output's error in at all T = {T} steps; your loss "
    "depends on the last step only.",
    remedy="Let δh from the output enter at the last step only.",
    section=Section.HEAD_AND_DATA,
    place=40,
    mutations=mutations,
    rank=40,
)
