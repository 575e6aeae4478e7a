# states_off_by_one

The backward pass reads every state one place early in a list that begins with h_0.

## How it comes about

h_0 was put in front of the list, which mends [index −1](wrapped-initial-state.md), and the indices were
left as they were: h_{t−1} is read where h_{t−2} is, and at the first step index −1 is h_T again.

```python
from throughtime.diagnosis.pages.cells import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t - 1]  # h[0] is h_0
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
dU[j][k] += dz[j] * hs[t - 1][k], dV[m][k] += dy[t][m] * hs[t][k];  // wrong: hs[0] is h_0
dU[j][k] += dz[j] * hs[t][k], dV[m][k] += dy[t][m] * hs[t + 1][k];  // right
```

## How it shows

U is wrong, at T = 1 too, while W and b are exact: their products have no state in them. Where the head
reads the same list by the same index, V is wrong as well, and its bias exact.

```python
wrong = Wrong()
assert Right().agrees() and wrong.agrees("W", "b", "V", "d")
assert not wrong.agrees("U") and not Wrong(T=1).agrees("U")
```

## What looks like it

- [current_h_for_previous](current-h-for-previous.md) reads late and not early; at T = 1 it is the same
  number, and V is exact.
- [wrapped_initial_state](wrapped-initial-state.md) is wrong by the first step's term alone.

## What to change

In a list that begins with h_0, h_t is at index t + 1 and h_{t−1} at index t, if steps count from 0.
