"""The numerical gradient is quantised: it was taken with too small a step, so it says nothing.

## How it comes about

A difference of losses is a multiple of the loss's last digit. In float32 a loss of 66 has steps of
7.6 · 10⁻⁶; divided by 2 · 10⁻⁶, each numerical derivative is a multiple of 3.8.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN

network = RNN()


def numerical(step, precision):
    found, U = np.empty_like(network.p["U"]), network.p["U"]
    for place, value in np.ndenumerate(U):
        ends = []
        for U[place] in (value + step, value - step):
            ends.append(float(precision(network.loss(network.forward()))))
        U[place] = value
        found[place] = (ends[0] - ends[1]) / (2 * step)
    return found


wrong = numerical(1e-7, np.float32)
right = numerical(1e-2, np.float32)
```

```cpp
double wrong = (double(lossf(u + 1e-7f)) - lossf(u - 1e-7f)) / 2e-7;  // wrong, in float
double right = (double(lossf(u + 1e-2f)) - lossf(u - 1e-2f)) / 2e-2;  // right
```

## How it shows

The numerical entries take few values, all of them multiples of one number, and many are 0. The
error times the step is constant: ten times the step gives a tenth of the error.

```python
g = network.gradient()["U"]
quantum = np.spacing(np.float32(network.loss(network.forward()))) / 2e-7
assert np.allclose(wrong / quantum, np.round(wrong / quantum))
assert np.linalg.norm(wrong - g) > np.linalg.norm(g)  # nothing but rounding
assert np.linalg.norm(right - g) < 0.01 * np.linalg.norm(g)
```

## What looks like it

- No fault of a backward pass looks like it, since none gives entries on a grid. [zero_gradient] has
  its zeros in the gradient, and this fault in the numerical one.
- The error of too *large* a step is smooth and falls with the square of the step.

## What to change

Take larger steps, sum the loss in float64, or leave both to `tt.check`, which measures the noise
first.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="The numerical gradient is quantised: it was taken with too small a step, so it says "
    "nothing about yours.",
    remedy="Take larger steps, sum the loss in float64, or leave both to tt.check.",
    section=Section.REFUSED,
    place=50,
)
