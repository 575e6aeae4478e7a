# direct_path_missing

δh goes back through the gates alone, and not along the direct path.

## How it comes about

A backward pass that was adapted from an RNN's or an LSTM's: Uᵀδz was all there was. A GRU has h_{t−1} in
its update itself.

```python
from throughtime.diagnosis.pages.cells import GRU


class Wrong(GRU):
    def previous(self, through_gates, direct):
        return through_gates


class Right(GRU):
    def previous(self, through_gates, direct):
        return through_gates + direct
```

```cpp
dh_next[j] = through_gates[j];                    // wrong
dh_next[j] = through_gates[j] + dh[j] * z[t][j];  // right, for h = (1 − z) n + z h_before
```

## How it shows

The output layer is exact, T = 1 agrees, all of the cell is wrong from T = 2 on, and much: with small
weights the direct path, about ½ a step, is nearly all that there is.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
assert Wrong(scale=0.05).discrepancy("W") > 0.05
```

## What looks like it

- [direct_path_only](direct-path-only.md) is the other half; it fades as the weights shrink, and this one
  does not.
- [dc_next_missing](dc-next-missing.md) is the same loss in an LSTM.
- Which factor belongs here, z or 1 − z, depends on the convention: see
  [update_gate_term_missing](update-gate-term-missing.md).

## What to change

Add δh times whichever gate value multiplies h_{t−1} in your update.
