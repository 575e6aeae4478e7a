"""Only the diagonal of the softmax's derivative is used, p (1 − p), as if it were a sigmoid.

## How it comes about

The derivative of a softmax is a matrix, diag(p) − p pᵀ, since every logit moves every probability.
Whoever multiplies −y/p, the derivative by the probabilities, by p (1 − p) entry by entry gets
−y (1 − p): the right class has its gradient, and the others have none.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        p = softmax(outputs)
        return -self.y / p * p * (1 - p)


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
dy[t][k] = -y[t][k] / p[t][k] * p[t][k] * (1 - p[t][k]);  // wrong
dy[t][k] = p[t][k] - y[t][k];                             // right
```

## How it shows

Every tensor is wrong, the output layer's too, at every T. With one step and one sequence the
gradient of the output's bias is right in the class of the target, and 0 in all others.

```python
import numpy as np

assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert not any(map(wrong.agrees, wrong.p))
once = Wrong(T=1, B=1)
g, n = once.both
assert np.allclose(g["d"], np.where(once.y[0, 0], n["d"], 0))
```

## What looks like it

- [softmax_derivative_twice] applies the whole matrix, once too often.
- [different_loss] has other entries than 0 there; one of its cases is a squared error of p whose
  derivative by the logits is cut down to its diagonal, (p − y) p (1 − p).

## What to change

Write p − y, which is the derivative of the cross-entropy by the logits, or multiply by the whole
matrix: p ⊙ (δ − Σ p δ).
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
    """−y (1 − p) for p − y."""
    if model.loss.kind != "softmax":
        return

    def diagonal(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        weights = model.loss.weights(model.steps, model.data.lengths)[..., None]
        result: Array = -model.data.targets * (1 - softmax(run.y)) * weights
        return result

    yield mutation(dy=diagonal)


FAULT = Fault(
    __name__,
    sentence="Only the diagonal of the softmax's derivative, p (1 − p), is used, which leaves −y "
    "(1 − p).",
    remedy="Write p − y, the derivative of the cross-entropy with respect to the logits.",
    section=Section.HEAD_AND_DATA,
    place=15,
    mutations=mutations,
    rank=55,
)
