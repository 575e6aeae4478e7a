# dh_overwritten

δh from the next step takes the place of δh of this step's output; the two should add up.

## How it comes about

`dh` is one variable, filled at the end of step t + 1 and filled again at the beginning of step t: with
`=` in one branch and nothing in the other. The last step, where nothing arrives, is right.

```python
from throughtime.diagnosis.pages.cells import RNN


class Wrong(RNN):
    def arriving(self, dh_output, dh_next):
        return dh_next if dh_next.any() else dh_output


class Right(RNN):
    def arriving(self, dh_output, dh_next):
        return dh_output + dh_next
```

```cpp
for (int j = 0; j < H; ++j) dh[j] = t == T - 1 ? dh_output[t][j] : dh_next[j];  // wrong
for (int j = 0; j < H; ++j) dh[j] = dh_output[t][j] + dh_next[j];               // right
```

## How it shows

The output layer is exact and T = 1 agrees; the cell only learns from the last step's output.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- [output_gradient_at_last_step_only](output-gradient-at-last-step-only.md) sends the cell the very same
  δ, and has the head's gradient wrong too.
- [dh_next_missing](dh-next-missing.md) keeps the other of the two terms.
- A network that answers only at the last step has nothing to overwrite: there this is right.

## What to change

Write `dh = dh_output + dh_next` in one line, with zeros for δh after the last step.
