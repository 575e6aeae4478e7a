"""The backward pass reads every state one place early in a list that begins with h_0.

## How it comes about

h_0 was put in front of the list to mend [wrapped_initial_state], and the indices were left as they
were. Where h_{t−1} is meant, h_{t−2} is read, and at the first step index −1 is h_T again.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t - 1]  # h[0] is h_0
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
dU[j][k] += dz[j] * hs[t - 1][k], dV[m][k] += dy[t][m] * hs[t][k];  // wrong: hs[0] is h_0
dU[j][k] += dz[j] * hs[t][k], dV[m][k] += dy[t][m] * hs[t + 1][k];  // right
```

## How it shows

U is wrong, at T = 1 too, while W and b are exact, since their products contain no state. Where the
head reads the same list by the same index, V is wrong as well, and its bias is exact.

```python
wrong = Wrong()
assert Right().agrees() and wrong.agrees("W", "b", "V", "d")
assert not wrong.agrees("U") and not Wrong(T=1).agrees("U")
```

In an LSTM the list of cell states may be read in the same way, so that c_{t−1} stands for c_t.

## What looks like it

- [current_h_for_previous] reads one place late and not early. At T = 1 it gives the same numbers,
  but V is exact.
- [wrapped_initial_state] is wrong by the first step's term alone.

## What to change

In a list that begins with h_0, h_t is at index t + 1 and h_{t−1} at index t, if steps count from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    LSTM,
    Intervention,
    Model,
    Mutation,
    in_each_layer,
    mutation,
    without_candidate,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """h_{t−2} for h_{t−1}, together with h_{t−1} for h_t in the head, or either alone.

    In an LSTM also c_{t−1} for c_t and c_{t−2} for c_{t−1}, with all of these or some.
    """

    def earlier(first: Any) -> Intervention:
        return lambda h, states: np.concatenate([first(states), h[:-1]])

    firsts = {
        "h_T first": lambda states: states[-1:],
        "h_{T−1} first": lambda states: states[-2:-1],
        "h_0 first": lambda states: states[:1],
    }
    heads: dict[str, Intervention] = {
        "h_0 first in the head": lambda seen, before: before,
        "0 first in the head": lambda seen, before: np.concatenate([0 * seen[:1], seen[:-1]]),
    }
    for words, first in firsts.items():
        for in_head, head in heads.items() if model.has_head else ():
            yield mutation(f"{words}, {in_head}", h_before=earlier(first), seen=head)
        alone = f"{words}, recurrent weights alone"
        yield from in_each_layer(model, alone, h_before=earlier(first))
        if kept := without_candidate(model):
            where = f"{words}, gates r and z alone"
            yield from in_each_layer(model, where, h_before=earlier(first), **kept)
    if model.has_head:
        for in_head, head in heads.items():
            yield mutation(f"{in_head} alone", seen=head)
    early: dict[str, dict[str, Intervention]] = {
        "": {},
        " in the recurrent weights": {"h_before": earlier(firsts["h_T first"])},
    }
    for words, cells in _cells_read_early(model):
        yield from in_each_layer(model, f"{words}, cell states alone", cells=cells)
        for where, more in early.items():
            for in_head, head in heads.items() if model.has_head else ():
                yield mutation(f"{words}, {in_head}{where}", cells=cells, seen=head, **more)


def _cells_read_early(model: Model) -> Iterator[tuple[str, Intervention]]:
    """c_{t−1} for c_t, with either value that may stand in front of c_0."""

    def one_place(first: slice) -> Intervention:
        return lambda c: np.concatenate([c[first], c[:-1]])

    if isinstance(model.cell, LSTM):
        yield "c_T first", one_place(slice(-1, None))
        yield "c_0 first", one_place(slice(0, 1))


FAULT = Fault(
    __name__,
    sentence="Your backward pass reads every state one place early in a list that begins with h_0.",
    remedy="In a list that begins with h_0, h_t is at index t + 1 and h_{{t−1}} at index t.",
    section=Section.OPERANDS,
    place=40,
    mutations=mutations,
    rank=300,
)
