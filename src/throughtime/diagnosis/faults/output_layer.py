"""The gradient of the output layer is wrong already, and with it what goes back from there.

This is a place, not a fault: several faults live there that look alike from outside.

## How it comes about

δ of the outputs is the first thing that a backward pass computes. All that is behind it is linear
in δ and as wrong as it is.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        return (softmax(outputs) - self.y) ** 3  # of nobody's loss


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
dy[t][k] = (p[t][k] - y[t][k]) * std::abs(p[t][k] - y[t][k]);  // wrong
dy[t][k] = p[t][k] - y[t][k];                                  // right
```

## How it shows

The head's own tensors are wrong, at T = 1 too, by no common factor. About the cell nothing is known
as long as δ is wrong.

```python
wrong = Wrong(T=1)
assert Right().agrees() and not any(map(wrong.agrees, wrong.p))
assert wrong.cosine("d") < 0.999
```

## What looks like it

The faults of this place: [different_loss], [softmax_derivative_twice]. Right at T = 1, and so told
apart, are [targets_shifted], [output_gradient_at_every_step], [output_gradient_at_last_step_only]
and [padding_counted]. A common factor has names of its own, from [factor_two] to
[averaged_over_steps].

## What to change

Differentiate the loss by one output y_k by hand, at T = 1, and compare it with your δ number by
number. Then check again: a right head may uncover a wrong cell.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of the output layer is wrong already, and with it what goes back from "
    "there.",
    remedy="Compare δ of the outputs with the derivative of the loss that you return.",
    section=Section.PLACES,
    place=30,
    family=True,
)
