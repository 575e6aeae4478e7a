# derivative_of_activated_value

The derivative of an activation is taken at the value already activated.

## How it comes about

A function `tanh_prime(z)` computes 1 − tanh²z and expects z. What the forward pass has kept is
h = tanh z, and the function is called with that: tanh is applied twice.

```python
import numpy as np

from throughtime.diagnosis.pages.cells import RNN


def tanh_prime(z):
    return 1 - np.tanh(z) ** 2


class Wrong(RNN):
    def delta(self, step, dh):
        return dh * tanh_prime(step["h"])  # h is tanh z already


class Right(RNN):
    def delta(self, step, dh):
        return dh * (1 - step["h"] ** 2)
```

```cpp
dz[j] = dh[j] * (1 - std::tanh(h[t][j]) * std::tanh(h[t][j]));  // wrong
dz[j] = dh[j] * (1 - h[t][j] * h[t][j]);                        // right
```

## How it shows

The output layer is exact, the cell is wrong at T = 1 already. With tiny weights it nearly vanishes for
tanh, since tanh z ≈ z there. For σ it never does: σ′(½) is 0.235 where σ′(0) is 0.25.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
assert Wrong(scale=0.01, start=0).discrepancy("W") < 1e-3 < 0.05 < Wrong().discrepancy("W")
```

## What looks like it

- [derivative_missing](derivative-missing.md) has no factor at all. Both are too large in |δ|, and a
  layout tells them apart: with 1 − tanh²h the factor never falls below 0.42.
- [gates_swapped_in_dc](gates-swapped-in-dc.md) shows in two gates at T = 1, this one in those whose
  activation is wrong.

## What to change

Write the derivative in terms of the activated value, a (1 − a) for σ and 1 − a² for tanh, and name the
function after its argument.
