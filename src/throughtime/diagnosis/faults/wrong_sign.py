"""The gradient is minus the gradient of the loss.

## How it comes about

y − p looks as good as p − y, and many derivations begin with "error = target − output". That goes
with an update that *adds*. An update that subtracts then climbs.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        return self.y - softmax(outputs)


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
for (int k = 0; k < O; ++k) dy[t][k] = y[t][k] - p[t][k];  // wrong: this is the way down
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];  // right
```

## How it shows

α = −1 in every tensor, and the discrepancy d is 1, as large as it can be.

```python
assert Right().agrees()
assert all(abs(Wrong().slope(name) + 1) < 1e-6 for name in "WUbVd")
assert Wrong().discrepancy() > 0.999
```

## What looks like it

- A wrong sign in one place alone is another fault: [tensor_scaled] in one tensor, and
  [inside_a_step] inside the cell.
- A factor of −2 or −1/T is two faults at once, of which this is one.

## What to change

Return the gradient, ∂L/∂θ, and subtract in the update. If your program adds its update, hand −g to
the check.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient has the wrong sign: it is minus the gradient of your loss.",
    remedy="Reverse the sign of δ of the output, which should be p − y, or return the "
    "gradient and not the update.",
    section=Section.REDUCTION,
    place=110,
)
