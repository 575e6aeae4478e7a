"""The gradient of the projection is not Σ δh_t m_tᵀ: it is computed from other values.

## How it comes about

R is multiplied by m = o ⊙ tanh c, which the forward pass overwrites with h = R m or does not keep.
The backward pass then takes what it has: h, or tanh c without the gate. Or δR is formed where δh of
the output is known, but not yet what the next step sends back.

```python
import numpy as np

from throughtime.diagnosis.example_networks import Projected


class Wrong(Projected):
    def operand(self, t):
        return self.h[t + 1]  # projected already


class WithoutGate(Projected):
    def operand(self, t):
        return np.tanh(self.tape[t]["c"])


class Right(Projected):
    def operand(self, t):
        return self.tape[t]["m"]
```

```cpp
dR[k][j] += dh[k] * h[t][j];            // wrong
dR[k][j] += dh[k] * o[t][j] * tanh_c;   // right
```

## How it shows

R alone is wrong, at T = 1 too. Where δR is formed from δh of the output alone, T = 1 agrees.

```python
class OfTheOutputAlone(Projected):
    def arriving(self, dh_output, dh_next):
        self.out = dh_output
        return dh_output + dh_next

    def accumulate(self, d, t, dz):
        self.tape[t]["dh"] = self.out
        super().accumulate(d, t, dz)


assert Right().agrees() and OfTheOutputAlone(T=1).agrees()
for wrong in (Wrong(), WithoutGate(), Wrong(T=1), OfTheOutputAlone()):
    assert wrong.agrees("W", "U", "b", "V", "d") and not wrong.agrees("R")
```

## What looks like it

- In R alone, [tensor_scaled] has the right direction, and [zero_gradient] has none.
- With [gradient_transposed] in R alone, the transpose of the gradient is right.

## What to change

Keep m_t, or compute it again from o_t and c_t, and add δh_t m_tᵀ where δh_t is complete.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    ACTIVATIONS,
    LSTM,
    Intervention,
    Model,
    MutantTape,
    Mutation,
    in_each_layer,
    projection_shape,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """δR is the product of other values than δh_t and m_t."""
    if not model.projected:
        return
    size, units = projection_shape(model)
    cell = model.cell
    assert isinstance(cell, LSTM)

    def without_o(m: Array, tape: MutantTape) -> Array:
        return ACTIVATIONS[cell.squash](tape.c[1:])

    def before(m: Array, tape: MutantTape) -> Array:
        return np.concatenate([0 * m[:1], m[:-1]])

    if size == units:
        already: Intervention = lambda m, tape: tape.h[1:]  # noqa: E731
        yield from in_each_layer(model, "h_t in the place of m_t", m=already)
    yield from in_each_layer(model, "m_t without the output gate", m=without_o)
    if cell.squash != "identity":
        yield from in_each_layer(model, "c_t in the place of m_t", m=lambda m, tape: tape.c[1:])
    if model.steps > 1:
        out: Intervention = lambda dh, out: out  # noqa: E731
        carried: Intervention = lambda dh, out: dh - out  # noqa: E731
        yield from in_each_layer(model, "m of the step before", m=before)
        yield from in_each_layer(model, "δh of the output alone", dh_R=out)
        yield from in_each_layer(model, "δh from the next step alone", dh_R=carried)


FAULT = Fault(
    __name__,
    sentence="The gradient of the projection R is not Σ δh_t m_tᵀ: it has {where}.",
    remedy="Add δh_t m_tᵀ of every step, with all of δh_t and with m_t = o_t ⊙ tanh c_t.",
    section=Section.PROJECTION_AND_DIRECTIONS,
    place=30,
    mutations=mutations,
    rank=110,
)
