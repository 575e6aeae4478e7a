"""An `nn.RNN`, `LSTM` or `GRU` unrolled step by step, whose states are nodes of their own."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn


class Unrolled(nn.Module):
    """Stands in for a module inside a model; after a run `lines` has h and c of every step.

    Lines are the directions of the layers, counted as torch counts its states; of a second
    direction the steps are those of the run too.
    """

    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.lines, self.bidirectional = rnn, [], rnn.bidirectional

    def forward(self, x, state=None):
        rnn, self.lines = self.rnn, []
        x = x.transpose(0, 1) if rnn.batch_first else x
        parts = None if state is None else state if isinstance(state, tuple) else (state,)
        ways = ("", "_reverse") if rnn.bidirectional else ("",)
        finals = []
        for layer in range(rnn.num_layers):
            outputs = []
            for way in ways:
                number = len(self.lines)
                begin = None if parts is None else [part[number] for part in parts]
                steps = x if way == "" else x.flip(0)
                line = steps_of(rnn, f"l{layer}{way}", steps, begin)
                finals.append([part[-1] for part in line.values()])
                if way:
                    line = {name: part[::-1] for name, part in line.items()}
                self.lines.append(line)
                outputs.append(torch.stack(line["h"]))
            x = torch.cat(outputs, dim=2)
        final = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        x = x.transpose(0, 1) if rnn.batch_first else x
        return x, final if isinstance(rnn, nn.LSTM) else final[0]


def steps_of(rnn, name, x, begin):
    """h and c of every step of one layer's direction, nodes of their own; x (T, B, ·)."""
    W, U = (getattr(rnn, f"weight_{kind}_{name}") for kind in ("ih", "hh"))
    none = torch.zeros(len(W), dtype=W.dtype)
    b, b_h = (getattr(rnn, f"bias_{kind}_{name}") if rnn.bias else none for kind in ("ih", "hh"))
    R = getattr(rnn, f"weight_hr_{name}") if getattr(rnn, "proj_size", 0) else None
    blank = (torch.zeros(x.shape[1], n, dtype=W.dtype) for n in (U.shape[1], rnn.hidden_size))
    h, c = blank
    if begin is not None:
        h, c = begin if len(begin) > 1 else (begin[0], c)
    hs, cs = [], []
    for x_t in x:
        left, right = x_t @ W.T + b, h @ U.T + b_h
        if isinstance(rnn, nn.LSTM):
            i, f, a, o = (left + right).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(a)
            h = torch.sigmoid(o) * torch.tanh(c)
            h = h if R is None else h @ R.T
        elif isinstance(rnn, nn.GRU):
            (r, z, n), (u_r, u_z, u_n) = left.chunk(3, dim=1), right.chunk(3, dim=1)
            z = torch.sigmoid(z + u_z)
            h = (1 - z) * torch.tanh(n + torch.sigmoid(r + u_r) * u_n) + z * h
        else:
            h = getattr(torch, rnn.nonlinearity)(left + right)
        hs.append(h)
        cs.append(c)
    return {"h": hs, "c": cs} if isinstance(rnn, nn.LSTM) else {"h": hs}


def run_unrolled(model, name, *inputs):
    """Outputs of a copy of the model whose module `name` is unrolled ("" is the model itself)."""
    twin = copy.deepcopy(model).eval()
    stand_in = Unrolled(twin.get_submodule(name))
    if not name:
        return stand_in(*inputs), stand_in.lines
    parent, _, own = name.rpartition(".")
    setattr(twin.get_submodule(parent), own, stand_in)
    return twin(*inputs), stand_in.lines


def derivatives(losses, lines):
    """∂E/∂s_k of each loss by one call of torch: line, part -> (losses, T, B, ·)."""
    found = [
        {part: np.zeros((len(losses), len(s), *s[0].shape)) for part, s in one.items()}
        for one in lines
    ]
    nodes = [
        (n, part, k) for n, one in enumerate(lines) for part in one for k in range(len(one[part]))
    ]
    tensors = [lines[n][part][k] for n, part, k in nodes]
    for row, loss in enumerate(losses):
        parts = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
        for (n, part, k), gradient in zip(nodes, parts, strict=True):
            if gradient is not None:
                found[n][part][row, k] = gradient.numpy()
    return found


def shared(flow, expected, ends, tolerance=1e-10):
    """Asserts that the flow has these derivatives: line, part -> (losses, T, B, ·), all k.

    `ends`: the row of the flow, which is the step, of each loss, of a second direction's too.
    """
    assert len(flow.layers) == len(expected)
    for number, parts in enumerate(expected):
        layer = flow.layers[number]
        assert set(layer.norms) == set(parts)
        for part, gradient in parts.items():
            steps = gradient.shape[1]
            size = np.abs(gradient).max()
            assert size > 0
            own = np.zeros_like(gradient)
            rows = ends(layer)
            for loss, t in enumerate(rows):
                for k in range(steps):
                    lag = k - t if layer.backwards else t - k
                    behind, before = flow.gradients[number][part], flow.gradients_ahead
                    own[loss, k] = behind[t, lag] if lag >= 0 else before[number][part][t, -1 - lag]
            assert np.abs(own - gradient).max() <= tolerance * size
            norms = np.linalg.norm(gradient, axis=3).mean(axis=2)
            matrix = flow.matrix(part, number)[rows]
            assert np.abs(matrix - norms).max() <= tolerance * norms.max()
