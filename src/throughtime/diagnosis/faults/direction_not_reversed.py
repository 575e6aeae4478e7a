"""What the backward-running direction receives or returns is not reversed in time.

## How it comes about

The forward pass of that direction runs over x reversed, and its h is reversed again before both
directions are joined. The backward pass has to reverse δh on the way in and δx on the way out to
the layer below, and one of these was forgotten. Sequences of different lengths are each reversed
within their own length.

```python
from throughtime.diagnosis.example_networks import TwoDirections


class Wrong(TwoDirections):
    def turned(self, dh):
        return dh


class Right(TwoDirections):
    def turned(self, dh):
        return dh[::-1]
```

```cpp
arrived = dh_backwards[t];          // wrong: step t of that direction is not step t
arrived = dh_backwards[T - 1 - t];  // right
```

## How it shows

The output layer and the forward direction are exact; the direction that runs backwards is wrong,
and T = 1 agrees. Where δx is not reversed, the layer below is wrong, and the layer itself is right.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong()
assert wrong.agrees("V", "d", "W", "U", "b")
assert not any(map(wrong.agrees, ["back.W", "back.U", "back.b"]))
```

## What looks like it

- [time_reversed] pairs the wrong *inputs* with δz, and the input weights alone are wrong.
- [directions_swapped] is wrong in both directions, at T = 1 too.

## What to change

Reverse δh before that direction's backward pass, and reverse its δx afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.diagnosis.fault import Fault, Section
from throughtime.diagnosis.mutants.shared_interventions import (
    Intervention,
    Model,
    Mutation,
    in_each_bidirectional_layer,
    mutation,
    seen_by_head,
)


def mutations(model: Model) -> Iterator[Mutation]:
    """What the backward direction gets or gives stays in the wrong order of time."""
    if model.directions < 2 or model.steps < 2:
        return
    arriving: Intervention = lambda out, in_time: in_time  # noqa: E731
    leaving: Intervention = lambda dx, own: own  # noqa: E731
    yield from in_each_bidirectional_layer(model, "δh of the outputs", own_time=arriving)
    lowest = 0 if model.has_embedding else 1  # the first layer that hands δx down
    if lowest < model.layers:
        yield from in_each_bidirectional_layer(model, "δx", lowest, dx_in_time=leaving)
        both = {"own_time": arriving, "dx_in_time": leaving}
        yield from in_each_bidirectional_layer(model, "δh and δx", lowest, **both)
    if model.has_head:
        yield mutation("δV alone", seen=seen_by_head(model, in_time=False))


FAULT = Fault(
    __name__,
    sentence="What the backward-running direction receives or returns is not reversed in time: "
    "{where}.",
    remedy="Reverse δh on its way into that direction and δx on its way out, as the forward pass "
    "reverses x and h.",
    section=Section.PROJECTION_AND_DIRECTIONS,
    place=50,
    mutations=mutations,
    rank=80,
)
