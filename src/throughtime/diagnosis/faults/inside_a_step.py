# inside_a_step

The backward pass is wrong within a single step.

This is a place, not a fault: several faults live there that look alike from outside.

## How it comes about

A derivative or an operand in the equations of the cell. Some have names; others are as unique as this.

```python
import numpy as np

from throughtime.diagnosis.pages.cells import LSTM


class Wrong(LSTM):
    def cell_delta(self, s, dh, dc_next):
        return dh * s["o"] * (1 - np.tanh(s["c"])) ** 2 + dc_next  # a bracket in the wrong place


class Right(LSTM):
    def cell_delta(self, s, dh, dc_next):
        return dh * s["o"] * (1 - np.tanh(s["c"]) ** 2) + dc_next
```

```cpp
dc[j] = dh[j] * o[t][j] * std::pow(1 - std::tanh(c[t][j]), 2);   // wrong
dc[j] = dh[j] * o[t][j] * (1 - std::pow(std::tanh(c[t][j]), 2)); // right
```

## How it shows

The output layer is exact, and T = 1 is wrong. Which rows are wrong at T = 1 says which gate's equation
to read; here it is all that δc feeds, i, f and a, and not o.

```python
g, n = Wrong(T=1).both
off = ~np.isclose(g["b"], n["b"], rtol=1e-6).reshape(4, -1)
assert Right().agrees() and off[:3].all() and not off[3].any()  # i, f, a, o
assert Wrong().agrees("V", "d")
```

## What looks like it

The faults of this place: [derivative_missing](derivative-missing.md),
[derivative_of_activated_value](derivative-of-activated-value.md),
[gates_swapped_in_dc](gates-swapped-in-dc.md), [current_c_for_previous](current-c-for-previous.md),
[update_gate_term_missing](update-gate-term-missing.md). With `Target(layout=…)` each is computed and
compared. [gates_permuted](gates-permuted.md), [gate_scaled](gate-scaled.md) and
[gradient_transposed](gradient-transposed.md) need no layout.

## What to change

Check at T = 1, with weights of order 1 and an initial state that is not 0, and go through the cell's
equations from the rows that are wrong. `throughtime explain lstm` derives each beside its code.
