"""δh goes back through the wrong block of the weights.

## How it comes about

Four gates have four recurrent matrices of one shape, and W, or another layer's matrices, may have
the same shape. With one letter wrong all products still run.

```python
import numpy as np

from throughtime.diagnosis.example_networks import LSTM


class Wrong(LSTM):
    def hand_back(self, t, dz):
        i, f, a, o = np.split(dz, 4, axis=1)
        Ui, Uf, Ua, Uo = np.split(self.p["U"], 4)
        return i @ Ui + f @ Ui + a @ Ua + o @ Uo


class Right(LSTM):
    def hand_back(self, t, dz):
        i, f, a, o = np.split(dz, 4, axis=1)
        Ui, Uf, Ua, Uo = np.split(self.p["U"], 4)
        return i @ Ui + f @ Uf + a @ Ua + o @ Uo
```

```cpp
dh_next[k] += U_i[j][k] * di[j] + U_i[j][k] * df[j];  // wrong
dh_next[k] += U_i[j][k] * di[j] + U_f[j][k] * df[j];  // right
```

## How it shows

The output layer is exact and T = 1 agrees. The whole cell is wrong from T = 2 on, by a moderate
amount and in no particular direction.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
alike = Wrong()
alike.p["U"][3:6] = alike.p["U"][:3]  # both gates have the same matrix, H = 3
assert alike.agrees()
```

## What looks like it

- [recurrent_untransposed] is right where U is symmetric; this one is right where the two matrices
  are equal, as above. With a layout both are compared directly.
- [gates_permuted] is wrong at T = 1.

## What to change

Multiply each gate's δz by the transpose of that gate's own recurrent matrix. With stacked rows a
single product `dz @ U` does it, which has no letters to mix up.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Intervention,
    Model,
    Mutation,
    gates_of_plain_products,
    in_each_layer,
    mutation,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """Another block of the weights stands where Uᵀ belongs."""
    if model.steps < 2:
        return
    gates = model.cell.gates
    n = len(gates)
    for k in range(n if n > 1 else 0):
        yield from in_each_layer(model, f"U of {gates[k]} for every gate", U=_taken([k] * n))
    for a, b in combinations(range(n), 2):
        order = list(range(n))
        order[a], order[b] = b, a
        words = f"U of {gates[a]} and of {gates[b]} swapped"
        yield from in_each_layer(model, words, U=_taken(order))
    for by in range(1, n) if n > 2 else ():
        order = [(k - by) % n for k in range(n)]
        yield from in_each_layer(model, f"U of the gates moved on by {by}", U=_taken(order))
    for cycle in _cycles(n):
        yield mutation("U of the gates in another order", U=_taken(list(cycle)))
    for a, b in permutations(range(n), 2):
        order = list(range(n))
        order[a] = b
        words = f"U of {gates[b]} for that of {gates[a]}"
        yield from in_each_layer(model, words, U=_taken(order))
    for words, chosen in gates_of_plain_products(model):
        for place, columns in COLUMNS.items():
            where = f"{place}, {words}" if words else place
            yield from in_each_layer(model, where, U=_other(columns, chosen))


def _taken(order: list[int]) -> Intervention:
    return lambda U, W: U[order]


def _cycles(n: int) -> Iterator[tuple[int, ...]]:
    """Orders that are neither a swap of two gates nor the gates moved on."""
    for order in permutations(range(n)):
        moved = {(place - k) % n for k, place in enumerate(order)}
        if sum(place != k for k, place in enumerate(order)) > 2 and len(moved) > 1:
            yield order


def _other(columns: Any, chosen: tuple[int, ...]) -> Intervention:
    def edit(U: Array, W: Array) -> Array:
        wrong = U.copy()
        for k in chosen:
            wrong[k] = columns(W[k], U[k])
        return wrong

    return edit


COLUMNS = {  # (H, I), (H, P) -> the (H, P) that stands in U's place
    "the last columns of [U, W]": lambda W, U: np.hstack([U, W])[:, -U.shape[1] :],
    "the first columns of [W, U]": lambda W, U: np.hstack([W, U])[:, : U.shape[1]],
    "the columns of W over and over": lambda W, U: W[:, np.arange(U.shape[1]) % W.shape[1]],
}


FAULT = Fault(
    __name__,
    sentence="δh goes back through the wrong block of the weights.",
    remedy="Multiply each gate's δz by the transpose of that gate's own recurrent matrix.",
    section=Section.NEXT_STEP,
    place=100,
    mutations=mutations,
    rank=220,
)
