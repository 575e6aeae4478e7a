# update_gate_term_missing

The update gate's δ lacks the term of h_{t−1}.

## How it comes about

h_t = (1 − z) ⊙ n + z ⊙ h_{t−1} has z in two places. One of them is seen: −δh ⊙ n. The same happens with
coupled gates of an LSTM, f = 1 − i, and with a leaky unit whose rate is learnt.

```python
from throughtime.diagnosis.pages.cells import GRU


class Wrong(GRU):
    def update_delta(self, s, dh):
        return -dh * s["n"]


class Right(GRU):
    def update_delta(self, s, dh):
        return dh * (s["h_before"] - s["n"])
```

```cpp
dz_gate[j] = -dh[j] * n[t][j];                       // wrong
dz_gate[j] = dh[j] * (h[t - 1][j] - n[t][j]);        // right
```

## How it shows

At T = 1 the update gate's rows are wrong and all others right, unless the initial state is 0, as it
mostly is: then T = 1 agrees. From T = 2 on all of the cell is wrong.

```python
import numpy as np

g, n = Wrong(T=1).both
off = ~np.isclose(g["b"], n["b"], rtol=1e-6).reshape(3, -1)
assert Right().agrees() and off[1].all() and not off[[0, 2]].any()  # r, z, n
assert Wrong(T=1, start=0).agrees()
assert Wrong(start=0).agrees("V", "d") and not Wrong(start=0).agrees("W")
```

## What looks like it

- With a zero initial state it is a fault between steps like [direct_path_only](direct-path-only.md) and
  [direct_path_missing](direct-path-missing.md). With recurrent weights at 0 and no inputs only the update
  gate's bias is wrong, as it is with [last_cache_at_every_step](last-cache-at-every-step.md): how often it
  counts each step tells these two apart.
- [gate_scaled](gate-scaled.md) keeps the direction within the gate's rows.

## What to change

The update mixes two values; its gate's δ is δh times their difference. With h = (1 − z) h_{t−1} + z n
the difference has the other sign.
