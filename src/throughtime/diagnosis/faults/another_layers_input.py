"""A layer's weights are given a gradient that is computed with another layer's input.

## How it comes about

The layers' lists have similar names, or one index is wrong: the upper layer's δz is multiplied by
the network's inputs, or by its own state, where the lower layer's output belongs.

```python
from throughtime.diagnosis.example_networks import TwoLayers


class Wrong(TwoLayers):
    def accumulate(self, d, t, dz):
        super().accumulate(d, t, dz)
        step = self.tape[t]
        d["W"] += dz.T @ (step["h_before"] - step["x"])  # its own state in the place of x


class Right(TwoLayers):
    def accumulate(self, d, t, dz):
        super().accumulate(d, t, dz)
```

```cpp
dW[j][k] += dz[j] * h[t - 1][k];   // wrong
dW[j][k] += dz[j] * x[t][k];       // right: the layer's own input
```

## How it shows

One layer's matrix alone is wrong, at every T; its bias is right, so that δz is.

```python
for wrong in (Wrong(), Wrong(T=1)):
    assert not wrong.agrees("W")
    assert wrong.agrees("U", "b", "V", "d", "low.W", "low.U", "low.b")
assert Right().agrees()
```

## What looks like it

- [time_reversed] and [sequences_swapped] pair δz with the layer's own input, of another step or
  sequence. T = 1 and B = 1 agree then.
- [another_layers_matrix] spoils δ of the layer below.

## What to change

Multiply each layer's δz_t by what that layer was given at step t.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import Model, MutantTape, Mutation, mutation


def mutations(model: Model) -> Iterator[Mutation]:
    """x of each layer is replaced by that of another one, or by its own h_{t−1} or h_t."""
    tapes = model.forward().tapes
    for directed, tape in tapes.items():
        others: dict[str, Array] = {}
        for other, theirs in tapes.items():
            if other.layer != directed.layer and other.direction == directed.direction:
                others[f"the inputs of layer {other.layer}"] = theirs.x
                if other.layer > directed.layer:
                    others[f"the states of layer {other.layer}"] = theirs.h[1:]
        others |= {"its own h_{t−1}": tape.h[:-1], "its own h_t": tape.h[1:]}
        words = model.words(*directed)
        for name, array in others.items():
            if array.shape == tape.x.shape:
                where = f"{words}: {name}" if words else name
                edit = partial(_instead, array)
                yield mutation(where, directed.layer, directed.direction, x=edit)
        if tape.h.shape[1:] == tape.x.shape[1:] and len(tape.h) == len(tape.x) + 1:
            for k, gate in enumerate(model.cell.gates if len(model.cell.gates) > 1 else ""):
                name = f"its own h_{{t−1}} in gate {gate}"
                where = f"{words}: {name}" if words else name
                of_gate = partial(_states_in, k)
                yield mutation(where, directed.layer, directed.direction, x_of_gates=of_gate)
        for other, theirs in tapes.items():
            if other.layer != directed.layer and other.direction == directed.direction:
                where = f"{words}: h_{{t−1}} of layer {other.layer} for its own"
                edit = partial(_instead, theirs.h[:-1])
                if theirs.h.shape == tape.h.shape:
                    yield mutation(where, directed.layer, directed.direction, h_before=edit)


def _states_in(k: int, operands: dict[int, Array], tape: MutantTape) -> dict[int, Array]:
    return operands | {k: tape.h[:-1]}


def _instead(other: Array, own: Array, **_: Any) -> Array:
    return other


FAULT = Fault(
    __name__,
    sentence="A layer's δz is multiplied by something other than the layer's own inputs: {where}.",
    remedy="Multiply each layer's δz_t by what that layer itself was given at step t.",
    section=Section.OPERANDS,
    place=80,
    mutations=mutations,
    rank=315,
)
