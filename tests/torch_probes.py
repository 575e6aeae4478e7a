"""What people do with a recurrent module of torch's, one probe a line, each beside torch's result.

A probe takes a model, `Net`, or its recurrent module, and returns tensors, numbers or names. It is
given the model with `torch.nn`'s modules, and one whose modules `accelerate` has swapped; both must
give the same. Where ours cannot, `REFUSED` says what it answers instead, in one line.
`python tests/torch_probes.py` prints what each gives.
"""

from __future__ import annotations

import copy
import io
import sys
import warnings
from importlib.util import find_spec

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

T, B, I, H = 5, 3, 4, 6  # noqa: E741
KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


class Net(nn.Module):
    """A recurrent module with a head."""

    def __init__(self, kind="LSTM", **options):
        super().__init__()
        self.rnn = KINDS[kind](I, H, **options)
        self.head = nn.Linear(H * (1 + self.rnn.bidirectional), 2)

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.head(y)


def x_of(seed=1, steps=T, batch=B, dtype=torch.float32):
    """Inputs."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, I, generator=generator, dtype=dtype)


X, Y, LONG = x_of(1), x_of(2), x_of(3, 2 * T, B + 1)


def frozen(model):
    """In evaluation mode, without gradients."""
    return model.eval().requires_grad_(False)


def traced(model, *given, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(model, given or (X,), check_trace=False, **options)


def reloaded(script):
    file = io.BytesIO()
    torch.jit.save(script, file)
    file.seek(0)
    return torch.jit.load(file)


def grads(model, loss):
    model.zero_grad()
    loss.backward()
    return [p.grad for p in model.parameters()]


def onnx(model, given, **options):
    """The graph that torch writes: whether it has inputs, and what it computes."""
    file = io.BytesIO()
    torch.onnx.export(model, (given,), file, input_names=["x"], **options)
    import onnxruntime

    session = onnxruntime.InferenceSession(file.getvalue())
    return torch.from_numpy(session.run(None, {"x": Y.numpy()})[0])


def without_head(f):
    return lambda model: f(model.rnn)


TRACING = {
    "jit.trace": lambda m: traced(frozen(m))(Y),
    "jit.trace with gradients": lambda m: traced(m)(Y),
    "jit.trace of the module itself": lambda m: traced(frozen(m.rnn))(Y),
    "jit.trace, its gradients": lambda m: grads(m, traced(m)(Y).sum()),
    "jit.trace, other sizes": lambda m: traced(frozen(m))(LONG),
    "jit.trace, saved and loaded": lambda m: reloaded(traced(frozen(m)))(Y),
    "jit.trace, checked by torch": lambda m: torch.jit.trace(frozen(m), (X,))(Y),
    "jit.trace of a state": lambda m: traced(frozen(m.rnn), X, (X.new_ones(1, B, H),) * 2)(
        Y, (X.new_zeros(1, B, H),) * 2
    ),
    "make_fx": lambda m: make_fx(frozen(m))(X)(Y),
    "make_fx with gradients": lambda m: make_fx(m)(X)(Y),
    "make_fx, fake": lambda m: make_fx(frozen(m), tracing_mode="fake")(X)(Y),
    "make_fx, symbolic": lambda m: make_fx(frozen(m), tracing_mode="symbolic")(X)(Y),
    "make_fx of gradients": lambda m: make_fx(
        lambda x: torch.autograd.grad(m(x).sum(), [*m.parameters()])
    )(X)(Y),
    "functionalize": lambda m: torch.func.functionalize(frozen(m))(Y),
    "flop counter": lambda m: flops(m),
    "export": lambda m: torch.export.export(frozen(m), (X,)).module()(Y),
    "export, not strict": lambda m: torch.export.export(frozen(m), (X,), strict=False).module()(Y),
    "export, strict": lambda m: torch.export.export(frozen(m), (X,), strict=True).module()(Y),
}


if find_spec("onnxruntime"):
    TRACING["ONNX by tracing"] = lambda m: onnx(frozen(m), X, dynamo=False)


def flops(model):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(Y)
    return counter.get_total_flops()


def backward_of(y, module):
    """The backward pass alone, as a function of the gradient by the outputs."""
    return lambda dy: torch.autograd.grad(y, [*module.parameters()], dy, retain_graph=True)


PROBES = {**TRACING}
REFUSED: dict[str, str] = {}  # what ours do not have: a piece of the one line that says so


def main():
    import throughtime.torch as ours

    for name, probe in PROBES.items():
        if len(sys.argv) > 1 and sys.argv[1] not in name:
            continue
        torch.manual_seed(0)
        theirs = Net()
        mine = copy.deepcopy(theirs)
        ours.accelerate(mine)
        found = []
        for model in (theirs, mine):
            try:
                torch.manual_seed(1)
                found.append(probe(model))
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}"[:160])
        print(name, "|", summary(found[0]), "|", summary(found[1]))


def summary(found):
    if isinstance(found, torch.Tensor):
        return f"{tuple(found.shape)} {found.double().sum().item():.6g}"
    if isinstance(found, list | tuple):
        return [summary(one) for one in found]
    return str(found).replace("\n", " ")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
