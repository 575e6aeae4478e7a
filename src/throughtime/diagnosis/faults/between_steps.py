"""The backward pass goes wrong from one step to the previous one: what it carries back is lost or
distorted, or what it multiplies by the state before a step is wrong.

This is a place, not a single fault: several faults that look alike from outside occur there.

## How it comes about

On its way from step t + 1 to step t, δh or δc is left out, added twice, multiplied by the wrong
matrix or cut off; or something happens to it that has no name, as in this example. A factor beside
h_{t−1} or c_{t−1}, such as the slope of a forget gate, shows from the second step on as well: at
T = 1 that state is 0.

```python
from throughtime.diagnosis.example_networks import RNN


class Wrong(RNN):
    def hand_back(self, t, dz):
        return 0.9 * (dz @ self.p["U"])  # "so that it does not explode"


class Right(RNN):
    def hand_back(self, t, dz):
        return dz @ self.p["U"]
```

```cpp
for (int k = 0; k < H; ++k) dh_next[k] = std::clamp(arrived[k], -1.0, 1.0);  // wrong: it is cut
for (int k = 0; k < H; ++k) dh_next[k] = arrived[k];                         // right
```

## How it shows

T = 1 agrees, T = 2 does not; the output layer is exact at any length.

```python
assert Right().agrees() and Wrong(T=1).agrees()
wrong = Wrong(T=2)
assert wrong.agrees("V", "d") and not any(map(wrong.agrees, ["W", "U", "b"]))
```

## What looks like it

The faults of this place are [dh_next_missing], [dc_next_missing], [dh_overwritten],
[recurrent_untransposed], [wrong_matrix], [term_counted_twice], [direct_path_only],
[direct_path_missing], [truncated], [only_last_step_kept]; within a step, [derivative_missing] and
[wrong_operand_in_step] of what stands beside the state before. Where the target can be run at other
lengths, the gradient is computed with each of them at points where the network is known, and
compared; with `Target(layout=…)` at the given one too. The place is named where none of them
predicts the gradient.

## What to change

At T = 2, δ is handed back once. Print δh_1 and compare it with (L(h_1 + ε) − L(h_1 − ε)) / 2ε, unit
by unit.
"""

from throughtime.diagnosis.fault import Fault, Section

FAULT = Fault(
    __name__,
    sentence="Your backward pass goes wrong from one step to the previous one: what it carries "
    "back is lost or distorted, or what it multiplies by the state before is wrong.",
    remedy="Compare how δh and δc are handed back, and what stands beside h_{t−1} and c_{t−1}, "
    "with the equations of the cell.",
    section=Section.PLACES,
    place=10,
    family=True,
)
