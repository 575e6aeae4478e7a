"""A network in torch, one sequence at a time and one step at a time, for autograd to differentiate.

It shares nothing with the package: a sequence is run alone over its own length, so that no mask
is needed, and class indices become one-hot vectors.
"""

from __future__ import annotations

import numpy as np
import torch

import throughtime as tt


def leaf(array):
    """A tensor in float64 that torch differentiates by."""
    return torch.tensor(np.asarray(array, np.float64), requires_grad=True)


def run(net, p, x, state, lengths, masks):
    """Outputs (T, B, K) and the final state by name.

    Args:
        net: the layers; their parameters are in `p`, torch tensors by the network's names.
        x: (T, B, I).
        state: initial state by name.
        lengths: steps of each sequence.
        masks: layer number to what a dropout layer multiplies with.
    """
    final = {}
    for number, spec in enumerate(net.specs):
        own = _below(p, f"{number}.")
        if isinstance(spec, tt.Dropout):
            x = x * torch.as_tensor(masks[number])
        elif isinstance(spec, tt.Embedding):
            x = x @ own["E"]
        elif isinstance(spec, tt.Dense):
            x = x @ own["W"].T + own.get("b", 0)
        else:
            x, end = _recurrent(spec, own, x, _below(state, f"{number}."), lengths)
            final |= {f"{number}.{name}": value for name, value in end.items()}
    return x, final


def _recurrent(spec, p, x, state, lengths):
    sides, final = [], {}
    for prefix in ("", "1.") if spec.bidirectional else ("",):
        names = spec.shapes()
        own = {name: p[prefix + name] for name in names}
        columns, ends = [], []
        for b, length in enumerate(lengths):
            steps = range(length) if not prefix else reversed(range(length))
            s = {name: state[prefix + name][b] for name in spec.state_sizes}
            hs = [torch.zeros(spec.output_size, dtype=x.dtype)] * len(x)
            for t in steps:
                s = STEPS[type(spec)](spec, own, x[t, b], s)
                hs[t] = s["h"]
            columns.append(torch.stack(hs))
            ends.append(s)
        sides.append(torch.stack(columns, dim=1))
        for name in spec.state_sizes:
            final[prefix + name] = torch.stack([s[name] for s in ends])
    return torch.cat(sides, dim=2), final


def _rnn(spec, p, x, s):
    squash = torch.tanh if spec.nonlinearity == "tanh" else torch.relu
    return {"h": squash(p["W"] @ x + p["U"] @ s["h"] + p["b"])}


def _lstm(spec, p, x, s):
    H = spec.units
    W, U, b = (p[name].split(H) for name in ("W", "U", "b"))
    z = [W[k] @ x + U[k] @ s["h"] + b[k] for k in range(4)]
    peep = p["p"].split(H) if spec.peepholes else (torch.zeros(H, dtype=x.dtype),) * 3
    i = torch.sigmoid(z[0] + peep[0] * s["c"])
    f = torch.sigmoid(z[1] + peep[1] * s["c"])
    c = f * s["c"] + i * torch.tanh(z[2])
    o = torch.sigmoid(z[3] + peep[2] * c)
    h = o * torch.tanh(c)
    return {"h": p["R"] @ h if spec.projection else h, "c": c}


def _gru(spec, p, x, s):
    H, h = spec.units, s["h"]
    W, U, b = (p[name].split(H) for name in ("W", "U", "b"))
    r = torch.sigmoid(W[0] @ x + U[0] @ h + b[0])
    z = torch.sigmoid(W[1] @ x + U[1] @ h + b[1])
    recurrent = r * (U[2] @ h + p["c"]) if spec.reset_after else U[2] @ (r * h)
    n = torch.tanh(W[2] @ x + b[2] + recurrent)
    return {"h": n + z * (h - n)}


STEPS = {tt.RNN: _rnn, tt.LSTM: _lstm, tt.GRU: _gru}


def _below(named, prefix):
    return {n.removeprefix(prefix): v for n, v in named.items() if n.startswith(prefix)}
