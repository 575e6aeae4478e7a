"""The gradient of the input weights multiplies δz_t by the inputs of another step.

## How it comes about

The loop runs backwards, but the inputs do not follow it: they come from an iterator over `xs`, or
`reversed` was applied once too often or not at all.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[self.T - 1 - t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
dW[j][k] += dz[j] * x[T - 1 - t][k];  // wrong
dW[j][k] += dz[j] * x[t][k];          // right
```

## How it shows

W alone is wrong; T = 1 agrees, and so does a sequence that reads the same in both directions.

```python
wrong, palindrome = Wrong(), Wrong(T=5)
palindrome.x[3:] = palindrome.x[1::-1]
assert Right().agrees() and Wrong(T=1).agrees() and palindrome.agrees()
assert wrong.agrees("U", "b", "V", "d") and not wrong.agrees("W")
```

## What looks like it

- [sequences_swapped] shows in W alone too, but also at T = 1, and not with one sequence.
- [targets_shifted] pairs *targets* with the wrong steps, and the head is wrong too.

## What to change

Index the inputs by t, in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation, in_each_layer
from throughtime.network import reverse


def mutations(model: Model) -> Iterator[Mutation]:
    """x in the reverse order of all steps, or of each sequence's own."""
    if model.steps < 2:
        return
    lengths = model.data.lengths
    yield from in_each_layer(model, x=lambda x: x[::-1])
    if (lengths < model.steps).any():
        yield from in_each_layer(model, "within each length", x=lambda x: reverse(x, lengths))


FAULT = Fault(
    __name__,
    sentence="The gradient of the input weights, {where}, multiplies δz_t by the inputs of another "
    "step, as when time is reversed.",
    remedy="Pair each step's δz with that step's own x.",
    section=Section.OPERANDS,
    place=60,
    mutations=mutations,
    rank=310,
)
