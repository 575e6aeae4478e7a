"""The gradient is some factor times the gradient of the loss, in every tensor.

## How it comes about

The units may differ: the derivative of a loss in bits, taken as if it were in nats, is off by ln 2
= 0.693. A loss scale of mixed-precision training that was not divided out is 1024 or 65536. A
learning rate that was multiplied in already may be 0.01.

```python
import numpy as np

from throughtime.diagnosis.example_networks import RNN, softmax


class Bits(RNN):
    def loss(self, outputs):
        return super().loss(outputs) / np.log(2)


class Wrong(Bits):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y


class Right(Bits):
    def output_delta(self, outputs):
        return (softmax(outputs) - self.y) / np.log(2)
```

```cpp
loss -= std::log2(p[t][label]);
for (int k = 0; k < O; ++k) dy[t][k] = p[t][k] - y[t][k];                  // wrong
for (int k = 0; k < O; ++k) dy[t][k] = (p[t][k] - y[t][k]) / std::log(2);  // right
```

## How it shows

α is the same in every tensor, with cosine 1, and no size of the network explains it. It remains the
same at other lengths and other parameters.

```python
assert Right().agrees()
for network in (Wrong(), Wrong(T=1), Wrong(scale=0.3)):
    assert all(abs(network.slope(name) - np.log(2)) < 1e-6 for name in "WUbVd")
```

## What looks like it

- A factor that a size explains has a name of its own: see [averaged_over_steps],
  [divided_by_batch], [divided_by_classes], [factor_two].
- [root_taken] and [clipped_by_norm] change with the parameters.

## What to change

Look for that number between the loss and δ of the outputs: 0.693 is ln 2, 1.443 is its inverse, and
0.4343 comes from a logarithm to base 10.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient is {factor} times the gradient of your loss, in every tensor.",
    remedy="Look for a factor of {factor} between the loss and δ of the output.",
    section=Section.REDUCTION,
    place=120,
)
