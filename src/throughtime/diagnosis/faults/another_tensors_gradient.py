"""The gradient of one tensor is, bit for bit, the gradient of another one.

## How it comes about

Two entries of the dictionary hold one and the same array, or an array is handed out and its buffer
used again for the next one: by hand, by a compiler that reuses buffers, or by a view that was not
copied. Or the key is wrong in one of two similar lines.

```python
from throughtime.diagnosis.example_networks import TwoLayers


class Wrong(TwoLayers):
    def finished(self, d):
        return d | {"low.U": d["U"]}


class Right(TwoLayers):
    def finished(self, d):
        return d | {"low.U": d["low.U"]}
```

```cpp
double *wrong = dh_next.data();  // the memory of the other one
Vector right = dh_next;          // a copy of its own
```

## How it shows

Two tensors have the same gradient to the last bit, and different derivatives. One of them is right.

```python
import numpy as np

wrong = Wrong()
assert Right().agrees() and not wrong.agrees("low.U")
assert wrong.agrees("U", "W", "b", "low.W", "low.b", "V", "d")
assert np.array_equal(wrong.both[0]["low.U"], wrong.both[0]["U"])
assert not np.allclose(wrong.both[1]["low.U"], wrong.both[1]["U"])
```

## What looks like it

- [bias_of_gate_copied] is the same with the biases of two gates of one layer, where one line of
  four was not changed.
- [gates_permuted] has each gradient once, in another place.

## What to change

Give each tensor an array of its own, and copy what is handed out before the buffer is used again.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is, bit for bit, the gradient of {other}.",
    remedy="Give each tensor an array of its own, and copy a buffer before it is used again.",
    section=Section.TENSOR,
    place=85,
)
