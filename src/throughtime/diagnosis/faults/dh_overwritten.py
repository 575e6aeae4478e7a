"""δh from the next step takes the place of δh of this step's output; the two should add up.

## How it comes about

`dh` is one variable. The end of step t + 1 assigns it, and where it is set, step t does not add δh
of its own output. The last step, where nothing arrives, is right.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def arriving(self, dh_output, dh_next):
        return dh_next if dh_next.any() else dh_output


class Right(RNN):
    def arriving(self, dh_output, dh_next):
        return dh_output + dh_next
```

```cpp
for (int j = 0; j < H; ++j) dh[j] = t == T - 1 ? dh_output[t][j] : dh_next[j];  // wrong
for (int j = 0; j < H; ++j) dh[j] = dh_output[t][j] + dh_next[j];               // right
```

## How it shows

The output layer is exact and T = 1 agrees. The cell learns from the last step's output only.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- [output_gradient_at_last_step_only] sends the cell the same δ, but the head's gradient is wrong
  too.
- [dh_next_missing] keeps the other of the two terms.
- A network that answers only at the last step has nothing to overwrite, so there the code is right.

## What to change

Write `dh = dh_output + dh_next` in one line, with zeros for δh after the last step.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, Mutation, in_each_layer


def mutations(model: Model) -> Iterator[Mutation]:
    """δh from step t + 1 replaces that of the output."""
    if model.steps < 2:
        return

    def edit(dh: Array, out: Array, t: int, T: int) -> Array:
        return dh if t == T - 1 else dh - out

    yield from in_each_layer(model, dh=edit)


FAULT = Fault(
    __name__,
    sentence="δh from the next step replaces δh of this step's output; the two should be added.",
    remedy="Write dh = dh_output + dh_next.",
    section=Section.NEXT_STEP,
    place=30,
    mutations=mutations,
    rank=140,
)
