# output_layer

The gradient of the output layer is wrong already, and with it what goes back from there.

This is a place, not a fault: several faults live there that look alike from outside.

## How it comes about

δ of the outputs is the first thing that a backward pass computes. All that is behind it is linear in δ
and as wrong as it is.

```python
from throughtime.diagnosis.pages.cells import RNN, softmax


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

The head's own tensors are wrong, at T = 1 too, by no common factor. About the cell nothing is known as
long as δ is wrong.

```python
wrong = Wrong(T=1)
assert Right().agrees() and not any(map(wrong.agrees, wrong.p))
assert wrong.cosine("d") < 0.999
```

## What looks like it

The faults of this place: [different_loss](different-loss.md),
[softmax_derivative_twice](softmax-derivative-twice.md). Right at T = 1, and so told apart, are
[targets_shifted](targets-shifted.md),
[output_gradient_at_every_step](output-gradient-at-every-step.md),
[output_gradient_at_last_step_only](output-gradient-at-last-step-only.md) and
[padding_counted](padding-counted.md). A common factor has names of its own, from
[factor_two](factor-two.md) to [averaged_over_steps](averaged-over-steps.md).

## What to change

Differentiate the loss by one output y_k by hand, at T = 1, and compare it with your δ number by number.
Then check again: a right head may uncover a wrong cell.
