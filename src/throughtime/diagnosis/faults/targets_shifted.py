"""The backward pass compares each output with the target of another step.

## How it comes about

A language model's target is the next input. The shift is made once when the data are cut and once
more in one of the passes, or the loop of the backward pass counts from the other end.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - np.roll(self.y, -1, axis=0)


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
dy[t][k] = p[t][k] - y[(t + 1) % T][k];  // wrong
dy[t][k] = p[t][k] - y[t][k];            // right
```

## How it shows

Every tensor is wrong from T = 2 on, and T = 1 agrees. Where the targets are only rolled, the head's
bias is the exception: its gradient is Σ (p − y), which does not depend on the order of the targets,
so that it is exact and V is not.

```python
wrong = Wrong()
assert Right().agrees() and Wrong(T=1).agrees()
assert wrong.agrees("d") and not any(map(wrong.agrees, ["V", "W", "U", "b"]))
```

## What looks like it

- [different_loss] fails at T = 1.
- [time_reversed] pairs *inputs* with the wrong steps, and there the head is exact.
- Where every step has the same target, the fault does not show.

## What to change

Take the same target at step t in both passes. Make the shift where the data are cut and nowhere
else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Forward,
    Intervention,
    Model,
    Mutation,
    mutation,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """The target of a neighbouring step, with or without a wrap at the end.

    The targets of a "weighted" loss are the numbers that the outputs are multiplied with.
    """
    if model.loss.last or model.steps < 2 or model.loss.kind == "given":
        return
    t = np.arange(model.steps)
    for words, source in {
        "the next step's, the first one's at the end": (t + 1) % model.steps,
        "the next step's": np.minimum(t + 1, model.steps - 1),
        "the step before's": np.maximum(t - 1, 0),
        "the step before's, the last one's at the start": t - 1,
    }.items():
        yield mutation(words, dy=_shifted(source))


def _shifted(source: Array) -> Intervention:
    def edit(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        weights = model.loss.weights(model.steps, model.data.lengths)
        return model.loss.evaluate(run.y, model.data.targets[source], weights)[1]

    return edit


FAULT = Fault(
    __name__,
    sentence="Your backward pass compares each output with the target of another step.",
    remedy="Use the same target at step t in both passes.",
    section=Section.HEAD_AND_DATA,
    place=30,
    mutations=mutations,
    rank=20,
)
