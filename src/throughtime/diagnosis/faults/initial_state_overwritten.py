"""At the first step the backward pass reads another initial state than the forward pass used.

## How it comes about

The initial state is kept without being copied, as a view of the array that the states are then
written to: what is called h_0 is h_1 by the time the backward pass reads it. So it is where a
forward pass updates its state in place.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        hs = self.h[1:].copy()
        h0 = hs[0]  # a view, and h_1 has been written there
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ (hs[t - 1] if t else h0)
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        hs = self.h[1:].copy()
        h0 = self.h0.copy()  # an array of its own, made before the first step
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ (hs[t - 1] if t else h0)
        d["b"] += dz.sum(axis=0)
```

```cpp
dU[j][k] += dz[j] * (t ? h[t - 1][k] : h[0][k]);    // wrong: h[0] holds the first new state
dU[j][k] += dz[j] * (t ? h[t - 1][k] : h_0[k]);     // right
```

## How it shows

Only U is wrong, and by one step's contribution: the residual is δz_1 (h_1 − h_0)ᵀ. Its rows lie in
one space whatever T is, since h_1 is the same in sequences of all lengths.

```python
import numpy as np

wrong = Wrong(B=1)
assert Right().agrees() and wrong.agrees("W", "b", "V", "d") and not wrong.agrees("U")
g, n = wrong.both
h_0, h_1 = wrong.h[0], wrong.h[1]
assert np.linalg.matrix_rank(np.vstack([g["U"] - n["U"], h_1 - h_0]), tol=1e-6) == 1
```

## What looks like it

- [wrapped_initial_state] reads h_T there, which is another array at each T; at T = 1 the two are
  the same.
- [current_h_for_previous] errs at every step; at T = 1 it is the same too.
- [state_carried] begins the forward pass itself with another state.

## What to change

Copy the initial state where it is kept: `self.h0 = h0.copy()`.
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
)


def mutations(model: Model) -> Iterator[Mutation]:
    """The first state at the first step, for the one before it."""
    if model.steps > 1:
        edit: Intervention = lambda h, states: np.concatenate([states[1:2], h[1:]])  # noqa: E731
        yield from in_each_layer(model, h_before=edit)


FAULT = Fault(
    __name__,
    sentence=(
        "At the first step your backward pass reads another initial state than the forward pass "
        "used: it has been written over."
    ),
    remedy="Copy the initial state where the forward pass keeps it.",
    section=Section.OPERANDS,
    mutations=mutations,
)
