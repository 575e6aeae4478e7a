# truncated

The backward pass stops after some steps; the loss looks back over all of them.

## How it comes about

Truncated BPTT, on purpose: the sequence is cut into windows, and δ is not carried from one into the one
before. The gradient is then not that of the whole loss, and a check over all T says so.

```python
from throughtime.diagnosis.pages.cells import RNN

WINDOW = 3


class Wrong(RNN):
    def hand_back(self, t, dz):
        return 0 * dz if t % WINDOW == 0 else dz @ self.p["U"]


class Right(RNN):
    def hand_back(self, t, dz):
        return dz @ self.p["U"]
```

```cpp
for (int t = T - 1; t >= std::max(0, T - 3); --t) back(t);  // wrong, against a loss over all T
for (int t = T - 1; t >= 0; --t) back(t);                   // right
```

## How it shows

Up to T = k all is right, and beyond it the cell is wrong; the output layer is exact at any length. The
discrepancy is small where little memory reaches beyond k steps.

```python
assert Right().agrees() and Wrong(T=1).agrees() and Wrong(T=3).agrees()
wrong = Wrong(T=4)
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- Every other fault between steps fails at T = 2 already. With k = 1 this is
  [dh_next_missing](dh-next-missing.md), in an LSTM with [dc_next_missing](dc-next-missing.md).
- A clip inside the recursion shows at long T only too, but at no fixed one.

## What to change

Nothing, if it is meant: then check it as what it is, the exact gradient of a loss in which the states
carried into each window are frozen. `tt.frozen` does that. Otherwise carry δ on to the first step.
