"""δh of the previous step is U δz; it should be Uᵀδz.

## How it comes about

U is square, so both products run. Where rows are vectors, Uᵀδz is `dz @ U`, which looks
untransposed, and "correcting" it makes it wrong.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def hand_back(self, t, dz):
        return dz @ self.p["U"].T


class Right(RNN):
    def hand_back(self, t, dz):
        return dz @ self.p["U"]
```

```cpp
for (int k = 0; k < H; ++k) dh_next[j] += U[j][k] * dz[k];  // wrong
for (int k = 0; k < H; ++k) dh_next[k] += U[j][k] * dz[j];  // right: back along the way it came
```

## How it shows

The output layer is exact and T = 1 agrees; W, U and b are wrong from T = 2 on. Where U is symmetric
all is right, so that initialising U as the identity hides the fault for a while.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
symmetric = Wrong()
symmetric.p["U"][...] = symmetric.p["U"] + symmetric.p["U"].T
assert symmetric.agrees()
```

## What looks like it

- [gradient_transposed] is the transpose of the *gradient*: wrong at T = 1, in one tensor.
- [wrong_matrix] and [dh_next_missing] show in the same tensors. A layout tells them apart, or the
  experiment above, in which U is made symmetric.

## What to change

In the forward pass U[j][k] takes h_k to z_j; in the backward pass the same entry takes δz_j to
δh_k.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Block,
    Intervention,
    Model,
    Mutation,
    gates_of_plain_products,
    in_each_layer,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """U δz instead of Uᵀδz: in all gates, in the sigmoid gates, or in one of them."""
    if model.steps < 2 or model.of_equations:
        return
    gates = model.cell.gates
    rows, columns = model.blocks[Block(0, "U", 0)].shape
    if rows != columns:
        return
    for words, chosen in gates_of_plain_products(model):
        yield from in_each_layer(model, words, U=_transposed(chosen))
    if len(gates) > 2:
        for k, gate in enumerate(gates):
            yield from in_each_layer(model, f"gate {gate}", U=_transposed((k,)))


def _transposed(chosen: tuple[int, ...]) -> Intervention:
    def edit(U: Array, W: Array) -> Array:
        wrong = U.copy()
        for k in chosen:
            wrong[k] = U[k].T
        return wrong

    return edit


FAULT = Fault(
    __name__,
    sentence="δh of the previous step is U δz; it should be Uᵀδz.",
    remedy="Transpose the recurrent matrix where δ goes back a step.",
    section=Section.NEXT_STEP,
    place=50,
    mutations=mutations,
    rank=170,
)
