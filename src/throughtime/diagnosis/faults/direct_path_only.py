# direct_path_only

δh goes back along the direct path alone, h_t = … + z ⊙ h_{t−1}, and not through the gates.

## How it comes about

The direct path of a GRU (or of a leaky unit) is the easy half: a multiplication. What passes through
the gates needs Uᵀ of three blocks, one of them behind r.

```python
from throughtime.diagnosis.pages.cells import GRU


class Wrong(GRU):
    def previous(self, through_gates, direct):
        return direct


class Right(GRU):
    def previous(self, through_gates, direct):
        return through_gates + direct
```

```cpp
dh_next[j] = dh[j] * z[t][j];                     // wrong
dh_next[j] = dh[j] * z[t][j] + through_gates[j];  // right: Uᵀ of δr, δz and r ⊙ δn
```

## How it shows

The output layer is exact, T = 1 agrees, all of the cell is wrong from T = 2 on. Where z is close to 1,
or U is small, it is a small error, and training looks healthy.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
assert Wrong(scale=0.05).discrepancy("U") < 0.2 * wrong.discrepancy("U")
```

## What looks like it

- [direct_path_missing](direct-path-missing.md) is the other half.
- [dh_next_missing](dh-next-missing.md) loses both. A layout tells the three apart.

## What to change

Add the two: h_{t−1} is used by the direct path *and* by every gate.
