"""The loss has −log(p + ε); the gradient is that of −log p.

## How it comes about

ε keeps the logarithm finite where a probability is 0. The backward pass is p − y, which belongs to
−log p. The two are nearly the same: they differ by a factor of p/(p + ε) in each step's part.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN, softmax

EPSILON = 1e-3


class Guarded(RNN):
    def loss(self, outputs):
        return float(-(self.y * np.log(softmax(outputs) + EPSILON)).sum())


class Wrong(Guarded):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y


class Right(Guarded):
    def output_delta(self, outputs):
        p = softmax(outputs)
        share = (self.y * p / (p + EPSILON)).sum(axis=-1, keepdims=True)
        return share * (p - self.y)
```

```cpp
loss -= std::log(p[t][label] + 1e-8);
dy[t][k] = p[t][k] - y[t][k];                                                // wrong, by a little
dy[t][k] = (p[t][k] - y[t][k]) * p[t][label] / (p[t][label] + 1e-8);         // right
```

## How it shows

Every tensor is off by a relative error of about ε/p, p being the smallest probability of a target:
with ε = 1e-8 that is seen only where a target is most improbable.

```python
assert Right().agrees() and not any(map(Wrong().agrees, Wrong().p))
assert 1e-4 < Wrong().discrepancy() < 0.05 and Wrong().cosine() > 0.999
```

## What looks like it

- [scaled] has one factor in all tensors; here it differs from step to step.
- Whatever is wrong by more than ε/p has another cause, such as [different_loss].

## What to change

Nothing, if training is all that matters. For a gradient that is exact, compute the logarithm of the
softmax as y − log Σ eʸ, which needs no ε.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Forward,
    Model,
    Mutation,
    mutation,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """p − y where the loss is −log(p + ε)."""
    if not model.loss.epsilon:
        return
    derived = replace(model.loss, exact=False)

    def plain(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        weights = model.loss.weights(model.steps, model.data.lengths)
        return derived.evaluate(run.y, model.data.targets, weights)[1]

    yield mutation(dy=plain)


FAULT = Fault(
    __name__,
    sentence="Your loss has an ε in its logarithm, −log(p + ε); your gradient, p − y, is that of "
    "−log p.",
    remedy="Leave it, or compute log p as y − log Σ eʸ, which needs no ε.",
    section=Section.HEAD_AND_DATA,
    place=25,
    mutations=mutations,
    rank=15,
)
