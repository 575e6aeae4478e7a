# dh_next_missing

δh from the next step does not reach the step before: h_t is treated as if only its own output saw it.

## How it comes about

h_t is used twice: by the head, and by step t + 1. The second use is computed, and never added. In an
LSTM the error carousel still carries δc back, so that the network learns something all the same.

```python
from throughtime.diagnosis.pages.cells import RNN


class Wrong(RNN):
    def arriving(self, dh_output, dh_next):
        return dh_output


class Right(RNN):
    def arriving(self, dh_output, dh_next):
        return dh_output + dh_next
```

```cpp
for (int j = 0; j < H; ++j) dh[j] = dh_output[t][j];               // wrong
for (int j = 0; j < H; ++j) dh[j] = dh_output[t][j] + dh_next[j];  // right
```

## How it shows

The output layer is exact, the recurrent tensors are not. At T = 1 all is right; from T = 2 on it is not.

```python
assert Right().agrees() and Wrong(T=1).agrees()
for T in (2, 5):
    wrong = Wrong(T=T)
    assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- [dc_next_missing](dc-next-missing.md), [recurrent_untransposed](recurrent-untransposed.md),
  [term_counted_twice](term-counted-twice.md) and [truncated](truncated.md) show in the same tensors at
  the same lengths. Only a gradient computed with each of them tells, and that takes a layout.
- In an RNN, being truncated after one step *is* this.
- [dh_overwritten](dh-overwritten.md) loses the other of the two terms.

## What to change

Add Uᵀδz of step t + 1 to δh of step t. It is the sum over all gates.
