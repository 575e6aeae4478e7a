"""Derived gradients beside torch's autograd in float64, of the same forward equations.

The equations are run with torch's functions in place of NumPy's: nothing here knows a graph.
"""

import types

import numpy as np
import torch

from derived_cells import parameters


def _surrogate(forward, slope):
    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return torch.where(x > 0, 1.0, 0.0).to(x)

        @staticmethod
        def backward(context, dy):
            (x,) = context.saved_tensors
            return dy / (1 + 10 * x.abs()) ** 2

    return Spike.apply


def _maximum(a, b):
    return torch.maximum(a, torch.as_tensor(b, dtype=torch.float64))


# What the steps call, in torch's words.
NUMPY = types.SimpleNamespace(
    split=lambda x, parts: torch.chunk(x, parts),
    tanh=torch.tanh,
    exp=torch.exp,
    sqrt=lambda x: torch.sqrt(torch.as_tensor(x, dtype=torch.float64)),
    cos=torch.cos,
    sin=torch.sin,
    mean=torch.mean,
    var=lambda x: torch.var(x, correction=0),
    sum=torch.sum,
    abs=torch.abs,
    outer=torch.outer,
    maximum=_maximum,
)
THROUGHTIME = types.SimpleNamespace(
    sigmoid=torch.sigmoid,
    relu=torch.relu,
    softplus=torch.nn.functional.softplus,
    softmax=lambda x: torch.softmax(x, -1),
    stop_gradient=lambda x: x.detach(),
)


def in_torch(definition):
    step = definition.step
    words = {**step.__globals__, "np": NUMPY, "tt": THROUGHTIME, "spike": _surrogate(None, None)}
    return types.FunctionType(step.__code__, words, step.__name__, step.__defaults__)


def errors(cell, steps=5, batch=3):
    """‖ours − autograd's‖ / ‖autograd's‖ of the outputs and of every gradient, by name."""
    p, rng = parameters(cell), np.random.default_rng(0)
    inputs = rng.standard_normal((steps, batch, cell.inputs))
    initial = {n: rng.standard_normal((batch, k)) for n, k in cell.state_sizes.items()}
    doutputs = rng.standard_normal((steps, batch, cell.output_size))
    dfinal = {n: rng.standard_normal((batch, k)) for n, k in cell.state_sizes.items()}
    outputs, _, tape = cell.forward(p, inputs, initial)
    found = cell.backward(p, tape, doutputs, dfinal)

    leaves = {n: torch.tensor(a, requires_grad=True) for n, a in p.items()}
    x = torch.tensor(inputs, requires_grad=True)
    first = {n: torch.tensor(a, requires_grad=True) for n, a in initial.items()}
    shapes = [node.shape for node in cell.derivation.trace.states.values()]
    step, loss, y = in_torch(cell.definition), 0.0, np.empty_like(outputs)
    for b in range(batch):
        state = [a[b].reshape(s) for a, s in zip(first.values(), shapes, strict=True)]
        for t in range(steps):
            after = step(x[t, b], *state, *leaves.values())
            state = list(after) if isinstance(after, tuple) else [after]
            y[t, b] = state[0].detach().numpy()
            loss = loss + (state[0] * torch.tensor(doutputs[t, b])).sum()
        for value, d in zip(state, dfinal.values(), strict=True):
            loss = loss + (value.reshape(-1) * torch.tensor(d[b])).sum()
    loss.backward()

    def off(ours, theirs):
        theirs = np.zeros_like(ours) if theirs is None else theirs.numpy()
        return np.linalg.norm(ours - theirs) / (np.linalg.norm(theirs) or 1.0)

    return (
        {"outputs": np.linalg.norm(outputs - y) / np.linalg.norm(y)}
        | {"x": off(found.inputs, x.grad)}
        | {n: off(found.parameters[n], leaves[n].grad) for n in p}
        | {f"initial {n}": off(found.state[n], first[n].grad) for n in initial}
    )
