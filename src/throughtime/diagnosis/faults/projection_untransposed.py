"""δh comes back through the projection as R δh; it should be Rᵀδh.

## How it comes about

The line of the forward pass is copied. Where R is square nothing complains. Where it is not, NumPy
does, but loops over flat memory read on as if R had the other shape.

```python
from throughtime.diagnosis.example_networks import Projected


class Wrong(Projected):
    def unprojected(self, dh):
        return dh @ self.p["R"].T  # rows are vectors: this is R δh


class Right(Projected):
    def unprojected(self, dh):
        return dh @ self.p["R"]
```

```cpp
dm[k] += R[k][j] * dh[j];  // wrong: forwards it is h[k] += R[k][j] * m[j]
dm[j] += R[k][j] * dh[k];  // right
```

## How it shows

The output layer is exact; everything below it is wrong, at T = 1 too. Only R itself is right at T =
1, since δR is formed from δh before it passes through R. Where R is symmetric all is right.

```python
assert Right().agrees()
wrong, step = Wrong(), Wrong(T=1)
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b", "R"]))
assert step.agrees("V", "d", "R") and not any(map(step.agrees, ["W", "U", "b"]))
symmetric = Wrong()
symmetric.p["R"][...] = symmetric.p["R"] + symmetric.p["R"].T
assert symmetric.agrees()
```

## What looks like it

- [projection_skipped] shows in the same tensors; a symmetric R does not hide it.
- [recurrent_untransposed] is the same slip with U, where T = 1 agrees.

## What to change

In the forward pass R[k][j] takes m_j to h_k; in the backward pass it takes δh_k to δm_j.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Intervention,
    Model,
    Mutation,
    in_each_layer,
    projection_shape,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """δm = R δh; where R is not square, its memory is read as if it had the other shape."""
    if not model.projected:
        return
    size, units = projection_shape(model)
    if size == units:
        yield from in_each_layer(model, dm=lambda dm, dh, R: dh @ R.T)
        return
    by_rows: Intervention = lambda dm, dh, R: dh @ R.reshape(units, size).T  # noqa: E731
    by_columns: Intervention = lambda dm, dh, R: dh @ R.T.reshape(size, units)  # noqa: E731
    yield from in_each_layer(model, "its memory read as (H, P)", dm=by_rows)
    yield from in_each_layer(model, "its memory, by columns, read as (P, H)", dm=by_columns)


FAULT = Fault(
    __name__,
    sentence="δh comes back through the projection as R δh; it should be Rᵀδh.",
    remedy="Transpose R where δ goes back from h to m = o ⊙ tanh c: δm = Rᵀδh.",
    section=Section.PROJECTION_AND_DIRECTIONS,
    place=10,
    mutations=mutations,
    rank=90,
)
