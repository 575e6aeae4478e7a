"""The gradient of one gate's bias is a copy of another's.

## How it comes about

The lines were copied and pasted. One of the four lines for the biases, which differ
in one letter, was not changed; the lines for the weights were.

```python
import numpy as np

from throughtime.diagnosis.example_networks import LSTM


class Wrong(LSTM):
    def finished(self, d):
        i, f, a, o = np.split(d["b"], 4)
        return d | {"b": np.concatenate([i, i, a, o])}


class Right(LSTM):
    def finished(self, d):
        i, f, a, o = np.split(d["b"], 4)
        return d | {"b": np.concatenate([i, f, a, o])}
```

```cpp
for (int m = 0; m < H; ++m) db_f[m] += di[m];  // wrong: the line of db_i, pasted
for (int m = 0; m < H; ++m) db_f[m] += df[m];  // right
```

## How it shows

Two blocks of the bias are equal to the last bit; one of them is right. All weights are exact, so it
is easily lost in a comparison over all parameters together.

```python
wrong = Wrong()
assert Right().agrees() and wrong.agrees("W", "U", "V", "d") and not wrong.agrees("b")
i, f, a, o = np.split(wrong.both[0]["b"], 4)
assert np.array_equal(i, f) and not np.allclose(f, np.split(wrong.both[1]["b"], 4)[1])
```

## What looks like it

- [gates_permuted] moves the blocks of the weights too.
- [bias_averaged] has a factor, and its numbers are not those of another block.

## What to change

Hand over this gate's own sum of δz. In a loop over the gates no line can be forgotten.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is a copy of the gradient of {other}.",
    remedy="Return this gate's own sum of δz.",
    section=Section.TENSOR,
    place=80,
)
