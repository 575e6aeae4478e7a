"""The backward pass is wrong within a single step.

This is a place, not a single fault: several faults that look alike from outside occur there.

## How it comes about

A derivative or an operand in the equations of the cell is wrong, or in the products that make up
the gradient of a tensor. Some of these faults have names; others, as in this example, have none.

```python
import numpy as np

from throughtime.diagnosis.example_networks import LSTM


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

The output layer is exact, and T = 1 is wrong. The rows that are wrong at T = 1 say which gates'
equations to read. Here they are those of the gates that δc feeds, i, f and a, but not o.

```python
g, n = Wrong(T=1).both
off = ~np.isclose(g["b"], n["b"], rtol=1e-6).reshape(4, -1)
assert Right().agrees() and off[:3].all() and not off[3].any()  # i, f, a, o
assert Wrong().agrees("V", "d")
```

## What looks like it

The faults of this place are [derivative_missing], [derivative_of_activated_value],
[gates_swapped_in_dc], [current_c_for_previous], [update_gate_term_missing]. With `Target(layout=…)`
the gradient is computed with each of them and compared. [gates_permuted], [gate_scaled] and
[gradient_transposed] need no layout.

## What to change

Check at T = 1, with weights of order 1 and an initial state that is not 0, and go through the
cell's equations from the rows that are wrong. `throughtime explain lstm` derives each equation
beside its code.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your backward pass is wrong within a single step, in {where}.",
    remedy="Compare the δ of each gate with the equations of the cell, then what it is multiplied "
    "by for each tensor, and that all sequences are added up.",
    section=Section.PLACES,
    place=20,
    family=True,
)
