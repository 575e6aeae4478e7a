"""The backward pass stops after some steps; the loss looks back over all of them.

## How it comes about

This is truncated BPTT, perhaps on purpose: the sequence is cut into windows, and δ is not carried
from one window into the one before. The gradient is then not that of the whole loss, and a check
over all T says so.

```python
from throughtime.diagnosis.example_networks import RNN

WINDOW = 3


class Wrong(RNN):
    def hand_back(self, t, dz):
        return 0 * dz if t % WINDOW == 0 else dz @ self.p["U"]


class Right(RNN):
    def hand_back(self, t, dz):
        return dz @ self.p["U"]
```

```cpp
for (int t = T - 1; t >= std::max(0, T - 3); --t) back(t);  // wrong, against a loss over all T
for (int t = T - 1; t >= 0; --t) back(t);                   // right
```

## How it shows

Up to T = k everything is right, and beyond it the cell is wrong; the output layer is exact at any
length. The discrepancy is small where the network remembers little beyond k steps.

```python
assert Right().agrees() and Wrong(T=1).agrees() and Wrong(T=3).agrees()
wrong = Wrong(T=4)
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

- Most other faults between steps fail at T = 2 already. With k = 1 this is [dh_next_missing], and
  in an LSTM [dc_next_missing] too.
- What is added to a buffer that is never cleared is right up to T = 2 as well; beyond, parts of the
  gradient count twice, while a truncation counts them not at all.
- Clipping inside the recursion also shows only at long T, but not from a fixed length on.

## What to change

If the truncation is meant, change nothing, and check the gradient as what it is: the exact gradient
of a loss in which the states carried into each window are frozen. `tt.frozen` does that. Otherwise
carry δ on to the first step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    LSTM,
    Carried,
    Intervention,
    Model,
    Mutation,
    mutation,
)

LONGEST = 24  # truncations beyond this many steps are tried at round numbers only


def mutations(model: Model) -> Iterator[Mutation]:
    """Nothing crosses every k-th step; or nothing goes back beyond the last k."""
    T = model.steps
    for k in (n for n in range(1, T) if n <= LONGEST or n % 5 == 0 or n & (n - 1) == 0):
        if k > 1 or isinstance(model.cell, LSTM):  # in other cells that is `dh_next_missing`
            yield mutation(f"k = {k}", carried=_cut(lambda t, k=k: (t + 1) % k == 0))
        if T % k:
            words = f"k = {k}, counted from the end"
            yield mutation(words, carried=_cut(lambda t, k=k: (T - t - 1) % k == 0))
        words = f"k = {k}, the last steps alone"
        yield mutation(words, dh=_from(T - k), carried=_cut(lambda t, k=k: t < T - k))


def _cut(at: Any) -> Intervention:
    def edit(carried: Carried, t: int, T: int) -> Carried:
        return (0 * carried[0], 0 * carried[1]) if at(t) and t < T - 1 else carried

    return edit


def _from(first: int) -> Intervention:
    """δh is 0 before step `first`."""
    return lambda dh, t, **_: dh if t >= first else 0 * dh


FAULT = Fault(
    __name__,
    sentence="Your backward pass stops after {k} steps; your loss looks back over all T = {T}.",
    remedy="Carry δ on to the first step, or check the truncated gradient as what it is, with "
    "tt.frozen.",
    section=Section.NEXT_STEP,
    place=90,
    mutations=mutations,
    rank=200,
)
