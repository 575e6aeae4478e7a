# recurrent_untransposed

δh of the step before is U δz; it should be Uᵀδz.

## How it comes about

U is square, so both products run. For rows as vectors Uᵀδz is `dz @ U`, which looks untransposed, and
"correcting" it makes it wrong.

```python
from throughtime.diagnosis.pages.cells import RNN


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

The output layer is exact and T = 1 agrees; W, U and b are wrong from T = 2 on. Where U is symmetric all
is right, so that an orthogonal or identity start hides it for a while.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
symmetric = Wrong()
symmetric.p["U"][...] = symmetric.p["U"] + symmetric.p["U"].T
assert symmetric.agrees()
```

## What looks like it

- [gradient_transposed](gradient-transposed.md) is the transpose of the *gradient*: wrong at T = 1, in
  one tensor.
- [wrong_matrix](wrong-matrix.md) and [dh_next_missing](dh-next-missing.md) show in the same tensors;
  a layout tells, or the experiment above, with U made symmetric.

## What to change

Forwards U[j][k] takes h_k to z_j; backwards it takes δz_j to δh_k. Same entry, other direction.
