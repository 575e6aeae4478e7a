"""The backward pass drops different units from the forward pass.

## How it comes about

The mask is drawn where it is used, in both passes, and by then the random generator has moved on.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN


class Dropped(RNN):
    def draw(self, shape):
        return 2.0 * (self.rng.random(shape) > 0.5)

    def see(self, h):
        self.rng = np.random.default_rng(7)  # the same in every run
        self.mask = self.draw(h.shape)
        return h * self.mask


class Wrong(Dropped):
    def see_backward(self, dseen):
        return dseen * self.draw(dseen.shape)


class Right(Dropped):
    def see_backward(self, dseen):
        return dseen * self.mask
```

```cpp
dh[j] = dropped() ? 0.0 : 2 * dh_output[t][j];  // wrong: another draw
dh[j] = mask[t][j] * dh_output[t][j];           // right
```

## How it shows

The head is exact, since its gradient uses the units that it saw. Everything below is wrong, at
every T. With dropout switched off everything agrees.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- Unless every run begins with the same seed, the *loss* differs between two calls, and the check
  reports that first. Give the target a `reset` that seeds the generator.
- [derivative_missing] and other faults inside a step remain at dropout 0.

## What to change

Keep the mask of the forward pass, scaled as it was used, and multiply δ by the same one.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your backward pass drops different units from your forward pass.",
    remedy="Keep the mask of the forward pass and multiply δ by that same mask.",
    section=Section.HEAD_AND_DATA,
    place=70,
)
