"""Derived gradients beside torch's autograd in float64, of the same forward equations."""

import types

import numpy as np
import pytest

from derived_cells import BUILT_IN, CELLS, made, parameters

torch = pytest.importorskip("torch", reason="torch is not installed")

DEFINED = {**CELLS, **{name: derived.definition for name, (derived, _) in BUILT_IN.items()}}


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


@pytest.mark.parametrize("name", DEFINED)
def test_every_gradient_is_autograds(name):
    steps, batch = 5, 3
    cell = made(DEFINED[name])
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
    step, loss, ends, y = in_torch(cell.definition), 0.0, [], np.empty_like(outputs)
    for b in range(batch):
        state = [a[b].reshape(s) for a, s in zip(first.values(), shapes, strict=True)]
        for t in range(steps):
            after = step(x[t, b], *state, *leaves.values())
            state = list(after) if isinstance(after, tuple) else [after]
            y[t, b] = state[0].detach().numpy()
            loss = loss + (state[0] * torch.tensor(doutputs[t, b])).sum()
        ends.append(state)
        for value, d in zip(state, dfinal.values(), strict=True):
            loss = loss + (value.reshape(-1) * torch.tensor(d[b])).sum()
    loss.backward()

    def same(ours, theirs, what):
        theirs = np.zeros_like(ours) if theirs is None else theirs.numpy()
        off = np.linalg.norm(ours - theirs) / (np.linalg.norm(theirs) or 1.0)
        assert off <= 1e-12, (what, off)

    assert np.abs(outputs - y).max() <= 1e-13
    same(found.inputs, x.grad, "x")
    for n in p:
        same(found.parameters[n], leaves[n].grad, n)
    for n in initial:
        same(found.state[n], first[n].grad, n)
