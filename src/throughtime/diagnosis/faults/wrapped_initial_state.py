"""At the first step the backward pass reads h at index −1, which is the last state.

## How it comes about

The list begins with h_1 and is read as `hs[t - 1]`. At t = 0 Python counts from the end and
silently gives h_T. In C++ the same index reads whatever lies before the array.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        hs = self.h[1:]  # h_1 … h_T
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ hs[t - 1]
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        hs = self.h[1:]
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ (hs[t - 1] if t else self.h0)
        d["b"] += dz.sum(axis=0)
```

```cpp
dU[j][k] += dz[j] * h[(t + T - 1) % T][k];          // wrong, in a ring of T states
dU[j][k] += dz[j] * (t ? h[t - 1][k] : h_0[k]);     // right
```

## How it shows

Only U is wrong, and by one step's contribution: the residual is δz_1 (h_T − h_0)ᵀ, of rank 1 for a
single sequence. In long sequences this is a small part of the whole gradient.

```python
import numpy as np

wrong = Wrong(B=1)
assert Right().agrees() and wrong.agrees("W", "b", "V", "d") and not wrong.agrees("U")
g, n = wrong.both
assert np.linalg.matrix_rank(g["U"] - n["U"], tol=1e-6) == 1
```

## What looks like it

- [current_h_for_previous] errs at every step; at T = 1 the two faults are the same.
- [initial_state_overwritten] reads h_1 there, which is the same at each T.
- [states_off_by_one] also reads index −1 at the first step, and errs at the others.

## What to change

Put h_0 at the beginning of the list, and read index t for h_{t−1}.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Intervention,
    Model,
    Mutation,
    in_each_layer,
    without_candidate,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """The last state at the first step."""
    edit: Intervention = lambda h, states: np.concatenate([states[-1:], h[1:]])  # noqa: E731
    yield from in_each_layer(model, h_before=edit)
    if alone := without_candidate(model):
        yield from in_each_layer(model, "gates r and z", h_before=edit, **alone)


FAULT = Fault(
    __name__,
    sentence="At the first step your backward pass reads h at index −1, which is the last state.",
    remedy="Use the initial state as h_{{t−1}} at the first step.",
    section=Section.OPERANDS,
    place=30,
    mutations=mutations,
    rank=290,
)
