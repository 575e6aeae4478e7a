"""The gradient is added to a buffer that was not set to 0.

## How it comes about

`np.empty`, `malloc` and `new double[n]` return memory that holds whatever was there before. In the
first run of a small test these are often zeros.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def buffers(self):
        leftovers = np.random.default_rng()  # what np.empty may show, made visible
        return {name: leftovers.standard_normal(array.shape) for name, array in self.p.items()}


class Right(RNN):
    def buffers(self):
        return {name: np.zeros_like(array) for name, array in self.p.items()}
```

```cpp
double* wrong = new double[H];    // wrong: not set to anything
double* right = new double[H]();  // right: zeros
```

## How it shows

Two calls at the same parameters give two different gradients, and neither is right. The check
refuses and says in which tensor they differ.

```python
import throughtime as tt

network = Wrong()
assert not np.array_equal(network.gradient()["U"], network.gradient()["U"])
try:
    tt.check(network.target())
except tt.CheckError as refusal:
    assert "gradient" in str(refusal)
else:
    raise AssertionError
assert Right().agrees()
```

## What looks like it

- [accumulated_without_zeroing] grows by the same gradient at every call: the differences are equal.
- [dropout_mask_redrawn] without a seed makes the *loss* differ too.

## What to change

Set every gradient's buffer to 0 before the backward pass. Valgrind and `-fsanitize=memory` find
memory that is read before it is written.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient differs between two calls: it adds to a buffer that was not set to 0.",
    remedy="Set every gradient's buffer to 0 before the backward pass.",
    section=Section.REFUSED,
    place=20,
)
