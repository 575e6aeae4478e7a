"""What belongs to one of two directions is given to the other.

## How it comes about

The forward pass joins [forwards, backwards], and the backward pass takes δh apart in the other
order. Or the two directions' gradients are returned under each other's names.

```python
from throughtime.diagnosis.example_networks import H, TwoDirections


class Wrong(TwoDirections):
    def apart(self, dseen):
        return dseen[:, :, H:], dseen[:, :, :H]


class Right(TwoDirections):
    def apart(self, dseen):
        return dseen[:, :, :H], dseen[:, :, H:]
```

```cpp
dh_forwards[t][j] = dh_output[t][H + j], dh_backwards[t][j] = dh_output[t][j];  // wrong
dh_forwards[t][j] = dh_output[t][j], dh_backwards[t][j] = dh_output[t][H + j];  // right
```

## How it shows

The output layer is exact; both directions are wrong, at T = 1 too. Where the head has the same
weights for both halves, all is right.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert wrong.agrees("V", "d")
    assert not any(map(wrong.agrees, ["W", "U", "b", "back.W", "back.U", "back.b"]))
alike = Wrong()
alike.p["V"][:, H:] = alike.p["V"][:, :H]
assert alike.agrees()
```

## What looks like it

- [direction_not_reversed] leaves one of the directions right, and agrees at T = 1.
- [gates_permuted] is a wrong order within one direction.

## What to change

Take the two halves apart in the order in which they were joined.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Model,
    Mutation,
    in_each_bidirectional_layer,
    mutation,
    seen_by_head,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """Each direction gets the other's half of δh; or δV multiplies the other's half of h."""
    if model.directions < 2:
        return
    yield from in_each_bidirectional_layer(model, "δh", halves=lambda halves: halves[::-1])
    if model.has_head:
        yield mutation("δV alone", seen=seen_by_head(model, swapped=True))


FAULT = Fault(
    __name__,
    sentence="What belongs to one direction is given to the other: {where}.",
    remedy="Split the two halves in the order in which the forward pass joined them.",
    section=Section.PROJECTION_AND_DIRECTIONS,
    place=40,
    mutations=mutations,
    rank=70,
)
