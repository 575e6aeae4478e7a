"""The cell state's δ lacks what comes back through the peepholes.

## How it comes about

With peepholes the gates see the cell state: i and f see c_{t−1}, o sees c_t. Each of these ways
adds a term, p ⊙ δz, to δc_{t−1} or δc_t. The backward pass is that of an LSTM without peepholes.

```python
import numpy as np

from throughtime.cells import sigmoid
from throughtime.diagnosis.example_networks import LSTM, H


class Peephole(LSTM):  # the output gate sees the cell state before the step
    def __init__(self, T=5, B=2):
        super().__init__(T, B)
        self.p["p"] = 0.7 * np.random.default_rng(1).standard_normal(H)

    def step(self, x):
        super().step(x)
        s, p = self.tape[-1], self.p
        z = x @ p["W"][3 * H :].T + s["h_before"] @ p["U"][3 * H :].T + p["b"][3 * H :]
        s["o"] = sigmoid(z + p["p"] * s["c_before"])
        self.h[-1] = s["o"] * np.tanh(s["c"])

    def back(self, t, dh, dc_next):
        dz, dh_before, dc_before = super().back(t, dh, dc_next)
        self.dz_o = dz[:, 3 * H :]
        return dz, dh_before, self.arrived(dc_before)

    def accumulate(self, d, t, dz):
        super().accumulate(d, t, dz)
        d["p"] += (self.dz_o * self.tape[t]["c_before"]).sum(axis=0)


class Wrong(Peephole):
    def arrived(self, dc_before):
        return dc_before


class Right(Peephole):
    def arrived(self, dc_before):
        return dc_before + self.p["p"] * self.dz_o
```

```cpp
dc_next[j] = dc[j] * f_t[j];                                    // wrong
dc_next[j] = dc[j] * f_t[j] + p_i[j] * di[j] + p_f[j] * df[j];  // right
```

## How it shows

The output layer is exact. A peephole on c_{t−1} shows from T = 2 on; one of o on c_t at T = 1, in
i, f and a. With the peepholes' weights at 0, all agrees.

```python
assert Right().agrees() and Wrong(T=1).agrees()
blind = Wrong()
blind.p["p"][:] = 0
assert Wrong().agrees("V", "d") and not Wrong().agrees("W") and blind.agrees()
```

## What looks like it

- [dc_next_missing] lacks all of δc, and not only this term.

## What to change

Add p_i ⊙ δz_i + p_f ⊙ δz_f to δc_{t−1}, and p_o ⊙ δz_o to δc_t, before δc is used.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    LSTM,
    Model,
    Mutation,
    at_site,
    in_each_layer,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """The terms of the peepholes are left out, all of them or one by one."""
    if not isinstance(model.cell, LSTM) or not model.cell.peepholes:
        return
    before = tuple(("δc_{t−1}", f"term of p_{gate}") for gate in model.cell.gates[:-2])
    now = (("δc", "term of p_o"),)
    for sites in (before + now, before, now, *((site,) for site in before)):
        if sites is not before or len(before) > 1:
            cut = [at_site(of, part, lambda value, _: np.zeros_like(value)) for of, part in sites]
            where = " and ".join(part.removeprefix("term of ") for _, part in sites)
            for one in in_each_layer(model, where):
                yield one.with_places(*(("quantity", edit) for edit in cut))


FAULT = Fault(
    __name__,
    sentence="δ of the cell state lacks what comes back through the peepholes, {where}.",
    remedy="Add p_i ⊙ δz_i + p_f ⊙ δz_f to δc_{{t−1}}, and p_o ⊙ δz_o to δc_t.",
    section=Section.STEP,
    place=50,
    mutations=mutations,
    rank=255,
)
