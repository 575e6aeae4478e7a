# gates_swapped_in_dc

δ of the input gate and δ of the candidate are swapped: each is multiplied by its own value and not by
the other's.

## How it comes about

c = i ⊙ a + … is a product: the derivative by one factor is the *other* one. δi = δc ⊙ i is what one
writes who goes by the letters.

```python
import numpy as np

from throughtime.diagnosis.pages.cells import LSTM


class Wrong(LSTM):
    def gate_deltas(self, s, dh, dc):
        return dc * s["i"], dc * s["c_before"], dc * s["a"], dh * np.tanh(s["c"])


class Right(LSTM):
    def gate_deltas(self, s, dh, dc):
        return dc * s["a"], dc * s["c_before"], dc * s["i"], dh * np.tanh(s["c"])
```

```cpp
di[j] = dc[j] * i[t][j], da[j] = dc[j] * a[t][j];  // wrong
di[j] = dc[j] * a[t][j], da[j] = dc[j] * i[t][j];  // right
```

## How it shows

At T = 1 exactly two gates' rows are wrong, those of i and of a. From T = 2 on U carries it into
everything.

```python
g, n = Wrong(T=1).both
off = ~np.isclose(g["b"], n["b"], rtol=1e-6).reshape(4, -1)
assert Right().agrees() and off[[0, 2]].all() and not off[[1, 3]].any()  # i, f, a, o
assert Wrong().agrees("V", "d") and not Wrong().agrees("W")
```

## What looks like it

- [gates_permuted](gates-permuted.md) is wrong in two gates as well, and exact once the blocks change
  places. Here they do not: a (1 − a²) and i · i (1 − i) belong to nobody.
- [current_c_for_previous](current-c-for-previous.md) is wrong in the forget gate.

## What to change

Write δi = δc ⊙ a and δa = δc ⊙ i.
