"""The gates of the gradient are in a different order from those of the parameters.

## How it comes about

There are as many orders as libraries: i f a o in PyTorch, i f o a in some, i a f o in others. The
forward pass splits z in one order, and the backward pass joins δz in another.

```python
import numpy as np

from throughtime.diagnosis.example_networks import LSTM


class Wrong(LSTM):
    def accumulate(self, d, t, dz):
        i, f, a, o = np.split(dz, 4, axis=1)
        super().accumulate(d, t, np.concatenate([i, f, o, a], axis=1))


class Right(LSTM):
    def accumulate(self, d, t, dz):
        i, f, a, o = np.split(dz, 4, axis=1)
        super().accumulate(d, t, np.concatenate([i, f, a, o], axis=1))
```

```cpp
for (int m = 0; m < H; ++m) db[3 * H + m] += da[m], db[2 * H + m] += d_o[m];  // wrong
for (int m = 0; m < H; ++m) db[2 * H + m] += da[m], db[3 * H + m] += d_o[m];  // right: i f a o
```

## How it shows

W, U and b are wrong in the same blocks of rows, and putting those blocks in another order makes all
three exact. It shows at T = 1 already.

```python
wrong = Wrong()
assert Right().agrees() and wrong.agrees("V", "d") and not Wrong(T=1).agrees("W")
g, n = wrong.both
for name in ("W", "U", "b"):
    i, f, o, a = np.split(g[name], 4)
    assert np.allclose(np.concatenate([i, f, a, o]), n[name], rtol=1e-6, atol=1e-8)
```

## What looks like it

- [gates_swapped_in_dc] exchanges i and a *before* their activations' derivatives: no order of the
  blocks makes it right.
- [gate_scaled] leaves each block where it belongs.

## What to change

Name the order once, in one constant, and split and join by it in both passes.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="The gates of your gradient are in a different order from those of your parameters: "
    "{where}.",
    remedy="Put the blocks of δz in the order in which the forward pass uses them.",
    section=Section.TENSOR,
    place=70,
)
