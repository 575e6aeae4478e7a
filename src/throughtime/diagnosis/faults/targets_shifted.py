# targets_shifted

The backward pass compares each output with the target of another step.

## How it comes about

A language model's target is the next input. The shift is made once when the data are cut and once more
in one of the passes, or the loop on the way back counts from another end.

```python
import numpy as np

from throughtime.diagnosis.pages.cells import RNN, softmax


class Wrong(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - np.roll(self.y, -1, axis=0)


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
dy[t][k] = p[t][k] - y[(t + 1) % T][k];  // wrong
dy[t][k] = p[t][k] - y[t][k];            // right
```

## How it shows

Every tensor is wrong, and T = 1 agrees. The head's bias tells: its gradient is Σ (p − y), to which the
order of the targets does not matter where they are only rolled; then it is exact, and V is not.

```python
wrong = Wrong()
assert Right().agrees() and Wrong(T=1).agrees()
assert wrong.agrees("d") and not any(map(wrong.agrees, ["V", "W", "U", "b"]))
```

## What looks like it

- [different_loss](different-loss.md) fails at T = 1.
- [time_reversed](time-reversed.md) pairs *inputs* with the wrong steps: there the head is exact.
- With the same target at every step it hides.

## What to change

Take the same target at step t in both passes; make the shift where the data are cut, and nowhere else.
