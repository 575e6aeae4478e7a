# lower_layer_overwritten

The lower layer does not get δ of every step.

## How it comes about

Layers are run one after the other, and δx of the upper one is kept in one variable for all steps; the
lower one then gets what the last iteration left, at one step. With two directions, one's δx may take the
place of the other's: both saw x_t, so that theirs add up.

```python
import numpy as np

from throughtime.diagnosis.pages.cells import TwoLayers


class Wrong(TwoLayers):
    def hand_down(self, dx):
        only = np.zeros_like(dx)
        only[0] = dx[0]  # the loop ended there
        return only


class Right(TwoLayers):
    def hand_down(self, dx):
        return dx
```

```cpp
for (int j = 0; j < H; ++j) dh_lower[0][j] = dx[j];  // wrong: one vector for all steps
for (int j = 0; j < H; ++j) dh_lower[t][j] = dx[j];  // right
```

## How it shows

The head and the upper layer are exact, the lower layer is wrong, and T = 1 agrees. A network of one layer
is right.

```python
wrong = Wrong()
assert Right().agrees() and Wrong(T=1).agrees()
assert wrong.agrees("W", "U", "b", "V", "d")
assert not any(map(wrong.agrees, ["low.W", "low.U", "low.b"]))
```

## What looks like it

- [dh_next_missing](dh-next-missing.md) in the lower layer alone shows in the same tensors. With a layout
  both are computed.
- [direction_not_reversed](direction-not-reversed.md): one of two directions is exact, the other wrong. Each is
  seen through its own half of the output layer's matrix, a layer below through all of it.
- [zero_gradient](zero-gradient.md) if nothing at all is handed down.

## What to change

Hand δx of every step down, each at its own place: an array (T, B, H).
