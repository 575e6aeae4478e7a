"""The gradient of the recurrent weights multiplies δz_t by h_t; it should be h_{t−1}.

## How it comes about

The list of hidden states begins with h_0 in one program and with h_1 in another, and the loop uses
its own index for the list. Or the forward pass overwrote h, and only its new value is left.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t + 1]  # h_0 is h[0]
        d["b"] += dz.sum(axis=0)


class Right(RNN):
    def accumulate(self, d, t, dz):
        d["W"] += dz.T @ self.x[t]
        d["U"] += dz.T @ self.h[t]
        d["b"] += dz.sum(axis=0)
```

```cpp
dU[j][k] += dz[j] * h[t][k];      // wrong
dU[j][k] += dz[j] * h[t - 1][k];  // right
```

## How it shows

All recurrent weights are wrong, and nothing else: δz is right, and with it W and b. The fault shows
at T = 1, where with a zero initial state the right gradient is 0.

```python
wrong = Wrong()
assert Right().agrees() and wrong.agrees("W", "b", "V", "d") and not wrong.agrees("U")
assert not Wrong(T=1).agrees("U") and not Wrong(T=1, start=0).agrees("U")
```

## What looks like it

- [wrapped_initial_state] errs at the first step alone. At T = 1 the two are the same: h[−1] *is*
  h_1.
- [states_off_by_one] reads one place early, and this fault one place late.
- [gradient_transposed] may show in U alone too, but there the transpose is right.

## What to change

Take the state before the step, δU = Σ_t δz_t h_{t−1}ᵀ, and keep it in the step's own record.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Intervention,
    Model,
    MutantTape,
    Mutation,
    in_each_layer,
    without_candidate,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """h_t for h_{t−1}, in all gates or in one."""
    edit: Intervention = lambda h, states: states[1:]  # noqa: E731
    yield from in_each_layer(model, h_before=edit)
    if alone := without_candidate(model):
        yield from in_each_layer(model, "gates r and z", h_before=edit, **alone)
    gates = model.cell.gates
    for k, gate in enumerate(gates) if len(gates) > 1 else ():
        yield from in_each_layer(model, f"gate {gate}", candidate=partial(_in_gate, k))


def _in_gate(k: int, operands: dict[int, Array], tape: MutantTape, h: Array) -> dict[int, Array]:
    return operands | {k: tape.h[1:]}


FAULT = Fault(
    __name__,
    sentence="The gradient of the recurrent weights, {where}, multiplies δz_t by h_t; it should be "
    "h_{{t−1}}.",
    remedy="Use the state before the step: δU = Σ_t δz_t h_{{t−1}}ᵀ.",
    section=Section.OPERANDS,
    place=10,
    mutations=mutations,
    rank=280,
)
