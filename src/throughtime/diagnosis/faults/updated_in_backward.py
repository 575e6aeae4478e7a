"""The backward pass changes the parameters.

## How it comes about

`backward` does what `train` should do: it computes the gradient and applies it. Or a loop updates
each tensor as soon as its gradient is known, so that δ goes on through weights that have changed.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def finished(self, d):
        for name, array in self.p.items():
            array -= 0.1 * d[name]
        return d


class Right(RNN):
    def finished(self, d):
        return d
```

```cpp
for (int k = 0; k < H; ++k) U[j][k] -= rate * dU[j][k];  // wrong: in the backward pass
for (int k = 0; k < H; ++k) U[j][k] -= rate * dU[j][k];  // right: the same, in the update
```

## How it shows

The loss differs before and after the call. The check refuses to compare values that belong to two
points.

```python
import throughtime as tt

network = Wrong()
before = network.loss(network.forward())
network.gradient()
assert network.loss(network.forward()) != before
try:
    tt.check(Wrong().target())
except tt.CheckError as refusal:
    assert "parameters" in str(refusal)
else:
    raise AssertionError
assert Right().agrees() and tt.check(Right().target()).verdict == "agree"
```

## What looks like it

- With [state_carried] the loss differs between two calls although no parameter has changed.
- With [random_buffer] the gradient differs between two calls, but the loss does not.

## What to change

Return the gradient and leave the update to the caller. To keep the program as it is, let the
function that you give to the check save the parameters and restore them afterwards.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your backward pass changes the parameters.",
    remedy="Leave the update to the caller.",
    section=Section.REFUSED,
    place=10,
)
