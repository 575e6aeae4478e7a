# directions_swapped

What belongs to one of two directions goes to the other.

## How it comes about

The forward pass joins [forwards, backwards]; the backward pass takes δh apart in the other order, or the
gradients are handed over under each other's names.

```python
from throughtime.diagnosis.pages.cells import H, TwoDirections


class Wrong(TwoDirections):
    def apart(self, dseen):
        return dseen[:, :, H:], dseen[:, :, :H]


class Right(TwoDirections):
    def apart(self, dseen):
        return dseen[:, :, :H], dseen[:, :, H:]
```

```cpp
dh_forwards[t][j] = dh_output[t][H + j], dh_backwards[t][j] = dh_output[t][j];  // wrong
dh_forwards[t][j] = dh_output[t][j], dh_backwards[t][j] = dh_output[t][H + j];  // right
```

## How it shows

The output layer is exact; both directions are wrong, at T = 1 too. Where the head has the same weights for
both halves, all is right.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert wrong.agrees("V", "d")
    assert not any(map(wrong.agrees, ["W", "U", "b", "back.W", "back.U", "back.b"]))
alike = Wrong()
alike.p["V"][:, H:] = alike.p["V"][:, :H]
assert alike.agrees()
```

## What looks like it

- [direction_not_reversed](direction-not-reversed.md) leaves one of the directions right, and agrees at T = 1.
- [gates_permuted](gates-permuted.md) is an order within one direction.

## What to change

Take apart what was joined, in the order in which it was joined.
