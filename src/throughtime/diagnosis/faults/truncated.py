"""The backward pass stops after some steps; the loss looks back over all of them.

## How it comes about

This is truncated BPTT, perhaps on purpose: the sequence is cut into windows, and δ is not carried
from one window into the one before; or the window slides, so that the error of every step goes
back for the same number of steps, as with a `bptt_truncate`. The gradient is then not that of the
whole loss, and a check over all T says so.

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

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Carried,
    Intervention,
    Model,
    Mutation,
    in_each_layer,
    mutation,
)

LONGEST = 24  # truncations beyond this many steps are tried at round numbers only


def mutations(model: Model) -> Iterator[Mutation]:
    """Nothing crosses every k-th step, or goes back beyond the last k; or a window slides."""
    T = model.steps
    for k in (n for n in range(1, T) if n <= LONGEST or n % 5 == 0 or n & (n - 1) == 0):
        if k > 1 or model.carries_more:  # in other cells that is `dh_next_missing`
            cut = _cut(lambda t, k=k: (t + 1) % k == 0)
            yield from in_each_layer(model, f"k = {k}", carried=cut)
        if T % k:
            words = f"k = {k}, counted from the end"
            cut = _cut(lambda t, k=k: (T - t - 1) % k == 0)
            yield from in_each_layer(model, words, carried=cut)
        words = f"k = {k}, the last steps alone"
        yield mutation(words, dh=_from(T - k), carried=_cut(lambda t, k=k: t < T - k))
        if k > 1 and model.directions == 1:
            yield mutation(f"k = {k}, a window that slides", windows=_sliding(1, k))
    # Every k1 steps, the errors of the k1 last steps go back together.
    for k1 in range(2, min(T, LONGEST) if model.directions == 1 else 0):
        for k in range(2 * k1, min(T, LONGEST + 1), k1):
            words = f"k = {k}, a window that slides by {k1} steps"
            yield mutation(words, windows=_sliding(k1, k))


def _cut(at: Any) -> Intervention:
    def edit(carried: Carried, t: int, T: int) -> Carried:
        return (0 * carried[0], 0 * carried[1]) if at(t) and t < T - 1 else carried

    return edit


def _sliding(by: int, back: int) -> Intervention:
    """Which steps send and which are not crossed, in as many runs as windows overlap.

    The windows of one run have no step in common, so that what is sent stays in its own.
    """

    def edit(_: Any, T: int) -> list[tuple[Array, Array]]:
        runs: list[tuple[Array, Array]] = []
        ends: list[int] = []
        for end in [*range(by - 1, T - 1, by), T - 1]:
            start = max(0, end - back + 1)
            place = next((k for k, last in enumerate(ends) if last < start), len(ends))
            if place == len(ends):
                runs.append((np.zeros(T), np.zeros(T, bool)))
                ends.append(end)
            sent, cut = runs[place]
            before = end - (end % by if end == T - 1 else by - 1)
            sent[before : end + 1] = 1
            cut[[end, *([start - 1] if start else [])]] = True
            ends[place] = end
        for _sent, cut in runs:
            cut[T - 1] = not cut[T - 1]  # what the last state has of its own belongs to one run
        return runs

    return edit


def _from(first: int) -> Intervention:
    """δh is 0 before step `first`."""
    return lambda dh, t, **_: dh if t >= first else 0 * dh


FAULT = Fault(
    __name__,
    sentence="Your backward pass stops after {k} steps; your loss looks back over all T = {T}.",
    remedy="Carry δ back to the first step, or check the truncated gradient as such, with "
    "tt.frozen.",
    section=Section.NEXT_STEP,
    place=90,
    mutations=mutations,
    rank=200,
)
