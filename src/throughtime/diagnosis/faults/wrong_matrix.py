# wrong_matrix

δh goes back through the wrong block of the weights.

## How it comes about

Four gates have four recurrent matrices of one shape, W may have it too, and another layer's as well.
One letter wrong, and all products still run.

```python
import numpy as np

from throughtime.diagnosis.pages.cells import LSTM


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

The output layer is exact and T = 1 agrees; all of the cell is wrong from T = 2 on, by a moderate amount
in an unremarkable direction.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
alike = Wrong()
alike.p["U"][3:6] = alike.p["U"][:3]  # both gates have the same matrix, H = 3
assert alike.agrees()
```

## What looks like it

- [recurrent_untransposed](recurrent-untransposed.md) is right where U is symmetric; this one is right
  where the two matrices are equal, as above. With a layout both are compared directly.
- [gates_permuted](gates-permuted.md) is wrong at T = 1.

## What to change

Multiply each gate's δz by the transpose of that gate's own recurrent matrix: with stacked rows, one
product `dz @ U` that has no letters to mix up.
