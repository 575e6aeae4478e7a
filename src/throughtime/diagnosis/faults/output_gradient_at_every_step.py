# output_gradient_at_every_step

The backward pass sends the output's error in at every step; the loss looks at the last one alone.

## How it comes about

A network that reads a sequence and answers at the end, made from one that answers at every step. The
loop on the way back still adds `dy @ V` at each of them.

```python
import numpy as np

from throughtime.diagnosis.pages.cells import RNN


class Last(RNN):
    def loss(self, outputs):
        return ((outputs[-1] - self.y[-1]) ** 2).sum()


class Wrong(Last):
    def output_delta(self, outputs):
        dy = 2 * (outputs[-1] - self.y[-1])
        return np.broadcast_to(dy, outputs.shape)


class Right(Last):
    def output_delta(self, outputs):
        dy = np.zeros_like(outputs)
        dy[-1] = 2 * (outputs[-1] - self.y[-1])
        return dy
```

```cpp
for (int j = 0; j < H; ++j) dh[j] = dh_output[T - 1][j] + dh_next[j];                     // wrong
for (int j = 0; j < H; ++j) dh[j] = (t == T - 1 ? dh_output[t][j] : 0.0) + dh_next[j];    // right
```

## How it shows

T = 1 agrees. Beyond, the head's bias is T times too large where the loop serves the head too, and all
other tensors are wrong by no common factor.

```python
assert Right().agrees() and Wrong(T=1).agrees()
for T in (2, 5):
    wrong = Wrong(T=T)
    assert abs(wrong.slope("d") - T) < 1e-6 and wrong.cosine("d") > 1 - 1e-9
    assert not any(map(wrong.agrees, ["W", "U", "b", "V"]))
```

## What looks like it

- [summed_over_steps](summed-over-steps.md) has α = T in every tensor, with cosine 1.
- [output_gradient_at_last_step_only](output-gradient-at-last-step-only.md) is the reverse.

## What to change

Let δ of the outputs be 0 at every step that the loss does not look at.
