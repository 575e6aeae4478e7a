"""One gate's gradient is multiplied by a factor, in everything that belongs to the gate.

## How it comes about

Four gates take four nearly equal lines. One of them has a factor that the others lack, applied
where the gate's gradient is handed over.

```python
import numpy as np

from throughtime.diagnosis.example_networks import H, LSTM


class Wrong(LSTM):
    def accumulate(self, d, t, dz):
        i, f, a, o = np.split(dz, 4, axis=1)
        super().accumulate(d, t, np.concatenate([i, 2 * f, a, o], axis=1))


class Right(LSTM):
    def accumulate(self, d, t, dz):
        super().accumulate(d, t, dz)
```

```cpp
for (int k = 0; k < H; ++k) dU[f][k] += 2 * dz[f] * h[t - 1][k];  // wrong, f in H … 2H − 1
for (int k = 0; k < H; ++k) dU[f][k] += dz[f] * h[t - 1][k];      // right
```

## How it shows

α is that factor in the gate's rows of W, U and b, and 1 in the other gates' rows. It shows at T = 1
already.

```python
wrong = Wrong()
assert Right().agrees() and wrong.agrees("V", "d") and not Wrong(T=1).agrees("W", "U", "b")
g, n = wrong.both
for name in ("W", "U", "b"):
    ratio = (g[name] / n[name]).reshape(4, -1).mean(axis=1)
    assert np.allclose(ratio, [1, 2, 1, 1], rtol=1e-6)
```

## What looks like it

- A factor in δz *before* it goes back a step changes every other gate as well, from T = 2 on. This
  fault does not spread.
- [bias_of_gate_copied] and [gates_permuted] put another gate's numbers in the block.
- An RNN has one gate only; there the fault is called [tensor_scaled].

## What to change

Look for the factor in the lines of this gate, and treat the four gates in one expression.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of {where} is {factor} times what it should be, in everything that "
    "belongs to this gate.",
    remedy="Look for a factor of {factor} in this gate's δz.",
    section=Section.TENSOR,
    place=20,
)
