"""The activation, or the activation applied once more, is used in place of its derivative.

## How it comes about

`sigmoid` is called where `sigmoid_prime` was meant, or the product σ(z) (1 − σ(z)) was taken apart
and lost one of its factors.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def delta(self, step, dh):
        return dh * np.tanh(step["h"])


class Right(RNN):
    def delta(self, step, dh):
        return dh * (1 - step["h"] ** 2)
```

```cpp
dz[j] = dh[j] * std::tanh(h[t][j]);       // wrong
dz[j] = dh[j] * (1 - h[t][j] * h[t][j]);  // right
```

## How it shows

The output layer is exact; the cell is wrong at T = 1 already, in the gates whose derivative is
wrong. For tanh even signs are wrong: tanh z is negative where z is.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
assert Wrong(T=1).cosine("b") < 0.95
```

## What looks like it

- [derivative_of_activated_value] has the right function, at the wrong place.
- [derivative_missing] has no factor at all.

## What to change

Write the derivative in terms of the activated value: a (1 − a) for σ, 1 − a² for tanh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    ACTIVATIONS,
    LSTM,
    WITH_PHI,
    Intervention,
    Model,
    Mutation,
    in_each_layer,
    sets_of_gates,
    slopes_replaced,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """φ′ is written with φ in a wrong way."""
    kinds = model.cell.activations
    for words, chosen in sets_of_gates(model):
        if not all(kinds[k] in ("tanh", "sigmoid") for k in chosen):
            continue
        for form, value in WITH_PHI.items():
            edit = slopes_replaced(chosen, kinds, partial(_slope, value))
            where = f"{form} of {words}" if words else form
            yield from in_each_layer(model, where, slopes=edit)
    if isinstance(model.cell, LSTM) and model.cell.squash == "tanh":
        of_cell: Intervention = lambda slope, m, **_: m  # noqa: E731
        yield from in_each_layer(model, "φ(z) of tanh(c)", cell_slope=of_cell)


def _slope(value: Callable[[Array, Array], Array], v: Array, kind: str) -> Array:
    return value(v, ACTIVATIONS[kind](v))


FAULT = Fault(
    __name__,
    sentence="The activation is used in place of its derivative: {where} for φ′(z).",
    remedy="Write the derivative in terms of the activated value: a (1 − a) for σ, 1 − a² for "
    "tanh.",
    section=Section.STEP,
    place=25,
    mutations=mutations,
    rank=245,
)
