"""The two shares of an update gate, z and 1 − z, are swapped in the backward pass.

## How it comes about

One paper writes h_t = z ⊙ h_{t−1} + (1 − z) ⊙ n and another one h_t = (1 − z) ⊙ h_{t−1} + z ⊙ n.
The forward pass follows the one, and the backward pass, or a line of it, the other.

```python
from throughtime.diagnosis.example_networks import GRU


class Wrong(GRU):
    def update_delta(self, s, dh):
        return dh * (s["n"] - s["h_before"])


class Right(GRU):
    def update_delta(self, s, dh):
        return dh * (s["h_before"] - s["n"])
```

```cpp
dz_gate[j] = dh[j] * (n[t][j] - h[t - 1][j]);        // wrong
dz_gate[j] = dh[j] * (h[t - 1][j] - n[t][j]);        // right, with z beside h of the step before
```

## How it shows

The output layer is exact. Where δz has the wrong sign, the update gate's rows are at T = 1 the
negative of what they should be, and all others are right. Where δn is multiplied by z, the rows of
n and r are wrong there. Where the direct path has the wrong share, T = 1 agrees.

```python
import numpy as np

g, n = Wrong(T=1).both
r, z, c = np.split(g["b"] / n["b"], 3)
assert Right().agrees() and np.allclose(z, -1) and np.allclose([r, c], 1)
assert Wrong().agrees("V", "d") and not Wrong().agrees("W")
```

## What looks like it

- [gate_scaled] by −1 has the same gradient at T = 1; beyond, the sign goes back through U_z too.
- [update_gate_term_missing] lacks one of the two values.

## What to change

Derive all three places from the one equation of the forward pass: the share of n in δn, the share
of h_{t−1} in δh_{t−1}, and the sign of δz.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    GRU,
    Model,
    Mutation,
    at_site,
    in_each_layer,
)

SITES = {
    "the sign of δz": at_site("δz", "operand", lambda value, _: -value),
    "the share of n": at_site("δn", "operand", lambda value, _: 1 - value),
    "the share of h_{t−1}": at_site("δh_{t−1}", "share kept", lambda value, _: 1 - value),
}


def mutations(model: Model) -> Iterator[Mutation]:
    """In one, two or all three places."""
    if not isinstance(model.cell, GRU):
        return
    for count in (1, 3, 2):
        for chosen in combinations(SITES, count):
            for one in in_each_layer(model, " and ".join(chosen)):
                yield one.with_places(*(("quantity", SITES[name]) for name in chosen))


FAULT = Fault(
    __name__,
    sentence="The two shares of the update gate, z and 1 − z, are swapped: {where}.",
    remedy="Derive all three places from the equation of the forward pass: δn, δh_{{t−1}} and δz.",
    section=Section.STEP,
    place=45,
    mutations=mutations,
    rank=275,
)
