# last_cache_at_every_step

The backward pass uses one step's activations at every step.

## How it comes about

The forward pass leaves its activations in attributes, or in one object that each step fills again. The
list has T entries, and all of them are the same object, filled last by step T.

```python
from throughtime.diagnosis.pages.cells import RNN


class Wrong(RNN):
    def first(self):
        self.cache = {}
        return super().first()

    def keep(self, step):
        self.cache.update(step)
        self.tape.append(self.cache)  # the same object every time


class Right(RNN):
    def keep(self, step):
        self.tape.append(dict(step))
```

```cpp
Step& cache = caches[0]; cache.h = h[t]; tape.push_back(&cache);   // wrong: one object, T pointers
Step& own = caches[t]; own.h = h[t]; tape.push_back(&own);         // right
```

## How it shows

T = 1 agrees. Beyond, all of the cell is wrong, and the head is exact where it has its own record of h.
With one sequence W and U have rank 1: every step has the same x and the same h.

```python
import numpy as np

assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong(B=1)
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
assert np.linalg.matrix_rank(wrong.both[0]["U"], tol=1e-9) == 1
```

## What looks like it

- [only_last_step_kept](only-last-step-kept.md) has rank 1 too, and is exact in b, or in a tensor of
  another line. It ends with the first step's term, this one repeats the last step's activations.
- [dh_next_missing](dh-next-missing.md) and the others between steps have full rank.

## What to change

Give every step an object of its own: append a copy, or index arrays by t.
