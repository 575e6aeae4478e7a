"""The loss starts from the state in which the previous call ended.

## How it comes about

The network is stateful on purpose: in training, each window begins where the one before ended.
Called twice on the same window it gives two losses, and a numerical derivative means nothing, since
its error grows as 1/step.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def first(self):
        return self.h[-1] if self.h else self.h0


class Right(RNN):
    def first(self):
        return self.h0
```

```cpp
static Vector state(H); run(state);    // wrong: the next call goes on from here
Vector initial = h_0; run(initial);    // right
```

## How it shows

Two losses at the same parameters differ. They may settle after some calls, when the state reaches a
fixed point. The check tells this apart from noise and refuses.

```python
import throughtime as tt

network = Wrong()
assert network.loss(network.forward()) != network.loss(network.forward())
try:
    tt.check(Wrong().target())
except tt.CheckError as refusal:
    assert "reset" in str(refusal)
else:
    raise AssertionError
assert Right().agrees()
```

## What looks like it

- [updated_in_backward] changes the loss by way of the parameters.
- Dropout without a seed never settles.

## What to change

Start every run from the same initial state, or hand a function that puts it back to `tt.Target(...,
reset=...)`.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your loss starts from the state in which the previous call ended.",
    remedy="Start every run from the same initial state; tt.Target takes a `reset` function that "
    "restores it.",
    section=Section.REFUSED,
    place=40,
)
