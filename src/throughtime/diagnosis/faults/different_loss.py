"""The gradient belongs to another loss than the one that is returned.

## How it comes about

The loss was changed and its derivative was not, or the loss that is returned is only the one that
is printed. A frequent pair is a cross-entropy that is printed and a squared error in the backward
pass.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):  # the loss is the cross-entropy
    def output_delta(self, outputs):
        p = softmax(outputs)
        dp = 2 * (p - self.y)
        return p * (dp - (p * dp).sum(axis=-1, keepdims=True))


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
loss -= std::log(p[t][label]);
dy[t][k] = 2 * (p[t][k] - y[t][k]) * p[t][k] * (1 - p[t][k]);  // wrong: of a squared error
dy[t][k] = p[t][k] - y[t][k];                                  // right
```

## How it shows

The output layer is wrong, and not only by a factor, at every T; so is everything that comes back
from there.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert not any(map(wrong.agrees, wrong.p))
assert 0.3 < Wrong().cosine("V") < 0.999
```

## What looks like it

- [softmax_derivative_twice] with a factor of 2 *is* the squared error of a softmax. Only the code
  says which was meant.
- [targets_shifted] is right at T = 1.
- [factor_two] and the other common factors keep the cosine at 1.

## What to change

Derive δ of the outputs from the loss that is returned. Training with another loss than the one that
is printed is not a fault; give the check the loss that is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import sigmoid
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Forward,
    Intervention,
    Model,
    Mutation,
    mutation,
    softmax,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """δ of the outputs belongs to another loss."""
    for words, slope in _others(model).items():
        yield mutation(words, dy=_of_loss(slope))


def _others(model: Model) -> dict[str, Any]:
    """δ of one step's outputs ŷ and targets y for the losses that this one is taken for."""
    loss = model.loss
    if loss.kind == "softmax":
        return SOFTMAX_OTHERS
    if loss.kind == "binary":
        return BINARY_OTHERS
    if loss.kind not in ("squared_error", "absolute_error"):
        return {}
    if loss.kind == "squared_error" and loss.activation == "identity":
        return SQUARED_OTHERS
    others = {
        "half a squared error": replace(loss, kind="squared_error", outputs="sum", half=True),
        "a squared error": replace(loss, kind="squared_error", outputs="sum", half=False),
        "an absolute error": replace(loss, kind="absolute_error", outputs="sum"),
    }
    found: dict[str, Any] = {
        f"δ of {words}": lambda y, k, other=other: other.errors(y, k)[1]
        for words, other in others.items()
        if other.kind != loss.kind
    }
    if loss.kind == "squared_error" and (not loss.half or loss.outputs == "mean"):
        # The loss's own factor stays where its activation is forgotten; others drop both.
        own = f"{'' if loss.half else '2 '}(a(ŷ) − y){' / O' if loss.outputs == 'mean' else ''}"
        whole = replace(loss, activation="identity")
        found[f"{own}, without the derivative of a"] = lambda y, k: whole.errors(
            loss.activated(y), k
        )[1]
    return found | {"a(ŷ) − y, without the derivative of a": lambda y, k: loss.activated(y) - k}


def _of_loss(slope: Any) -> Intervention:
    def edit(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        weights = model.loss.weights(model.steps, model.data.lengths)
        result: Array = slope(run.y, model.data.targets) * weights[..., None]
        return result

    return edit


def _log_softmax(y: Array) -> Array:
    logs: Array = np.log(softmax(y))
    return logs


def _sigmoid_slope(y: Array) -> Array:
    p = softmax(y)
    result: Array = p * (1 - p)
    return result


SOFTMAX_OTHERS: dict[str, Callable[[Array, Array], Array]] = {
    "2 (p − y) p (1 − p), a squared error of p": lambda y, k: (
        2 * (softmax(y) - k) * _sigmoid_slope(y)
    ),
    "(p − y) p (1 − p), half a squared error of p": lambda y, k: (
        (softmax(y) - k) * _sigmoid_slope(y)
    ),
    "log p − y": lambda y, k: _log_softmax(y) - k,
    "ŷ − y, a squared error of the logits": lambda y, k: y - k,
    "σ(ŷ) − y, a binary cross-entropy": lambda y, k: 1 / (1 + np.exp(-y)) - k,
    "−y/p, by p itself and not by the logits": lambda y, k: -k / softmax(y),
}
BINARY_OTHERS: dict[str, Callable[[Array, Array], Array]] = {
    "(σ(ŷ) − y) σ′(ŷ), half a squared error of σ(ŷ)": lambda y, k: (
        (sigmoid(y) - k) * sigmoid(y) * sigmoid(-y)
    ),
    "ŷ − y, a squared error of ŷ": lambda y, k: y - k,
    "softmax(ŷ) − y, a cross-entropy of classes": lambda y, k: softmax(y) - k,
    "−y/σ(ŷ) + (1 − y)/(1 − σ(ŷ)), by σ(ŷ) itself and not by ŷ": lambda y, k: (
        (1 - k) / sigmoid(-y) - k / sigmoid(y)
    ),
    "−y/σ(ŷ), with the term of 1 − y missing": lambda y, k: -k / sigmoid(y),
    "−y (1 − σ(ŷ)), with the term of 1 − y missing": lambda y, k: -k * sigmoid(-y),
}
SQUARED_OTHERS = {
    "softmax(ŷ) − y, a cross-entropy": lambda y, k: softmax(y) - k,
    "sign(ŷ − y), an absolute error": lambda y, k: np.sign(y - k),
    "σ(ŷ) − y, a binary cross-entropy": lambda y, k: 1 / (1 + np.exp(-y)) - k,
    "tanh′ times the error, a squared error of tanh(ŷ)": lambda y, k: (
        2 * (np.tanh(y) - k) * (1 - np.tanh(y) ** 2)
    ),
}


FAULT = Fault(
    __name__,
    sentence="Your gradient belongs to another loss: δ of the outputs is not the derivative of the "
    "loss that you return.",
    remedy="Derive δ of the outputs from the loss that is returned: p − y for softmax with "
    "cross-entropy.",
    section=Section.HEAD_AND_DATA,
    place=20,
    mutations=mutations,
    rank=10,
)
