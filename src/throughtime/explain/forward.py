"""The forward passes once more, for one sequence, with a hand on every inner value.

They share no code with the cells: plain vectors, one matrix product a gate. Every value is
passed through `nudge(name, t, value)` before it is used, so that a caller can move a single
entry at a single step and see what the loss does. Where a value is used more than once, each
use has a name of its own: moving `"c"` moves c_t for all that read it, moving `"c_in_h"` only
for h_t, `"c_carried"` only for step t + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from throughtime.arrays import Array

Nudge: TypeAlias = Callable[[str, int, Array], Array]
Forward: TypeAlias = Callable[[Mapping[str, Array], Array, Mapping[str, Array], Nudge], Array]


def _sigma(z: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-z))
    return result


def rnn(
    p: Mapping[str, Array], x: Array, state: Mapping[str, Array], nudge: Nudge, *, relu: bool
) -> Array:
    """s_1 … s_T (T, H)."""
    s, outputs = state["h"], []
    for t, x_t in enumerate(x):
        W, U, b = (nudge(name, t, p[name]) for name in ("W", "U", "b"))
        z = nudge("z", t, W @ nudge("x", t, x_t) + U @ nudge("h_before", t, s) + b)
        s = nudge("h", t, np.where(z > 0, z, 0) if relu else np.tanh(z))
        outputs.append(s)
    return np.stack(outputs)


def lstm(p: Mapping[str, Array], x: Array, state: Mapping[str, Array], nudge: Nudge) -> Array:
    """h_1 … h_T (T, H), or (T, P) where `p` has a projection `R`; peepholes where it has `p`."""
    h, c, outputs = state["h"], state["c"], []
    for t, x_t in enumerate(x):
        q = {name: nudge(name, t, p[name]) for name in p}
        W, U, b = (np.split(q[name], 4) for name in ("W", "U", "b"))
        peep = np.split(q["p"], 3) if "p" in q else np.zeros((3, len(c)))
        x_t, h, c = nudge("x", t, x_t), nudge("h_before", t, h), nudge("c_before", t, c)

        h_in = [nudge(f"h_in_{gate}", t, h) for gate in "ifao"]
        wx = [W[k] @ x_t + U[k] @ h_in[k] + b[k] for k in range(4)]
        i = nudge("i", t, _sigma(nudge("z_i", t, wx[0] + peep[0] * nudge("c_in_i", t, c))))
        f = nudge("f", t, _sigma(nudge("z_f", t, wx[1] + peep[1] * nudge("c_in_f", t, c))))
        a = nudge("a", t, np.tanh(nudge("z_a", t, wx[2])))
        c = nudge("c", t, i * a + f * nudge("c_kept", t, c))
        o = nudge("o", t, _sigma(nudge("z_o", t, wx[3] + peep[2] * nudge("c_in_o", t, c))))
        m = nudge("m", t, o * np.tanh(nudge("c_in_h", t, c)))
        h = nudge("h", t, q["R"] @ m if "R" in q else m)
        outputs.append(h)
        c = nudge("c_carried", t, c)
    return np.stack(outputs)


def gru(p: Mapping[str, Array], x: Array, state: Mapping[str, Array], nudge: Nudge) -> Array:
    """h_1 … h_T (T, H); the reset gate acts after the product where `p` has the bias `c`."""
    h, outputs = state["h"], []
    for t, x_t in enumerate(x):
        q = {name: nudge(name, t, p[name]) for name in p}
        W, U, b = (np.split(q[name], 3) for name in ("W", "U", "b"))
        x_t, h = nudge("x", t, x_t), nudge("h_before", t, h)

        h_r, h_z, h_n = (nudge(f"h_in_{gate}", t, h) for gate in "rzn")
        r = nudge("r", t, _sigma(nudge("z_r", t, W[0] @ x_t + b[0] + U[0] @ h_r)))
        z = nudge("z", t, _sigma(nudge("z_z", t, W[1] @ x_t + b[1] + U[1] @ h_z)))
        if "c" in q:
            through_reset = r * nudge("u_n", t, U[2] @ h_n + q["c"])
        else:
            through_reset = U[2] @ nudge("r⊙h", t, r * h_n)
        n = nudge("n", t, np.tanh(nudge("z_n", t, W[2] @ x_t + b[2] + through_reset)))
        h = nudge("h", t, (1 - z) * n + z * nudge("h_leaked", t, h))
        outputs.append(h)
    return np.stack(outputs)
