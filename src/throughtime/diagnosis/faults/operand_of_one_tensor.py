"""δ is right, but the gradient of one tensor is not: what δ is multiplied by is wrong, or the sum
of the products is.

This is a place, not a single fault: several faults that look alike from outside occur there.

## How it comes about

The gradient of a weight matrix is a sum over the steps of δ times what the matrix was multiplied
with: δW = Σ_t δz_t x_tᵀ, δU = Σ_t δz_t h_{t−1}ᵀ, δV = Σ_t δy_t h_tᵀ. Everything that is handed on
needs δ alone. So a wrong operand, or a sum that loses or repeats a step, harms nothing else.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[max(t - 1, 0)]  # an index that is one too low
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
dW[j][k] += dz[j] * x[t - 1][k];  // wrong
dW[j][k] += dz[j] * x[t][k];      // right
```

## How it shows

One tensor is wrong, or one kind of weights in all gates, and all others agree. Where δ itself were
wrong, the bias beside it would be too, and so would whatever lies below.

```python
wrong = Wrong()
assert Right().agrees() and wrong.agrees("U", "b", "V", "d") and not wrong.agrees("W")
```

## What looks like it

The faults of this place are [current_h_for_previous], [wrapped_initial_state],
[states_off_by_one], [only_last_step_kept], [time_reversed], [sequences_swapped] and
[embedding_rows_counted_once]. [tensor_scaled], [gradient_transposed] and [zero_gradient] are told
apart by their numbers.

## What to change

Leave δ as it is. Go through the one line that computes this tensor's gradient: which step's value
stands there, whether it is added to what was there, and whether it is done at every step. At T = 2
there are two products, which are soon written out by hand.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="δ is right. For the gradient of {where}, either what δ is multiplied by is wrong, or "
    "the way the products are summed.",
    remedy="Look at the line that computes the gradient of {where}: at its operand, the step that "
    "it is taken from, and the sum over the steps.",
    section=Section.PLACES,
    place=25,
    family=True,
)
