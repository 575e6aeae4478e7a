# projection_untransposed

δh comes back through the projection as R δh; it should be Rᵀδh.

## How it comes about

The line of the forward pass is copied. Where R is square nothing complains; where it is not, NumPy does,
but loops over flat memory read on, as if R had the other shape.

```python
from throughtime.diagnosis.pages.cells import Projected


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

The output layer is exact; everything below it is wrong, at T = 1 too, but for R itself at T = 1: δR is made
of δh before it passes through R. Where R is symmetric all is right.

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

- [projection_skipped](projection-skipped.md) shows in the same tensors; a symmetric R does not hide it.
- [recurrent_untransposed](recurrent-untransposed.md) is the same slip with U: T = 1 agrees.

## What to change

Forwards R[k][j] takes m_j to h_k; backwards it takes δh_k to δm_j.
