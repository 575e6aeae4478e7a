"""δ of the input gate and δ of the candidate are swapped: each is multiplied by its own value
instead of the other's.

## How it comes about

c = i ⊙ a + … contains a product, and the derivative by one factor is the *other* factor. Going by
the letters, one writes δi = δc ⊙ i.

```python
import numpy as np

from throughtime.diagnosis.example_networks import LSTM


class Wrong(LSTM):
    def gate_deltas(self, s, dh, dc):
        return dc * s["i"], dc * s["c_before"], dc * s["a"], dh * np.tanh(s["c"])


class Right(LSTM):
    def gate_deltas(self, s, dh, dc):
        return dc * s["a"], dc * s["c_before"], dc * s["i"], dh * np.tanh(s["c"])
```

```cpp
di[j] = dc[j] * i[t][j], da[j] = dc[j] * a[t][j];  // wrong
di[j] = dc[j] * a[t][j], da[j] = dc[j] * i[t][j];  // right
```

## How it shows

At T = 1 exactly two gates' rows are wrong, those of i and of a. From T = 2 on U carries the error
into the whole cell.

```python
g, n = Wrong(T=1).both
off = ~np.isclose(g["b"], n["b"], rtol=1e-6).reshape(4, -1)
assert Right().agrees() and off[[0, 2]].all() and not off[[1, 3]].any()  # i, f, a, o
assert Wrong().agrees("V", "d") and not Wrong().agrees("W")
```

## What looks like it

- [gates_permuted] may be wrong in two gates as well, but becomes exact once the blocks change
  places. Here that does not help: a (1 − a²) and i · i (1 − i) belong to no gate.
- [current_c_for_previous] is wrong in the forget gate.

## What to change

Write δi = δc ⊙ a and δa = δc ⊙ i.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    LSTM,
    Intervention,
    Model,
    Mutation,
    at_site,
    in_each_layer,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """δi = δc ⊙ i and δa = δc ⊙ a.

    Where f = 1 − i, the term −δc ⊙ c_{t−1} of the forget gate's share stays with i, or goes along.
    """
    if not isinstance(model.cell, LSTM):
        return
    edit: Intervention = lambda d: d | {"i": d["a"], "a": d["i"]}  # noqa: E731
    if model.cell.coupled:
        i = at_site("δi", "operand", lambda _, known: known("i"))
        a = at_site("δa", "operand", lambda _, known: known("a"))
        for one in in_each_layer(model):
            yield one.with_places(("quantity", i), ("quantity", a))
    yield from in_each_layer(model, "all of δi" if model.cell.coupled else "", dgates=edit)


FAULT = Fault(
    __name__,
    sentence="δ of the input gate and δ of the candidate are swapped, in {where}: each is "
    "multiplied by its own value instead of the other's.",
    remedy="Write δi = δc ⊙ a and δa = δc ⊙ i.",
    section=Section.STEP,
    place=30,
    mutations=mutations,
    rank=250,
)
