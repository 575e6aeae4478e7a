# direction_not_reversed

What the direction that runs backwards gets or gives is not turned to its own order of time.

## How it comes about

Its forward pass runs over x reversed, and its h is reversed again before both are joined. The backward pass
has to do the same with δh on the way in, and with δx on the way out to the layer below; one of these is
forgotten. With sequences of different lengths each is reversed within its own.

```python
from throughtime.diagnosis.pages.cells import TwoDirections


class Wrong(TwoDirections):
    def turned(self, dh):
        return dh


class Right(TwoDirections):
    def turned(self, dh):
        return dh[::-1]
```

```cpp
arrived = dh_backwards[t];          // wrong: step t of that direction is not step t
arrived = dh_backwards[T - 1 - t];  // right
```

## How it shows

The output layer and the forward direction are exact; the one that runs backwards is wrong, and T = 1 agrees.
With δx it is the layer below that is wrong, and the layer itself is right.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d", "W", "U", "b")
assert not any(map(wrong.agrees, ["back.W", "back.U", "back.b"]))
```

## What looks like it

- [time_reversed](time-reversed.md) pairs the wrong *inputs* with δz: the input weights alone are wrong.
- [directions_swapped](directions-swapped.md) is wrong in both directions, at T = 1 too.

## What to change

Reverse δh before that direction's way back, and its δx after it.
