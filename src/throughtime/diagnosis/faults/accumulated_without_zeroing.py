"""The gradient grows with every call: each call adds to the gradient of the previous one.

## How it comes about

The gradients are attributes that are set to 0 only where the network is made. In PyTorch,
`zero_grad` was not called. The first call is right, so a test with one call passes.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def buffers(self):
        if not hasattr(self, "kept"):
            self.kept = {name: np.zeros_like(array) for name, array in self.p.items()}
        return self.kept


class Right(RNN):
    def buffers(self):
        return {name: np.zeros_like(array) for name, array in self.p.items()}
```

```cpp
static Vector sum(H); sum[j] += dz[j];           // wrong: it lives on
Vector own(H); own[j] += dz[j];                  // right: zeros at every call
```

## How it shows

The second call gives twice the gradient of the first, and the third three times. The check calls
twice at one point and refuses.

```python
import throughtime as tt

network = Wrong()
once, twice = (network.gradient()["U"].copy() for _ in range(2))
assert np.allclose(twice, 2 * once)
try:
    tt.check(Wrong().target())
except tt.CheckError as refusal:
    assert "gradient" in str(refusal)
else:
    raise AssertionError
assert Right().agrees()
```

## What looks like it

- [factor_two] looks the same to someone who calls twice and looks at the second result only.
- [random_buffer] differs from call to call without a rule.

## What to change

Set the gradients to 0 before every backward pass, or allocate new ones.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient grows with every call: each call adds to the gradient of the previous "
    "one.",
    remedy="Set the gradients to 0 before every backward pass.",
    section=Section.REFUSED,
    place=30,
)
