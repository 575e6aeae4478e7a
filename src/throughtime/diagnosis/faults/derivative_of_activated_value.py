"""The derivative of an activation is evaluated at a value that is already activated.

## How it comes about

A function `tanh_prime(z)` computes 1 − tanh²z and expects z. The forward pass has kept h = tanh z,
and the function is called with that, so that tanh is applied twice.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


def tanh_prime(z):
    return 1 - np.tanh(z) ** 2


class Wrong(RNN):
    def delta(self, step, dh):
        return dh * tanh_prime(step["h"])  # h is tanh z already


class Right(RNN):
    def delta(self, step, dh):
        return dh * (1 - step["h"] ** 2)
```

```cpp
dz[j] = dh[j] * (1 - std::tanh(h[t][j]) * std::tanh(h[t][j]));  // wrong
dz[j] = dh[j] * (1 - h[t][j] * h[t][j]);                        // right
```

## How it shows

The output layer is exact; the cell is wrong at T = 1 already. With tiny weights the error nearly
vanishes for tanh, since tanh z ≈ z there. For σ it does not: σ′(½) is 0.235 where σ′(0) is 0.25.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
assert Wrong(scale=0.01, start=0).discrepancy("W") < 1e-3 < 0.05 < Wrong().discrepancy("W")
```

## What looks like it

- [derivative_missing] has no factor at all. Both make |δ| too large, and a layout tells them apart:
  the factor 1 − tanh²h never falls below 0.42.
- [gates_swapped_in_dc] shows in two gates at T = 1, and this fault in those gates whose derivative
  is wrong.

## What to change

Write the derivative in terms of the activated value, a (1 − a) for σ and 1 − a² for tanh, and name
the function after its argument.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    ACTIVATIONS,
    LSTM,
    SLOPES,
    Intervention,
    Model,
    Mutation,
    in_each_layer,
    mutation,
    sets_of_gates,
    slopes_replaced,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """φ′(a) for φ′(z), where a = φ(z): σ(a)(1 − σ(a)) or 1 − tanh² a."""
    kinds = model.cell.activations

    def again(v: Array, kind: str) -> Array:
        slope: Array = SLOPES[kind](ACTIVATIONS[kind](v))
        return slope

    for words, chosen in sets_of_gates(model):
        if all(kinds[k] in ("tanh", "sigmoid") for k in chosen):
            yield from in_each_layer(model, words, slopes=slopes_replaced(chosen, kinds, again))
    if isinstance(model.cell, LSTM) and model.cell.squash == "tanh":
        edit: Intervention = lambda slope, m, **_: 1 - np.tanh(m) ** 2  # noqa: E731
        yield from in_each_layer(model, "tanh(c)", cell_slope=edit)
    if model.has_deep_head and model.squash in ("tanh", "sigmoid"):
        yield mutation("the output layers", head_slope=lambda _, m: again(m, model.squash))


FAULT = Fault(
    __name__,
    sentence="The derivative of an activation, in {where}, is evaluated at a value that is already "
    "activated.",
    remedy="Write it in terms of the activated value: a (1 − a) for σ, 1 − a² for tanh.",
    section=Section.STEP,
    place=10,
    mutations=mutations,
    rank=240,
)
