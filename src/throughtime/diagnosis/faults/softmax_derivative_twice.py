"""The derivative of the softmax is applied twice.

## How it comes about

p − y is the derivative of the cross-entropy *with respect to the logits*: it already contains the
derivative of the softmax. Whoever takes it for the derivative with respect to p applies the
softmax's Jacobian, p ⊙ (δ − Σ p δ), once more.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        p = softmax(outputs)
        dy = p - self.y
        return p * (dy - (p * dy).sum(axis=-1, keepdims=True))


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
dy[t][k] = p[t][k] * ((p[t][k] - y[t][k]) - sum);  // wrong, sum = Σ p (p − y)
dy[t][k] = p[t][k] - y[t][k];                      // right
```

## How it shows

Every tensor is wrong, the output layer's too, at every T. The direction is nearly right, since p (1
− p) is positive, but the size is not: α is far below 1. Training goes on slowly and stops early.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert not any(map(wrong.agrees, wrong.p))
assert Wrong().cosine() > 0.8 and Wrong().slope() < 0.4
```

A loss of log-probabilities z may have the fault inside its own backward pass, as some CTC losses
do: it returns n − p Σ n along the classes, where n is the derivative by z and p = softmax(z). Where
such a loss is given raw outputs instead, exp(z) stands for p; it then lacks a log-softmax.

## What looks like it

- [different_loss] has a similar cosine where the other loss is the squared error of a softmax. With
  a layout both gradients are computed; without one the two may not be told apart.
- [divided_by_classes] has α = 1/O with a cosine of exactly 1.

## What to change

Leave p − y as it is, or start from −y / p and apply the Jacobian once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Forward,
    Model,
    Mutation,
    mutation,
    softmax,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """The softmax's Jacobian is applied once more: p ⊙ (δ − p·δ)."""
    if model.loss.kind != "softmax":
        return

    def edit(dy: Array, run: Forward, **_: Any) -> Array:
        p = softmax(run.y)
        result: Array = p * (dy - (p * dy).sum(axis=-1, keepdims=True))
        return result

    yield mutation(dy=edit)


FAULT = Fault(
    __name__,
    sentence="The derivative of the softmax is applied twice.",
    remedy="The gradient of the cross-entropy with respect to the logits is p − y; no further "
    "factor belongs there.",
    section=Section.HEAD_AND_DATA,
    place=10,
    mutations=mutations,
    rank=50,
)
