"""The gradient of the output layer is already wrong, and so is everything that goes back from it.

This is a place, not a single fault: several faults that look alike from outside occur there.

## How it comes about

δ of the outputs is the first thing that a backward pass computes. Everything after it is linear in
δ, and wrong where δ is wrong.

```python
from throughtime.diagnosis.example_networks import RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        return (softmax(outputs) - self.y) ** 3  # belongs to no loss


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
dy[t][k] = (p[t][k] - y[t][k]) * std::abs(p[t][k] - y[t][k]);  // wrong
dy[t][k] = p[t][k] - y[t][k];                                  // right
```

## How it shows

The head's own tensors are wrong, at T = 1 too, and by no common factor. Nothing can be said about
the cell as long as δ is wrong.

```python
wrong = Wrong(T=1)
assert Right().agrees() and not any(map(wrong.agrees, wrong.p))
assert wrong.cosine("d") < 0.999
```

## What looks like it

The faults of this place are [different_loss] and [softmax_derivative_twice]. Four others are right
at T = 1 and therefore told apart: [targets_shifted], [output_gradient_at_every_step],
[output_gradient_at_last_step_only] and [padding_counted]. Common factors have names of their own,
such as [factor_two] and [averaged_over_steps].

## What to change

At T = 1, differentiate the loss by each output by hand and compare the result with your δ, number
by number. Then check again: once the head is right, a wrong cell may show.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your gradient of the output layer is already wrong, and so is everything that goes "
    "back from it.",
    remedy="Compare δ of the outputs with the derivative of the loss that you return.",
    section=Section.PLACES,
    place=30,
    family=True,
)
