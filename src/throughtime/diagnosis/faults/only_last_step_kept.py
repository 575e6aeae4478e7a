# only_last_step_kept

One step's contribution is all that is left of a gradient: `=` where `+=` was meant.

## How it comes about

The same weights serve every step, so their gradient is a sum over the steps. Assigned, it is that of
the step that came last in the loop, which is the first in time.

```python
from throughtime.diagnosis.pages.cells import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] = dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
dU[j][k] = dz[j] * h[t - 1][k];   // wrong
dU[j][k] += dz[j] * h[t - 1][k];  // right
```

NumPy's `+=` with an array of indices adds but one of several entries that have the same index. An
embedding's gradient then keeps, of every class, the contribution that came last:

```python
import numpy as np

dE, classes, dx = np.zeros((2, 1)), np.array([0, 1, 0]), np.ones((3, 1))
dE[classes] += dx  # wrong: class 0 came twice
assert (dE == 1).all()
np.add.at(dE, classes, dx)  # right: adds 2 and 1
assert (dE.ravel() == [3, 2]).all()
```

## How it shows

T = 1 agrees, T = 2 does not, in the tensors of that line alone; others are exact. With one sequence the
gradient is a single outer product: its rank is 1.

```python
wrong = Wrong(B=1)
assert Right().agrees() and Wrong(T=1).agrees()
assert wrong.agrees("W", "b", "V", "d") and not wrong.agrees("U")
g, n = wrong.both
assert np.linalg.matrix_rank(g["U"], tol=1e-9) == 1 < np.linalg.matrix_rank(n["U"], tol=1e-6)
```

## What looks like it

- [dh_next_missing](dh-next-missing.md) and its neighbours leave no recurrent tensor exact. Where `=`
  stands in *all* lines of the cell, T = 1 against T = 2 looks alike, and the rank tells.
- [output_gradient_at_last_step_only](output-gradient-at-last-step-only.md) is a head that learns from
  one step.
- [zero_gradient](zero-gradient.md): with a zero initial state, the U that is left is exactly that.

## What to change

Set the gradients to 0 before the loop and add in it.
