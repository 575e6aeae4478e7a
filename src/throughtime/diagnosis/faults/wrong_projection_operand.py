# wrong_projection_operand

The gradient of the projection is not Σ δh_t m_tᵀ: it is made of other values.

## How it comes about

R is multiplied by m = o ⊙ tanh c, which the forward pass overwrites with h = R m, or never keeps: what is
at hand is h, or tanh c without the gate. Or δR is summed up where δh of the output is known and what the
next step sends back is not yet.

```python
import numpy as np

from throughtime.diagnosis.pages.cells import Projected


class Wrong(Projected):
    def operand(self, t):
        return self.h[t + 1]  # projected already


class WithoutGate(Projected):
    def operand(self, t):
        return np.tanh(self.tape[t]["c"])


class Right(Projected):
    def operand(self, t):
        return self.tape[t]["m"]
```

```cpp
dR[k][j] += dh[k] * h[t][j];            // wrong
dR[k][j] += dh[k] * o[t][j] * tanh_c;   // right
```

## How it shows

R alone is wrong, at T = 1 too. With δh of the output alone T = 1 agrees.

```python
class OfTheOutputAlone(Projected):
    def arriving(self, dh_output, dh_next):
        self.out = dh_output
        return dh_output + dh_next

    def accumulate(self, d, t, dz):
        self.tape[t]["dh"] = self.out
        super().accumulate(d, t, dz)


assert Right().agrees() and OfTheOutputAlone(T=1).agrees()
for wrong in (Wrong(), WithoutGate(), Wrong(T=1), OfTheOutputAlone()):
    assert wrong.agrees("W", "U", "b", "V", "d") and not wrong.agrees("R")
```

## What looks like it

- [tensor_scaled](tensor-scaled.md) and [zero_gradient](zero-gradient.md) in R alone have the right
  direction, or none.
- [gradient_transposed](gradient-transposed.md) in R alone: δRᵀ is the numerical gradient.

## What to change

Keep m_t, or form it again from o_t and c_t, and add δh_t m_tᵀ where δh_t is complete.
